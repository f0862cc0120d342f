"""The event log's port: ordered, durable records a topic, read by position, by time, or by a group with acks."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit

from shared.errors import Misconfigured
from shared.tls import Certificates

Position = Mapping[str, int]
"""Partition to the offset of the last record read or written there. Opaque to callers; offsets may leave gaps."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a producer appends: bytes and text headers. `id` (if given) lets the log drop a resend soon after."""

    value: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as the log holds it. `partition` and `offset` are its place; `time_us` when the log took it."""

    topic: str
    key: str
    value: bytes
    headers: Mapping[str, str]
    partition: str
    offset: int
    time_us: int


class Batch(Protocol):
    """Records that one member of a group received; `ack` commits all of them."""

    records: Sequence[Stored]

    async def ack(self) -> None:
        """Commit these records for the group. Raises Unavailable: they will come again."""
        ...


class Subscription(Protocol):
    """A group's member."""

    async def fetch(self, limit: int, wait: float) -> Batch:
        """Up to `limit` records, in order by key; after `wait` seconds perhaps none. Raises Unavailable."""
        ...


class EventLog(Protocol):
    """Records of a topic in order of their key; what `append` returned from survives `kill -9` of the log."""

    async def append(
        self, topic: str, key: str, records: Sequence[Record], *, fence: Position | None = None
    ) -> Position:
        """Write `records` in order and return their last position once all are durable.

        `fence`: the topic's end as the writer last saw it (`end`); if the topic moved on, raises Conflict and
        writes nothing. A retry after a lost confirmation looks the same: read the last record and compare.
        Raises Unavailable (away, or full: nothing is confirmed, append again), Rejected (record too large).
        """
        ...

    def consume(self, topics: Sequence[str], group: str) -> AbstractAsyncContextManager[Subscription]:
        """Join `group`: each record goes to it at least once; unacknowledged ones come again. Raises Unavailable."""
        ...

    def read(
        self, topic: str, start: Position | datetime | None = None, *, follow: bool = False
    ) -> AsyncIterator[Stored]:
        """Records after a position, from a time, or from the first; ends at the present end unless `follow`."""
        ...

    async def end(self, topic: str) -> Position:
        """The position of the topic's last record (empty when it has none)."""
        ...


@dataclass(frozen=True, slots=True)
class LogWaits:
    """How long a log's user waits, in seconds, before a call raises Unavailable."""

    connect: float = 5.0
    produce: float = 30.0


@asynccontextmanager
async def open_event_log(
    url: str, *, credentials: str = "", waits: LogWaits | None = None, tls: Certificates | None = None
) -> AsyncIterator[EventLog]:
    """The log behind `url`: `nats://host:port` (with TLS `tls://host:port`, and `tls` what to show), or `kafka://host:port[,host:port][?security=ssl&ca=FILE]`.

    `credentials` is `user:password`, or empty where the log asks for none. Raises Misconfigured, Unavailable.
    """
    waits = waits or LogWaits()
    match urlsplit(url).scheme:
        case "nats" | "tls":
            from shared.jetstream import LogOptions, open_jetstream  # noqa: PLC0415 - only the chosen driver loads
            from shared.nats import Timeouts  # noqa: PLC0415 - the same

            options = LogOptions(timeouts=Timeouts(connect=waits.connect, produce=waits.produce))
            async with open_jetstream(url, credentials=credentials, options=options, tls=tls) as log:
                yield log
        case "kafka":
            from shared.kafka import KafkaOptions, open_kafka  # noqa: PLC0415 - the same

            chosen = KafkaOptions(connect=waits.connect, produce=waits.produce)
            async with open_kafka(url, credentials=credentials, options=chosen) as log:
                yield log
        case scheme:
            raise Misconfigured(
                f"no event log for {scheme!r} in {url!r}", hint="use nats://HOST:PORT or kafka://HOST:PORT"
            )
