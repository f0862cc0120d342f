"""The loop that scores: beside the commit, off its path, behind a bounded queue."""

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


@dataclass(frozen=True, slots=True)
class TryOut:
    """A model is to score beside the champion, or with None no longer."""

    model: LoadedModel | None


Work = Readings | LoadedModel | TryOut | Maintain

COMMANDED: Final = "command"
MAX_PENDING: Final = 256
"""Outcomes that may wait for their commit."""
AT_ONCE_ROWS: Final = 64
"""A batch up to this size is scored in the event loop: two changes of threads take longer than it does."""


class ScoringLoop:
    """Takes rows and new models in one order, so that a model is swapped between two windows.

    If scoring lags behind by `limit` rows, further rows stay unscored and are counted; none is lost: what commits them
    does not wait for scoring.
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
        self._pending: list[tuple[str, Outcome]] = []
        self._promised: list[asyncio.Future[None]] = []
        self._unkept, self._room = asyncio.Event(), asyncio.Event()
        self._filled = asyncio.Event()
        self._at_work = asyncio.Lock()
        self.unscored_rows = 0
        self._dropped = Counter(
            "im_edge_unscored_rows", "Readings not scored: scoring lags", registry=registry
        )
        self._windows = Counter(
            "im_edge_scored_windows", "Windows that the models were given", registry=registry
        )

    def queue_at_most(self, rows: int) -> None:
        """Let so many rows wait from now on."""
        self._limit = rows

    def offer(self, machine: str, readings: Readings) -> None:
        """Rows that arrived, in the order in which they are committed."""
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

    def try_out(self, machine: str, model: LoadedModel | None) -> None:
        """Let a model score beside the machine's champion, or end that with None."""
        self._queue.append((machine, TryOut(model)))
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

    async def copies(self) -> dict[str, MachineScoring]:
        """Each machine's scoring as it stands, to go on by itself."""
        async with self._at_work:
            return {machine: scoring.copy() for machine, scoring in self._machines.items()}

    async def run(self) -> None:
        """Score for ever, and commit what comes of it beside that: each commit takes what came during the last one."""
        await asyncio.gather(self._score(), self._keep())

    async def _score(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._queue:
                for machine, work in self._batch():
                    await self._work(machine, work)
                    while (
                        len(self._pending) >= MAX_PENDING
                    ):  # the disk is behind: the queue fills, up to its bound
                        self._room.clear()
                        await self._room.wait()

    def _batch(self) -> list[tuple[str, Work]]:
        """Everything queued, rows of a machine joined where no model comes between them."""
        joined: list[tuple[str, list[Readings] | LoadedModel | TryOut | Maintain]] = []
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
        scoring = self._machines[machine]
        if isinstance(work, Readings):
            outcome, cpu = await self._take(machine, work)
        else:
            outcome, cpu = self._change(machine, scoring, work), 0.0
        if outcome.state:
            self._pending.append((machine, outcome))
            self._unkept.set()
        if isinstance(work, Maintain):
            self._promised.append(work.done)
            self._unkept.set()
        if outcome.changed:
            self._on_change()
        if (pause := self._meter.pause(cpu)) > 0:
            await self._clock.sleep(pause)

    async def _take(self, machine: str, rows: Readings) -> tuple[Outcome, float]:
        """Score rows and tell it; before the commit: a disk that is full silences no local alarm."""
        async with self._at_work:
            outcome, cpu = await take_rows(self._machines[machine], rows)
        windows = windows_in(outcome)
        if windows or outcome.changed:
            self._tell(machine)
        if windows:
            self._windows.inc(windows)
            self._meter.scored((self._clock.now_us() - int(rows.arrival_us[-1])) / 1e6)
        return outcome, cpu

    def _change(
        self, machine: str, scoring: MachineScoring, work: LoadedModel | TryOut | Maintain
    ) -> Outcome:
        now_us = self._clock.now_us()
        match work:
            case LoadedModel():
                outcome = scoring.install(work, now_us)
                log.info(
                    "model active", machine=machine, model=work.desired.model, version=work.desired.version
                )
            case TryOut():
                outcome = scoring.try_out(work.model, now_us)
                log.info("model on trial" if work.model else "no model on trial", machine=machine)
            case Maintain():
                outcome = scoring.maintain(work.mode, work.by, now_us)
        self._tell(machine)
        return outcome

    async def _keep(self) -> None:
        """Commit outcomes, in order and as many at once as there are; wait as long as the outbox can't take them."""
        while True:
            await self._unkept.wait()
            self._unkept.clear()
            outcomes, self._pending = self._pending, []
            promised, self._promised = self._promised, []
            self._room.set()
            items = [item for _, outcome in outcomes for item in outcome.items]
            changed = {machine: outcome.state for machine, outcome in outcomes if outcome.state}
            while items or changed:
                try:
                    await self._outbox.append(items, changed)
                except Unavailable as error:
                    await self._clock.sleep(error.retry_after)
                else:
                    self._rows_waiting()
                    break
            for done in promised:
                if not done.done():
                    done.set_result(None)


async def take_rows(scoring: MachineScoring, rows: Readings) -> tuple[Outcome, float]:
    """What came of the rows, and the processor time that it took. Nobody else may use the machine's scoring meanwhile."""
    if len(rows) <= AT_ONCE_ROWS:
        await asyncio.sleep(0)  # let messages in between
        return _take(scoring, rows)
    return await asyncio.to_thread(_take, scoring, rows)


def windows_in(outcome: Outcome) -> int:
    """How many windows it has scores of."""
    return sum(len(item.body) for item in outcome.items if not item.urgent)


def _take(scoring: MachineScoring, rows: Readings) -> tuple[Outcome, float]:
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
