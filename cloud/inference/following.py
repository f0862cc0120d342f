"""Scores of machines with no edge, from the log to the log, as one member of a consumer group.

The order is what keeps it whole: scores and events are durable in the log, then the machine's memory is replaced, and
then its records are acknowledged. Killed between two of these, a successor scores the same records from the same
memory to the same windows; the store takes a window once by its identity. The memory has a revision, so that a
member that lost its turn and does not know it neither overwrites nor goes on from an old one.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from cloud.inference.direct import DirectMachine
from cloud.inference.metrics import Metrics
from cloud.inference.models import Models
from shared.clock import Clock
from shared.errors import Conflict, NotFound, Rejected, Unavailable
from shared.eventlog import Batch, EventLog, Record, Stored, Subscription
from shared.frames import EPOCH_BYTES
from shared.loaded import LoadedModel
from shared.names import MACHINE_EVENTS, SCORES, SENSOR_READINGS, scoring_edge
from shared.nats import ControlPlane
from shared.service import Patience, wait_or_stop

log = structlog.get_logger()

_IDLE_SECONDS: Final = 0.5
_AT_ONCE: Final = 16
_LAG_SECONDS: Final = 5.0


@dataclass(slots=True)
class _Followed:
    """A machine, and the revision of its memory that this member knows."""

    machine: DirectMachine
    revision: int


class Following:
    """The member. `waiting_for` is why nothing moves, "" while it does."""

    def __init__(
        self,
        events: EventLog,
        control: ControlPlane,
        models: Models,
        metrics: Metrics,
        clock: Clock,
        *,
        number: int = 1,
        group: str = "inference",
        fetch_records: int = 256,
        machines: int = 1000,
        recent_rows: int = 4000,
        retry_cap_seconds: float = 5.0,
    ) -> None:
        self._events, self._control, self._models = events, control, models
        self._metrics, self._clock = metrics, clock
        self._edge, self._group = scoring_edge(number), group
        self._fetch_records, self._most, self._recent_rows = fetch_records, machines, recent_rows
        self._patience = Patience(retry_cap_seconds)
        self._assigned: set[str] = set()
        self._loaded = asyncio.Event()
        self._followed: dict[str, _Followed] = {}
        self._full = False
        self._seen: dict[str, int] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    @property
    def waiting_for(self) -> str:
        """Why nothing moves, "" while it does."""
        return self._patience.waiting_for

    async def watch_assignments(self) -> None:
        """Know which machines have an edge, for ever: those are left to it."""
        async for change in self._control.watch_assignments():
            if change is None:
                self._loaded.set()
                continue
            machine, assigned = change
            if assigned is None:
                self._assigned.discard(machine)
            else:
                self._assigned.add(machine)
                self._followed.pop(machine, None)

    async def run(self, stop: asyncio.Event) -> None:
        """Score until `stop`; what was fetched before it is finished and acknowledged."""
        await _either(self._loaded, stop)
        async with self._events.consume((SENSOR_READINGS,), self._group) as subscription:
            while not stop.is_set():
                batch = await self._patience.retried(stop, "log", lambda: self._fetch(subscription))
                if batch is not None and batch.records:
                    await self._take(batch, stop)

    async def watch_lag(self, stop: asyncio.Event) -> None:
        """Keep the lag gauge current, until `stop`."""
        while not await wait_or_stop(stop, _LAG_SECONDS):
            try:
                end = await self._events.end(SENSOR_READINGS)
            except Unavailable as error:
                log.debug("lag can't be measured now", why=str(error))
            else:
                lag = sum(max(0, last - self._seen.get(partition, 0)) for partition, last in end.items())
                self._metrics.lag.set(lag)

    async def _fetch(self, subscription: Subscription) -> Batch:
        return await subscription.fetch(self._fetch_records, _IDLE_SECONDS)

    async def _take(self, batch: Batch, stop: asyncio.Event) -> None:
        """Score the batch's machines and acknowledge it; left alone if told to stop before all are done."""
        by_machine: dict[str, list[Stored]] = {}
        for record in batch.records:
            if record.key not in self._assigned and self._room_for(record.key, by_machine):
                by_machine.setdefault(record.key, []).append(record)
        work = (self._scored(machine, records, stop) for machine, records in by_machine.items())
        if not all(await asyncio.gather(*work)):
            return
        self._metrics.machines.set(sum(each.machine.scored for each in self._followed.values()))
        try:
            await batch.ack()
        except Unavailable as error:
            log.debug("not acknowledged: the records come again and change nothing", why=str(error))
            return
        for record in batch.records:
            self._seen[record.partition] = max(self._seen.get(record.partition, 0), record.offset)

    def _room_for(self, machine: str, now: Mapping[str, object]) -> bool:
        """Whether the machine is among those that are followed, or there is room for it."""
        known = {*self._followed, *now}
        if machine in known or len(known) < self._most:
            return True
        if not self._full:
            log.warning("more machines with no edge than are followed", first=machine, most=self._most)
        self._full = True
        return False

    async def _scored(self, machine: str, records: Sequence[Stored], stop: asyncio.Event) -> bool:
        """Whether the machine's records are done with: scored, in the log, and remembered."""
        async with self._slots:
            more = True
            while more and not stop.is_set():
                try:
                    more = await self._step(machine, records, stop)
                except Conflict:
                    log.info("another member scored this machine: its memory is read again", machine=machine)
                    self._followed.pop(machine, None)
            return not more

    async def _step(self, machine: str, records: Sequence[Stored], stop: asyncio.Event) -> bool:
        """Score what is news of the records; whether that is not all yet. Raises Conflict (the memory is newer)."""
        followed = await self._patience.retried(stop, "memory", lambda: self._current(machine))
        wanted = await self._patience.retried(stop, "champion", lambda: self._wanted(machine))
        if followed is None or wanted is None:
            return True
        made = await asyncio.to_thread(followed.machine.take, records, wanted[0])
        for topic, rows in ((SCORES, made.scores), (MACHINE_EVENTS, made.events)):
            append = _Append(self._events, topic, machine, rows)
            if rows and await self._patience.retried(stop, topic, append) is None:
                return True
        self._metrics.scored.inc(made.windows)
        remembered = await self._patience.retried(stop, "memory", lambda: self._remembered(followed))
        return made.more or remembered is None

    async def _current(self, machine: str) -> _Followed:
        """The machine as its memory has it: what this member holds, unless another wrote since."""
        revision, data = await self._control.scoring_state(machine)
        followed = self._followed.get(machine)
        if followed is None or followed.revision != revision:
            made = DirectMachine(
                self._edge,
                machine,
                os.urandom(EPOCH_BYTES),
                self._clock,
                recent_rows=self._recent_rows,
                memory=data,
            )
            followed = self._followed[machine] = _Followed(made, revision)
        return followed

    async def _wanted(self, machine: str) -> tuple[LoadedModel | None]:
        """The machine's champion, in a tuple: none is an answer too."""
        try:
            return ((await self._models.champion(machine)).model,)
        except NotFound:
            return (None,)
        except Rejected as error:
            log.error("the champion can't be loaded", machine=machine, reason=error.reason)  # noqa: TRY400
            return (None,)

    async def _remembered(self, followed: _Followed) -> bool:
        if followed.machine.scored:
            state = await asyncio.to_thread(followed.machine.memory)
            name = followed.machine.machine
            followed.revision = await self._control.keep_scoring_state(name, state, followed.revision)
        return True


@dataclass(frozen=True, slots=True)
class _Append:
    """Appends rows of a machine to a topic, as often as it is called: their ids and numbers make them the same rows."""

    events: EventLog
    topic: str
    machine: str
    records: Sequence[Record]

    async def __call__(self) -> bool:
        await self.events.append(self.topic, self.machine, self.records)
        return True


async def _either(one: asyncio.Event, other: asyncio.Event) -> None:
    """Return when one of them is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in (one, other)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
