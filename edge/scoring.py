"""One machine's scoring at the edge: plain limits and operating state beside the model's windows, and what is committed.

It runs after the commit and off its path: what it makes goes into the outbox as rows of its own, together with the
state that a restart needs, in one transaction.
"""

import copy
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Final, Self

import structlog

from edge.limits import Crossed, LimitWatch
from edge.operating import OperatingWatch
from edge.settings import Limits, Operating
from edge.shadow import Shadow
from shared.errors import Rejected
from shared.event import Event, at
from shared.frames import Kind, Readings, Records, Scores
from shared.loaded import LoadedModel
from shared.machine_events import MaintenanceEnded, MaintenanceStarted
from shared.packing import Item
from shared.scoring import WindowScoring
from shared.scoring_state import Maintenance, ScoringState

log = structlog.get_logger()

KEEP_RUN_US: Final = 30_000_000
"""A crash costs at most so much of a machine's running time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch of rows: to be committed together, `state` with them; empty where there is nothing new to keep."""

    items: tuple[Item, ...]
    state: bytes
    changed: bool  # something that a report should say at once


class MachineScoring(WindowScoring):
    """The scoring state of one machine. Not thread-safe; one caller at a time."""

    def __init__(
        self,
        edge: str,
        machine: str,
        limits: Mapping[str, Limits],
        state: bytes | None,
        operating: Operating | None = None,
    ) -> None:
        super().__init__(edge, machine)
        self.limits = LimitWatch(edge, machine, limits)
        self.operating = OperatingWatch(edge, machine)
        self.shadow: Shadow | None = None
        self.beside = False
        """Whether this is a copy that watches the machine for now and is forgotten: what it says is kept nowhere."""
        self._kept_operating = 0, 0
        if state is not None:
            try:
                self._resume(ScoringState.decode(state))
            except Rejected as error:
                log.warning("scoring starts afresh", machine=machine, reason=error.reason)
        self._told_operating = operating is not None  # a person's word stands above what a model learnt
        self.operating.learn(None if operating is None else operating.spec())

    def _resume(self, kept: ScoringState) -> None:
        try:
            crossed = {(str(sensor), str(side)): Crossed(*rest) for sensor, side, *rest in kept.crossed}
        except (TypeError, ValueError) as error:
            raise Rejected(f"not a scoring state: {error}") from error
        self.operating.resume(kept.operating)
        self.limits.crossed = crossed
        self._kept = kept

    def install(self, model: LoadedModel, now_us: int, *, again: bool = False) -> Outcome:
        """Run `model` from the next window on; `again` after a restart, when it is no news."""
        if not self._told_operating:
            self.operating.learn(model.manifest.grid_spec().states)
        return self._outcome(self.run_model(model, now_us, again=again), changed=True)

    def try_out(self, model: LoadedModel | None, now_us: int) -> Outcome:
        """Let `model` score beside the champion from the next window on, marked and raising nothing; None ends that."""
        self.shadow = None if model is None else Shadow(self._edge, self._machine, model, self.recent, now_us)
        return self._outcome([], changed=True)

    def copy(self) -> Self:
        """One that goes on from here by itself, with the same model and no trial. Costs some ms."""
        memo: dict[int, Any] = {id(self.shadow): None, id(self.model): self.model}
        made = copy.deepcopy(self, memo)
        made.beside = True
        return made

    def take(self, readings: Readings) -> Outcome:
        """Rows in order of arrival; what came of them. In maintenance mode nothing is raised and nothing returns."""
        over: list[Event] = []
        mode = self.maintenance
        if mode is not None and mode.until_us is not None and len(readings):
            arrived = int(readings.arrival_us[-1])
            if arrived >= mode.until_us:
                over = self._end_maintenance("", mode.until_us)
        crossings = [] if self.maintenance is not None else self.limits.take(readings)
        changes = self.operating.take(readings)
        scores, events = self.score_rows(readings)
        if self.shadow is not None:
            scores = [*scores, *self.shadow.take(readings, scores)]
        raised = [*over, *crossings, *events]
        return self._outcome([*raised, *changes], *scores, changed=bool(raised or changes))

    def maintain(self, mode: Maintenance | None, by: str, now_us: int) -> Outcome:
        """Begin maintenance mode, or end it with None. What is as it was says nothing."""
        events: list[Event] = []
        if mode is None and self.maintenance is not None:
            events = self._end_maintenance(by, now_us)
        elif mode is not None and mode != self.maintenance:
            self._kept.maintenance = mode
            events = [
                MaintenanceStarted(
                    source=f"edge/{self._edge}",
                    subject=self._machine,
                    occurred_at=at(now_us),
                    edge=self._edge,
                    by=by,
                    until=None if mode.until_us is None else at(mode.until_us),
                    why=mode.why,
                )
            ]
        return self._outcome(events, changed=bool(events))

    def _end_maintenance(self, by: str, now_us: int) -> list[Event]:
        self._kept.maintenance = None
        return [
            MaintenanceEnded(
                source=f"edge/{self._edge}",
                subject=self._machine,
                occurred_at=at(now_us),
                edge=self._edge,
                by=by,
            )
        ]

    def _outcome(self, events: list[Event], *scores: Scores, changed: bool) -> Outcome:
        items = [Item(self._machine, Kind.SCORES, part) for part in scores]
        if events:
            records = Records(tuple(event.to_json() for event in events))
            items.append(Item(self._machine, Kind.EVENT, records, urgent=True))
        return Outcome(tuple(items), self._saved() if items or self._is_due() else b"", changed)

    def _is_due(self) -> bool:
        """Whether what the machine ran up meanwhile, or where it went, is worth a commit of its own."""
        run_us, since_us = self._kept_operating
        return self.operating.totals.run_us - run_us >= KEEP_RUN_US or self.operating.since_us != since_us

    def _saved(self) -> bytes:
        self._kept.crossed = [[*key, *astuple(crossed)] for key, crossed in self.limits.crossed.items()]
        self._kept.operating = self.operating.to_json()
        self._kept_operating = self.operating.totals.run_us, self.operating.since_us
        return self._kept.encode()
