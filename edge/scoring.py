"""One machine's scoring at the edge: plain limits beside the model's windows, and what is committed of both.

It runs after the commit and off its path: what it makes goes into the outbox as rows of its own, together with the
state that a restart needs, in one transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from edge.limits import LimitWatch
from edge.settings import Limits
from shared.errors import Rejected
from shared.events import Event
from shared.frames import Kind, Readings, Records, Scores
from shared.loaded import LoadedModel
from shared.packing import Item
from shared.scoring import WindowScoring
from shared.scoring_state import ScoringState

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch of rows: to be committed together, `state` with them."""

    items: tuple[Item, ...]
    state: bytes
    changed: bool  # something that a report should say at once


class MachineScoring(WindowScoring):
    """The scoring state of one machine. Not thread-safe; one caller at a time."""

    def __init__(self, edge: str, machine: str, limits: Mapping[str, Limits], state: bytes | None) -> None:
        super().__init__(edge, machine)
        self._limits = LimitWatch(edge, machine, limits)
        if state is not None:
            try:
                self._kept = ScoringState.decode(state)
            except Rejected as error:
                log.warning("scoring starts afresh", machine=machine, reason=error.reason)
            self._limits.crossed = self._kept.crossed

    def install(self, model: LoadedModel, now_us: int, *, again: bool = False) -> Outcome:
        """Run `model` from the next window on; `again` after a restart, when it is no news."""
        return self._outcome(self.run_model(model, now_us, again=again), changed=True)

    def take(self, readings: Readings) -> Outcome:
        """Rows in order of arrival; what came of them."""
        crossings = self._limits.take(readings)
        scores, events = self.score_rows(readings)
        return self._outcome([*crossings, *events], *scores, changed=bool(crossings or events))

    def _outcome(self, events: list[Event], *scores: Scores, changed: bool) -> Outcome:
        items = [Item(self._machine, Kind.SCORES, part) for part in scores]
        if events:
            records = Records(tuple(event.to_json() for event in events))
            items.append(Item(self._machine, Kind.EVENT, records, urgent=True))
        return Outcome(tuple(items), self._saved(), changed)

    def _saved(self) -> bytes:
        self._kept.crossed = self._limits.crossed
        return self._kept.encode()
