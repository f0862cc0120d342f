"""Append to, read and join the log on JetStream.

A record is durable when `append` returns: the server flushes before it confirms (`sync_interval: always`). What
waits while one flush runs goes into the next as one atomic batch, so that throughput does not pay a flush a record.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from shared.errors import Rejected, Unavailable
from shared.eventlog import EventLog, Position, Record, Stored, Subscription
from shared.jetstream.group import GroupOptions, join
from shared.jetstream.records import PARTITION, stored_directly
from shared.jetstream.topics import RECORD_BYTES, stream_name
from shared.jetstream.writer import Message, Writer, write_fenced
from shared.nats.link import Link, open_link
from shared.nats.session import Session, Timeouts, first_of, sequence
from shared.tls import Certificates

_KEY = re.compile(r"[^\s.*>\x00-\x1f]+(\.[^\s.*>\x00-\x1f]+)*")
_PAGE: Final = 256
_POLL_S: Final = 5.0
"""A follower looks again this often, should a record's notice have been lost on the way."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """The waits and bounds of a log's user."""

    timeouts: Timeouts = field(default_factory=Timeouts)
    group: GroupOptions = field(default_factory=GroupOptions)
    in_flight: int = 1024
    """Appends that may wait at once; further ones wait before they are taken."""


class JetStreamLog:
    """The event log's port on JetStream. One partition, named `0`; a group has one active member."""

    def __init__(self, link: Link, options: LogOptions) -> None:
        self._link = link
        self._options = options
        self._writers: dict[str, Writer] = {}
        self._slots = asyncio.Semaphore(options.in_flight)

    async def append(
        self, topic: str, key: str, records: Sequence[Record], *, fence: Position | None = None
    ) -> Position:
        """See the port. Several records are stored all or none (up to 1,000; a fenced append takes no more)."""
        if not _KEY.fullmatch(key):
            raise Rejected(
                f"{key[:60]!r} can't be a record's key: no spaces, '*' or '>', no empty part at a '.'"
            )
        if not records:
            return fence if fence is not None else await self.end(topic)
        session = self._link.session()
        messages = [_message(topic, key, record, session, dedup=fence is None) for record in records]
        async with self._slots:
            if fence is not None:
                last = await write_fenced(
                    self._link, messages, fence.get(PARTITION, 0), self._options.timeouts
                )
            else:
                last = await self._writer(topic).write(messages)
        return {PARTITION: last}

    async def end(self, topic: str) -> Position:
        """See the port. Raises Unavailable, NotFound (no such topic)."""
        last = await _last(self._link.session(), topic)
        return {PARTITION: last} if last else {}

    async def read(
        self, topic: str, start: Position | datetime | None = None, *, follow: bool = False
    ) -> AsyncIterator[Stored]:
        """See the port. A follower waits out the server's absence; others raise Unavailable."""
        if isinstance(start, datetime):
            query: dict[str, Any] = {"start_time": start.astimezone(UTC).isoformat().replace("+00:00", "Z")}
        else:
            query = {"seq": (start or {}).get(PARTITION, 0) + 1}
        until = None if follow else await _last(self._link.session(), topic)
        after = 0
        while until is None or after < until:
            session = await self._link.connected() if follow else self._link.session()
            try:
                async for stored in self._pages(session, topic, query, until):
                    yield stored
                    after = stored.offset
                    query = {"seq": after + 1}
            except Unavailable:
                if not follow:
                    raise
                await first_of(self._options.timeouts.backoff_first, session.lost)
            if not follow:
                return

    def consume(self, topics: Sequence[str], group: str) -> AbstractAsyncContextManager[Subscription]:
        """See the port. One member is active, others stand by; a dead one is replaced within the lease's time."""
        return join(self._link, topics, group, self._options.group)

    async def close(self) -> None:
        """Give up what is not yet confirmed."""
        for writer in self._writers.values():
            await writer.close()

    async def _pages(
        self, session: Session, topic: str, query: Mapping[str, Any], until: int | None
    ) -> AsyncIterator[Stored]:
        """Records from `query` on; without `until` waits for more as long as the session lives."""
        news = asyncio.Event()

        def notice(_: object) -> None:
            news.set()

        end = await session.subscribe(f"stored.{topic}.>", notice) if until is None else None
        try:
            while not session.lost.is_set():
                news.clear()
                page = await session.page(
                    stream_name(topic), {**query, "next_by_subj": f"log.{topic}.>", "batch": _PAGE}
                )
                for message in page.messages:
                    if until is not None and sequence(message) > until:
                        return
                    yield stored_directly(topic, message)
                    query = {"seq": sequence(message) + 1}
                if not page.messages or page.pending == 0:
                    if until is not None:
                        return
                    await first_of(_POLL_S, news, session.lost)
            if until is not None:
                raise Unavailable(f"the connection was lost while reading {topic}")
        finally:
            if end is not None:
                await end()

    def _writer(self, topic: str) -> Writer:
        if topic not in self._writers:
            self._writers[topic] = Writer(self._link, self._options.timeouts)
        return self._writers[topic]


async def _last(session: Session, topic: str) -> int:
    info = await session.api(f"STREAM.INFO.{stream_name(topic)}")
    return int(info["state"]["last_seq"])


def _message(topic: str, key: str, record: Record, session: Session, *, dedup: bool) -> Message:
    headers = dict(record.headers)
    if record.id and dedup:  # a fenced append is guarded by its fence: sent twice, it is a Conflict
        headers["Nats-Msg-Id"] = record.id
    size = len(record.value) + sum(len(k) + len(v.encode()) + 4 for k, v in headers.items()) + 256
    most = min(RECORD_BYTES, session.max_payload)
    if size > most:
        raise Rejected(f"a record of {size} bytes for {topic}; at most {most} fit")
    return Message(f"log.{topic}.{key}", record.value, headers)


@asynccontextmanager
async def open_jetstream(
    url: str,
    *,
    credentials: str = "",
    options: LogOptions | None = None,
    tls: Certificates | None = None,
) -> AsyncIterator[EventLog]:
    """The log behind `nats://host:port` or `tls://host:port`. Raises Misconfigured (refused), Unavailable."""
    options = options or LogOptions()
    async with open_link(url, credentials=credentials, timeouts=options.timeouts, tls=tls) as link:
        log = JetStreamLog(link, options)
        try:
            yield log
        finally:
            await log.close()
