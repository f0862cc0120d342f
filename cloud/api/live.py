"""The live stream: one broadcaster in the process tails the log, and any number of clients are told at their own pace.

No database is read here, and nobody is waited for: the journal keeps the newest rows, each client takes from it what
it has not been told, at most five times a second.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import orjson
import structlog
from numpy.typing import NDArray

from cloud.api.fleet import Fleet, Reported
from cloud.api.journal import Journal
from cloud.api.logic import MachineStatus
from cloud.api.touched import Touched
from shared.clock import Clock
from shared.errors import Rejected, Unavailable
from shared.eventlog import EventLog, Stored
from shared.frame_codec import decode
from shared.frames import Readings, Scores
from shared.names import MACHINE_EVENTS, MODELS, SCORES, SENSOR_READINGS

log = structlog.get_logger()

TOPICS: Final = (SENSOR_READINGS, SCORES, MACHINE_EVENTS, MODELS)
INTERVAL_SECONDS: Final = 0.2
SETTLE_SECONDS: Final = 0.04
"""After a silence: machines that send at the same moment are told in one message, not most of them in the next."""
HEARTBEAT_SECONDS: Final = 2.0
TICK_SECONDS: Final = 0.5
"""How often states are judged anew that change by the passing of time alone."""
MAX_CLIENTS: Final = 64
_RETRY_SECONDS: Final = 1.0


class Broadcaster:
    """Keeps the journal and the machines' statuses current, and wakes the clients when there is news."""

    def __init__(
        self,
        reported: Reported,
        clock: Clock,
        *,
        stale_after: float,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        self.journal = Journal()
        self.touched = Touched()
        self.fleet = Fleet(reported, self.journal, clock, stale_after=stale_after)
        self.clock = clock
        self.sites: dict[str, str] = {}
        """Machine to the site that its newest frame named."""
        self.events_at: dict[str, int] = {}
        """The position in `machine-events` to which clients were or are about to be told."""
        self.closed = False
        self._max_clients = max_clients
        self._clients: set[asyncio.Event] = set()
        self._dirty = True
        self._turn = 0
        self._statuses: dict[str, tuple[int, MachineStatus, orjson.Fragment]] = {}
        reported.changed = self._on_report

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    async def run(self, events: EventLog) -> None:
        """Tail the log from now on, for ever; when cancelled the clients' streams end."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tick(), name="live tick")
                for topic in TOPICS:
                    group.create_task(self._tail(events, topic), name=f"live {topic}")
        finally:
            self.close()

    def close(self) -> None:
        """End every client's stream."""
        self.closed = True
        self._wake()

    @contextmanager
    def join(self, machines: Collection[str] = ()) -> Iterator["Client"]:
        """A place among the clients while the block runs; of these machines (none: of all). Raises Unavailable."""
        if self.closed or len(self._clients) >= self._max_clients:
            raise Unavailable(f"{len(self._clients)} clients are connected already: try again later")
        news = asyncio.Event()
        self._clients.add(news)
        try:
            yield Client(self, frozenset(machines), news)
        finally:
            self._clients.discard(news)

    def take(self, record: Stored) -> None:
        """Bring one record of the log into the journal. Raises Rejected (it can't be read)."""
        if record.topic in {MACHINE_EVENTS, MODELS}:
            self._touch(record, record.key, None)
            if record.topic == MACHINE_EVENTS:
                self.events_at[record.partition] = record.offset
                if not self.fleet.has_edge(record.key):
                    self._dirty |= self.fleet.others.take_event(record.key, record.value)
            self.journal.take_event(record.key, record.value)
            self._wake()
            return
        header, body = decode(record.value)
        self.sites[header.machine] = header.site
        self.fleet.others.take_site(header.machine, header.site)
        match body:
            case Readings():
                self._touch(record, header.machine, body.time_us)
                news = self.journal.take_readings(header.machine, body)
            case Scores():
                self._touch(record, header.machine, body.time_us)
                news = self.journal.take_scores(header.machine, body)
                if not self.fleet.has_edge(header.machine):
                    self.fleet.others.take_scores(header.machine, body)
            case _:
                self._touch(record, header.machine, None)
                news = False  # aggregates replace history
        if news:
            self._dirty = True
            self._wake()

    def _touch(self, record: Stored, machine: str, time_us: NDArray[np.int64] | None) -> None:
        """Answers from the store that are kept must count to this record; of no times: whatever theirs are."""
        span = None if time_us is None or not len(time_us) else (int(time_us.min()), int(time_us.max()))
        self.touched.touch(record.topic, record.partition, record.offset, machine, span)

    def changed(self, turn: int, machines: Collection[str] = ()) -> tuple[int, list[orjson.Fragment]]:
        """The statuses that changed after `turn` (all of them, as of now, after -1), as JSON, and the present turn."""
        if self._dirty or turn < 0:
            self._refresh()
        return self._turn, [
            shown
            for name, (changed, _, shown) in self._statuses.items()
            if changed > turn and (not machines or name in machines)
        ]

    def _refresh(self) -> None:
        """Judge all statuses anew. Their age alone is no change; that it made one stale is."""
        self._dirty = False
        self._turn += 1
        found: dict[str, tuple[int, MachineStatus, orjson.Fragment]] = {}
        for status in self.fleet.statuses():
            before = self._statuses.get(status.machine)
            bare = status.model_copy(update={"data_age_seconds": None})
            same = before is not None and before[1] == bare
            turn = before[0] if before is not None and same else self._turn
            found[status.machine] = turn, bare, orjson.Fragment(status.model_dump_json().encode())
        self._statuses = found

    def _on_report(self, edge: str) -> None:
        # No reason for a message of its own: with reports of every edge each second, readings would wait for their
        # turn. It goes with the next readings, at the latest after the tick.
        self.fleet.seed(edge)
        self._dirty = True

    def _wake(self) -> None:
        for news in self._clients:
            news.set()

    async def _tick(self) -> None:
        while True:
            await self.clock.sleep(TICK_SECONDS)
            if self._clients:
                before = {name: turn for name, (turn, _, _) in self._statuses.items()}
                self._refresh()
                if before != {name: turn for name, (turn, _, _) in self._statuses.items()}:
                    self._wake()

    async def _tail(self, events: EventLog, topic: str) -> None:
        while True:
            try:
                start = await events.end(topic)
                self.touched.begin(topic, start)
                if topic == MACHINE_EVENTS:
                    self.events_at = dict(start)
                async for record in events.read(topic, start, follow=True):
                    try:
                        self.take(record)
                    except Rejected as error:
                        log.debug("not shown live", topic=topic, offset=record.offset, reason=error.reason)
                    await asyncio.sleep(
                        0
                    )  # a page may hold hundreds of frames: others want to run in between
            except Unavailable as error:
                log.debug("the log can't be followed now", topic=topic, why=str(error))
            finally:
                self.touched.lost(topic)
            await self.clock.sleep(_RETRY_SECONDS)


class Client:
    """One connected reader of the live stream."""

    def __init__(self, source: Broadcaster, machines: frozenset[str], news: asyncio.Event) -> None:
        self._source = source
        self._machines = machines
        self._news = news

    async def messages(self) -> AsyncIterator[bytes]:
        """JSON texts: a snapshot, then updates and heartbeats until the broadcaster closes."""
        source = self._source
        cursor = source.journal.cursor()
        turn, statuses = source.changed(-1, self._machines)
        yield self._message("snapshot", machines=statuses, position=source.events_at)
        told = monotonic()
        while True:
            await _until(told + INTERVAL_SECONDS)
            if source.closed:
                return
            self._news.clear()
            turn, statuses = source.changed(turn, self._machines)
            news = source.journal.since(cursor, self._machines)
            cursor = source.journal.cursor()
            if statuses or news:
                body: dict[str, Any] = {"machines": statuses, "readings": news.readings}
                body |= {"scores": news.scores, "events": news.events}
                if news.events:
                    body["position"] = source.events_at
                yield self._message("update", **body, **({"skipped": news.skipped} if news.skipped else {}))
                told = monotonic()
            elif await _set_within(self._news, told + HEARTBEAT_SECONDS):
                await asyncio.sleep(SETTLE_SECONDS)
            else:
                yield self._message("heartbeat")
                told = monotonic()

    def _message(self, kind: str, **more: Any) -> bytes:  # noqa: ANN401 - JSON
        return orjson.dumps({"type": kind, "now_us": self._source.clock.now_us(), **more})


def monotonic() -> float:
    """The event loop's time in seconds."""
    return asyncio.get_running_loop().time()


async def _until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - monotonic()))


async def _set_within(event: asyncio.Event, when: float) -> bool:
    try:
        async with asyncio.timeout_at(when):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
