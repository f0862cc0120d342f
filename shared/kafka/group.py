"""A group's member: a consumer of Kafka's own groups, whose offsets are committed by acks alone.

Partitions move between members one by one (`cooperative-sticky`): whoever loses one drops what it holds of it, its
acks for it fail, and the next one begins at the first record that is not committed. Everything that the client does
runs in the member's one thread, so its news about partitions never fall into the middle of an ack.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from shared.errors import IndustrialMindError, Unavailable
from shared.eventlog import Stored
from shared.kafka.connection import Link, Thread, is_missing, place, unavailable
from shared.kafka.records import stored
from shared.kafka.shares import Given, Shares

log = structlog.get_logger()

_HOLD: Final = 2000
"""Records that wait here to be taken, so that topics and partitions can take turns; more stay with the client."""
_HOLD_BYTES: Final = 2 << 20
"""Beyond so many bytes no more records wait here than are asked for. The client has a bound of its own."""
_SLICE_S: Final = 0.1
_KEEP_S: Final = 0.5


class Delivery:
    """Records of one fetch; see the port's `Batch`."""

    def __init__(self, member: "Member", messages: Sequence[Message], given: Sequence[Given]) -> None:
        self.records: Sequence[Stored] = [stored(message) for message in messages]
        self._member = member
        self._given = given

    async def ack(self) -> None:
        """Commit these records for the group. Raises Unavailable: they will come again."""
        if self._given:
            await self._member.acknowledge(self._given)
            self._given = ()


class Member:
    """See the port's `Subscription`. Members of a group share the topics' partitions."""

    def __init__(self, link: Link, topics: Sequence[str], group: str) -> None:
        options = link.options
        self._link = link
        self._group = group
        self._ack_wait = options.ack_wait
        self._shares = Shares(topics)
        self._problem: IndustrialMindError | None = None
        self._paused = False
        self._polled = time.monotonic()
        self._busy = asyncio.Lock()
        self._thread = Thread(f"kafka-{group}")
        self._consumer = Consumer(
            link.config(
                group_id=group,
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                partition_assignment_strategy="cooperative-sticky",
                session_timeout_ms=options.session * 1000,
                heartbeat_interval_ms=min(options.session * 100, 3000),
                max_poll_interval_ms=max(options.poll_interval, options.session) * 1000,
                fetch_queue_backoff_ms=20,
                queued_max_messages_kbytes=options.prefetch_kbytes,
            )
        )
        self._consumer.subscribe(
            list(topics), on_assign=self._gained, on_revoke=self._lost, on_lost=self._lost
        )
        self._keeper = asyncio.create_task(self._keep(), name=f"keeper of {group}")

    async def fetch(self, limit: int, wait: float) -> Delivery:
        """Up to `limit` records, taken from the topics in turn; after `wait` seconds perhaps none. Raises Unavailable."""
        deadline = time.monotonic() + wait
        while True:
            if self._keeper.done():
                self._keeper.result()  # raises what ended it
            await self._link.check()
            async with self._busy:
                left = deadline - time.monotonic()
                await self._thread.run(self._fill, max(0.0, min(_SLICE_S, left)), limit)
                messages, given = self._shares.take(limit, time.monotonic())
            if messages or left <= 0:
                return Delivery(self, messages, given)

    async def acknowledge(self, given: Sequence[Given]) -> None:
        """Commit what is still ours. Raises Unavailable if not all of it is."""
        await self._link.check()
        async with self._busy:
            await self._thread.run(self._commit, given)

    async def leave(self) -> None:
        """Leave the group: its other members take over at once."""
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        async with self._busy:
            await self._thread.run(self._consumer.close)
        self._thread.close()

    async def _keep(self) -> None:
        """Go on polling while the user is slow, so that the group neither waits for this member nor expels it."""
        while True:
            await asyncio.sleep(_KEEP_S)
            if time.monotonic() - self._polled >= _KEEP_S:
                async with self._busy:
                    await self._thread.run(self._poll_only)

    # What follows runs in the member's thread.

    def _fill(self, wait: float, limit: int) -> None:
        """Have records to take: those that are here at once, else the first that come within `wait`."""
        self._polled = time.monotonic()
        if self._paused:
            self._paused = False
            self._consumer.resume(self._consumer.assignment())
        self._return_overdue()
        message = self._consumer.poll(0 if self._shares.waiting else wait)
        while message is not None:
            self._take(message)
            if self._has_enough(limit):
                break
            message = self._consumer.poll(0)
        if self._problem is not None and not self._shares.waiting:
            problem, self._problem = self._problem, None
            raise problem

    def _has_enough(self, limit: int) -> bool:
        shares = self._shares
        return shares.waiting >= limit and (shares.waiting >= _HOLD or shares.waiting_bytes >= _HOLD_BYTES)

    def _poll_only(self) -> None:
        """Serve the group without taking records."""
        self._polled = time.monotonic()
        self._consumer.pause(self._consumer.assignment())
        self._paused = True
        message = self._consumer.poll(0)
        if message is not None:
            self._take(message)

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is None:
            self._shares.put(message)
        elif error.fatal():
            raise KafkaException(error)
        elif is_missing(error):
            self._problem = Unavailable(f"Kafka: {error.str()}: industrialmind log ensure makes the topics")
        else:
            self._problem = unavailable(f"group {self._group!r}", error)

    def _return_overdue(self) -> None:
        """Go back where records were given out too long ago, and where an earlier attempt could not."""
        oldest = time.monotonic() - self._ack_wait
        for share in self._shares:
            if share.given and share.given[0].at <= oldest:
                self._shares.rewind(share)
            if share.back_to is not None:
                try:
                    self._consumer.seek(place(share.topic, share.partition, share.back_to))
                except KafkaException as error:
                    log.debug("can't go back yet", topic=share.topic, why=str(error))
                else:
                    share.back_to = None

    def _commit(self, given: Sequence[Given]) -> None:
        ours = [one for one in given if one.ours]
        for one in ours:
            one.acked = True
        done = {
            share: offset for share in {one.share for one in ours} if (offset := share.settled()) is not None
        }
        try:
            self._commit_offsets(
                [place(share.topic, share.partition, offset) for share, offset in done.items()]
            )
        except KafkaException as error:
            for share in done:
                self._shares.rewind(share)
            raise unavailable(f"group {self._group!r} could not commit", error) from error
        for share, offset in done.items():
            share.committed(offset)
        if len(ours) < len(given):
            raise Unavailable(f"group {self._group!r} moved on since these records came; they come again")

    def _commit_offsets(self, offsets: list[TopicPartition]) -> None:
        if not offsets:
            return
        for answer in self._consumer.commit(offsets=offsets, asynchronous=False) or ():
            if answer.error is not None:
                raise KafkaException(answer.error)

    def _gained(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            self._shares.add(one.topic, one.partition)
        self._paused = True  # the client remembers a pause of a partition that it lost and got again

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            self._shares.remove(one.topic, one.partition)


@asynccontextmanager
async def join(link: Link, topics: Sequence[str], group: str) -> AsyncIterator[Member]:
    """Be a member for the time of the context. Raises Unavailable."""
    await link.check()
    member = Member(link, topics, group)
    try:
        yield member
    finally:
        await member.leave()
