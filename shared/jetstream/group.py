"""A group's member: durable pull consumers, one a topic, of which the lease's holder alone pulls.

Whoever becomes active, or comes back after a lost connection, first resets the consumers to their first
unacknowledged record. So order by key holds across take-overs: nothing later comes before what a dead member had
received and not acknowledged.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from shared.errors import Unavailable
from shared.eventlog import Stored
from shared.jetstream.lease import Lease
from shared.jetstream.records import delivered, stored_delivered
from shared.jetstream.topics import stream_name
from shared.nats.link import Link
from shared.nats.session import Message, Session, answered, first_of

_PULL: Final = 256
"""Most records one pull asks for; a topic has one pull out at a time."""
_PULL_BYTES: Final = 16 << 20
_PULL_S: Final = 30.0
_SHORTEST_PULL_S: Final = 0.2
_LATE_S: Final = 1.0
_NS: Final = 1_000_000_000
_IDLE_POLL_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class GroupOptions:
    """A member's waits, in seconds, and bounds."""

    lease: float = 3.0
    """A killed member is replaced this long, and up to a fifth more, after its last renewal."""
    ack_wait: float = 60.0
    """What the active member leaves unacknowledged comes to it again after this."""
    max_unacked: int = 4096


@dataclass(slots=True)
class _Pulled:
    """One topic's consumer as this member sees it."""

    topic: str
    buffer: deque[Message] = field(default_factory=deque)
    missing: int = 0
    late_at: float = 0.0

    @property
    def stream(self) -> str:
        return stream_name(self.topic)


class Delivery:
    """Records of one fetch; see the port's `Batch`."""

    def __init__(self, member: "Member", term: object, taken: Sequence[tuple[str, Message]]) -> None:
        self.records: Sequence[Stored] = [stored_delivered(topic, message) for topic, message in taken]
        self._member = member
        self._term = term
        self._taken = taken

    async def ack(self) -> None:
        """Commit these records for the group. Raises Unavailable: they will come again."""
        if self._taken:
            await self._member.acknowledge(self._term, self._taken)
            self._taken = ()


