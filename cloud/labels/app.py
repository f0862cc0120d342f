"""The owner of the topic `verdicts`: takes what people say, tells it as of a time, offers quiet windows.

One instance a plant; writes are fenced by the topic's end.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np
import structlog
from prometheus_client import CollectorRegistry, Counter

from cloud.labels.logic import QUIET_A_WEEK, State, decide, drawn, verdict_id, week_span
from cloud.labels.port import Asked, Given, Quiet, Verdict
from cloud.telemetry.port import TelemetryReader
from shared.clock import Clock
from shared.errors import Conflict, NotFound, Rejected
from shared.event import Event, at
from shared.eventlog import EventLog, Position, Record
from shared.events import parse_event
from shared.frames import ScoreState
from shared.names import VERDICTS

log = structlog.get_logger()

_TRIES: Final = 3
_LOOKS: Final = 200
"""Windows that are looked at for twenty quiet ones; a plant that alarms most of its time offers fewer."""
_WINDOWS: Final = 1000


class Metrics:
    """What was given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.verdicts = Counter("im_verdicts", "verdicts that people gave", ["kind"], registry=registry)


class VerdictBook:
    """The fold of the topic `verdicts`; each look reads on from the last one."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self.state = State()
        self.position: Position = {}

    async def look(self) -> State:
        """Everything to the log's end. Raises Unavailable."""
        if await self._events.end(VERDICTS) != self.position:
            async for stored in self._events.read(VERDICTS, self.position):
                try:
                    self.state.take(parse_event(stored.value))
                except Rejected as error:  # a later release's: what it says is not known here
                    log.warning("an event in the topic verdicts can't be read", problem=error.reason)
                self.position = {**self.position, stored.partition: stored.offset}
        return self.state


class VerdictDesk:
    """Implements `Verdicts`."""

    def __init__(
        self, events: EventLog, store: TelemetryReader, clock: Clock, metrics: Metrics | None = None
    ) -> None:
        self._events, self._store, self._clock, self._metrics = events, store, clock, metrics
        self._book = VerdictBook(events)
        self._one_by_one = asyncio.Lock()

    async def give(self, asked: Asked) -> Given:
        """See the port."""
        known = {series.machine for series in await self._store.series()}
        if asked.machine not in known:
            raise NotFound(f"the store has no readings of a machine {asked.machine[:40]!r}")
        async with self._one_by_one:
            made = await self._write(asked)
            return Given(
                self._book.state.verdicts[verdict_id(asked)], self._book.position, changed=bool(made)
            )

    async def newest(
        self, machine: str, as_of: datetime | None, limit: int, *, all_of_them: bool = False
    ) -> tuple[Sequence[Verdict], Position]:
        """See the port."""
        async with self._one_by_one:
            state = await self._book.look()
            found = state.as_of(as_of, all_of_them=all_of_them)
            mine = [one for one in reversed(found) if machine in ("", one.machine)]
            return mine[:limit], self._book.position

    async def review(self, week: str) -> Sequence[Quiet]:
        """See the port. Windows that somebody judged already stay in the list: it is the same for all who ask."""
        machines = {series.machine for series in await self._store.series()}
        times = {machine: await self._scored(machine, week) for machine in sorted(machines)}
        quiet: list[Quiet] = []
        for looked, window in enumerate(drawn(week, times)):
            if looked == _LOOKS or len(quiet) == QUIET_A_WEEK:
                break
            if await self._is_quiet(window):
                quiet.append(window)
        return quiet

    async def _scored(self, machine: str, week: str) -> tuple[int, int]:
        """From its first to after its last scored window of the week: a young plant's looks aren't spent on empty time."""
        begins, ends = week_span(week)
        first = await self._store.scores(machine, begins, ends, 1)
        last = await self._store.scores(machine, begins, ends, 1, newest=True)
        if not first or not last:
            return begins, begins
        return int(first[0].time_us[0]), int(last[0].time_us[-1]) + 1

    async def _is_quiet(self, window: Quiet) -> bool:
        """Whether it was scored and nothing in it alarmed."""
        parts = await self._store.scores(window.machine, window.from_us, window.to_us, _WINDOWS)
        states = np.concatenate([part.state for part in parts] or [np.zeros(0, np.uint8)])
        judged = states[states != ScoreState.UNSCORED]
        return bool(len(judged)) and bool((judged == ScoreState.NORMAL).all())

    async def _write(self, asked: Asked) -> list[Event]:
        for left in reversed(range(_TRIES)):
            state = await self._book.look()
            made = decide(state, asked, at(self._clock.now_us()))
            try:
                for event in made:
                    record = Record(event.to_json(), id=event.id)
                    await self._events.append(VERDICTS, event.subject, [record], fence=self._book.position)
            except Conflict:
                if not left:
                    raise
                continue
            if made:
                await self._book.look()
                if self._metrics is not None:
                    self._metrics.verdicts.labels(asked.kind.value).inc()
            return made
        return []
