"""The loop that scores: after the commit, off its path, behind a bounded queue."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from edge.meter import ScoreMeter
from edge.outbox import Outbox
from edge.scoring import MachineScoring, Outcome
from shared import commands
from shared.clock import Clock
from shared.errors import Rejected, Unavailable
from shared.event import at
from shared.frames import Readings, concat_readings
from shared.loaded import LoadedModel
from shared.scoring_state import Maintenance

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Maintain:
    """Maintenance mode is wanted, or with None no longer; `done` once that is durable."""

    mode: Maintenance | None
    by: str
    done: "asyncio.Future[None]"


Work = Readings | LoadedModel | Maintain

COMMANDED: Final = "command"


class ScoringLoop:
    """Takes committed rows and new models in one order, so that a model is swapped between two windows.

    If scoring lags behind by `limit` rows, further rows stay unscored and are counted; none is lost: they were
    committed before they came here.
    """

    def __init__(
        self,
        outbox: Outbox,
        machines: Mapping[str, MachineScoring],
        clock: Clock,
        registry: CollectorRegistry,
        *,
        limit: int,
        on_change: Callable[[], None],
        rows_waiting: Callable[[], None],
        tell: Callable[[str], None] = lambda _: None,
        budget_s: float = 0.05,
        cpu_share: float = 1.0,
    ) -> None:
        self._outbox, self._machines, self._clock = outbox, machines, clock
        self._limit, self._on_change, self._rows_waiting = limit, on_change, rows_waiting
        self._tell = tell
        self._meter = ScoreMeter(registry, budget_s=budget_s, share=cpu_share)
        self._queue: deque[tuple[str, Work]] = deque()
        self._rows = 0
        self._filled = asyncio.Event()
        self.unscored_rows = 0
        self._dropped = Counter(
            "im_edge_unscored_rows", "Readings not scored: scoring lags", registry=registry
        )
        self._windows = Counter(
            "im_edge_scored_windows", "Windows that the models were given", registry=registry
        )

    def offer(self, machine: str, readings: Readings) -> None:
        """Rows that are committed."""
        if self._rows + len(readings) > self._limit:
            self.unscored_rows += len(readings)
            self._dropped.inc(len(readings))
            return
        self._rows += len(readings)
        self._queue.append((machine, readings))
        self._filled.set()

    def install(self, machine: str, model: LoadedModel) -> None:
        """Swap the machine's model once what is queued before it was scored."""
        self._queue.append((machine, model))
        self._filled.set()

    async def maintain(self, machine: str, mode: Maintenance | None, *, by: str) -> None:
        """Begin the machine's maintenance mode after what is queued, or end it with None; returns once it is durable.

        Raises Rejected for a machine that is not this edge's.
        """
        if machine not in self._machines:
            raise Rejected(f"{machine} is not a machine of this edge")
        done = asyncio.get_running_loop().create_future()
        self._queue.append((machine, Maintain(mode, by, done)))
        self._filled.set()
        await done

    async def run(self) -> None:
        """Score for ever."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                for machine, work in self._batch():
                    await self._work(machine, work)

    def _batch(self) -> list[tuple[str, Work]]:
        """Everything queued, rows of a machine joined where no model comes between them."""
        joined: list[tuple[str, list[Readings] | LoadedModel | Maintain]] = []
        open_: dict[str, list[Readings]] = {}
        while self._queue:
            machine, work = self._queue.popleft()
            if isinstance(work, Readings):
                self._rows -= len(work)
                parts = open_.get(machine)
                if parts is None:
                    parts = open_[machine] = []
                    joined.append((machine, parts))
                parts.append(work)
            else:
                open_.pop(machine, None)
                joined.append((machine, work))
        return [(m, concat_readings(w) if isinstance(w, list) else w) for m, w in joined]

    async def _work(self, machine: str, work: Work) -> None:
        scoring, cpu = self._machines[machine], 0.0
        match work:
            case LoadedModel():
                outcome = scoring.install(work, self._clock.now_us())
                log.info(
                    "model active", machine=machine, model=work.desired.model, version=work.desired.version
                )
            case Maintain():
                outcome = scoring.maintain(work.mode, work.by, self._clock.now_us())
            case Readings():
                outcome, cpu = await asyncio.to_thread(_take, scoring, work)
        windows = sum(len(item.body) for item in outcome.items if not item.urgent)
        if windows or outcome.changed:
            self._tell(machine)  # before the commit: a disk that is full silences no local alarm
        if windows and isinstance(work, Readings):
            self._windows.inc(windows)
            self._meter.scored((self._clock.now_us() - int(work.arrival_us[-1])) / 1e6)
        await self._keep(machine, outcome)
        if isinstance(work, Maintain) and not work.done.done():
            work.done.set_result(None)
        if outcome.changed:
            self._on_change()
        if (pause := self._meter.pause(cpu)) > 0:
            await self._clock.sleep(pause)

    async def _keep(self, machine: str, outcome: Outcome) -> None:
        """Commit until the outbox takes it; meanwhile the queue fills, up to its bound."""
        while outcome.items:
            try:
                await self._outbox.append(outcome.items, {machine: outcome.state})
            except Unavailable as error:
                await self._clock.sleep(error.retry_after)
            else:
                self._rows_waiting()
                return


def _take(scoring: MachineScoring, rows: Readings) -> tuple[Outcome, float]:
    """What came of the rows, and the processor time that it took."""
    began = time.thread_time()
    return scoring.take(rows), time.thread_time() - began


async def obey_maintenance(scorer: ScoringLoop, clock: Clock, wanted: commands.Maintenance) -> str:
    """Carry out the cloud's command; who gave it stands in the command's own record. Raises Rejected."""
    if not wanted.on:
        await scorer.maintain(wanted.machine, None, by=COMMANDED)
        return f"{wanted.machine} is watched again"
    until_us = None if wanted.minutes is None else clock.now_us() + round(wanted.minutes * 60e6)
    await scorer.maintain(wanted.machine, Maintenance(until_us, COMMANDED), by=COMMANDED)
    return f"{wanted.machine} is in maintenance mode" + ("" if until_us is None else f" until {at(until_us)}")