class Member:
    """See the port's `Subscription`. While another member is active, `fetch` returns nothing."""

    def __init__(self, link: Link, topics: Sequence[str], group: str, options: GroupOptions) -> None:
        self._link = link
        self._group = group
        self._options = options
        self._pulled = [_Pulled(topic) for topic in topics]
        self._wake = asyncio.Event()
        self._term: object = None
        self._end: Callable[[], Awaitable[None]] | None = None
        self._starts = 0
        self._first = 0
        self._inbox = ""
        self._lease = Lease(link, group, options.lease, self._wake.set)
        self._keeper = asyncio.create_task(self._lease.keep(), name=f"lease of {group}")

    async def fetch(self, limit: int, wait: float) -> Delivery:
        """Up to `limit` records, taken from the topics in turn; after `wait` seconds perhaps none. Raises Unavailable."""
        deadline = time.monotonic() + wait
        while True:
            if self._keeper.done():
                self._keeper.result()  # raises what ended it
            session = self._link.session()
            self._wake.clear()
            if self._lease.remaining() > 0:
                if self._term != (session, self._lease.term):
                    await self._start(session)
                taken = self._take(limit)
                await self._pull(session)
                if taken:
                    return Delivery(self, self._term, taken)
            left = deadline - time.monotonic()
            if left <= 0:
                return Delivery(self, self._term, ())
            await first_of(min(left, _IDLE_POLL_S), self._wake)

    async def acknowledge(self, term: object, taken: Sequence[tuple[str, Message]]) -> None:
        """Acknowledge each and wait for the server's word on the last one of each topic."""
        session = self._link.session()
        if term != self._term or term != (session, self._lease.term) or self._lease.remaining() <= 0:
            raise Unavailable(f"group {self._group!r} moved on since these records came; they come again")
        last = dict(taken)
        asked = []
        try:
            for topic, message in taken:
                if last[topic] is message:
                    asked.append(await session.ask(message.reply, b"+ACK"))
                else:
                    await session.publish(message.reply, b"+ACK")
            for answer in asked:
                await answered(answer, session.timeouts.request, "acknowledge")
        except Unavailable:
            self._term = None  # begin again at the first unacknowledged, not after it
            raise

    async def leave(self) -> None:
        """Stop receiving and let another member in."""
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        await self._stop()
        await self._lease.release()

    async def _start(self, session: Session) -> None:
        """Begin at the first unacknowledged record of each topic, with nothing left over from before."""
        await self._stop()
        self._starts += 1
        # Every start has subjects of its own, so that what was under way before can't be taken for new. Also that of a
        # member before on this connection: the server remembers its pulls until it has something for them.
        inbox = f"{session.inbox}-{self._lease.member}-{self._starts}"
        self._end = await session.subscribe(f"{inbox}.*", self._on_message)
        await session.flush()  # the former subscription is gone: its pulls get nothing more
        for pulled in self._pulled:
            config: dict[str, Any] = {
                "name": self._group,
                "durable_name": self._group,
                "deliver_policy": "all",
                "ack_policy": "explicit",
                "ack_wait": int(self._options.ack_wait * _NS),
                "max_ack_pending": self._options.max_unacked,
            }
            body = {"stream_name": pulled.stream, "config": config}
            await session.api(f"CONSUMER.CREATE.{pulled.stream}.{self._group}", body)
            await session.api(f"CONSUMER.RESET.{pulled.stream}.{self._group}")
        self._inbox = inbox
        self._term = (session, self._lease.term)

    async def _stop(self) -> None:
        self._term = None
        for pulled in self._pulled:
            pulled.buffer.clear()
            pulled.missing = 0
        if self._end is not None:
            end, self._end = self._end, None
            await end()

    async def _pull(self, session: Session) -> None:
        """Ask for more where nothing is at hand or on its way. No pull outlives the lease."""
        now = time.monotonic()
        expires = min(_PULL_S, self._lease.remaining())
        if expires < _SHORTEST_PULL_S:
            return
        for number, pulled in enumerate(self._pulled):
            if pulled.buffer or (pulled.missing > 0 and now < pulled.late_at):
                continue
            pulled.missing = min(_PULL, self._options.max_unacked)
            pulled.late_at = now + expires + _LATE_S
            query = {"batch": pulled.missing, "max_bytes": _PULL_BYTES, "expires": int(expires * _NS)}
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{pulled.stream}.{self._group}"
            await session.publish(subject, orjson.dumps(query), reply=f"{self._inbox}.{number}")

    def _on_message(self, message: Message) -> None:
        # A delivered record keeps its own subject; only a status comes under the inbox's.
        headers = message.headers or {}
        if "Status" in headers and not message.reply:
            number = int(message.subject.rpartition(".")[2])
            self._pulled[number].missing = 0
        else:
            stream = delivered(message).stream
            for pulled in self._pulled:
                if pulled.stream == stream:
                    pulled.buffer.append(message)
                    pulled.missing = max(0, pulled.missing - 1)
        self._wake.set()

    def _take(self, limit: int) -> list[tuple[str, Message]]:
        """One record a topic in turn, going on where the last call stopped."""
        taken: list[tuple[str, Message]] = []
        empty = 0
        while len(taken) < limit and empty < len(self._pulled):
            pulled = self._pulled[self._first % len(self._pulled)]
            self._first += 1
            if pulled.buffer:
                taken.append((pulled.topic, pulled.buffer.popleft()))
                empty = 0
            else:
                empty += 1
        return taken


@asynccontextmanager
async def join(link: Link, topics: Sequence[str], group: str, options: GroupOptions) -> AsyncIterator[Member]:
    """Be a member for the time of the context. Raises Unavailable."""
    link.session()
    member = Member(link, topics, group, options)
    try:
        yield member
    finally:
        await member.leave()
