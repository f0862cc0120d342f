"""The event log's port on Kafka: a topic a topic, records placed by their key."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime

from shared.errors import Rejected
from shared.eventlog import EventLog, Position, Record, Stored, Subscription
from shared.kafka.connection import KafkaOptions, Link, client_config
from shared.kafka.ends import Ends
from shared.kafka.fenced import FencedWriter
from shared.kafka.group import join
from shared.kafka.producer import Writer
from shared.kafka.reader import read
from shared.kafka.records import as_position

_KEY = re.compile(r"[^\s.*>\x00-\x1f]+(\.[^\s.*>\x00-\x1f]+)*")


class KafkaLog:
    """The event log's port on Kafka. Members of a group share the partitions of its topics."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._writer = Writer(link)
        self._ends = Ends(link)
        self._fenced: dict[str, FencedWriter] = {}

    async def append(
        self, topic: str, key: str, records: Sequence[Record], *, fence: Position | None = None
    ) -> Position:
        """See the port. Only a fenced append is all or none; without a fence the Position has the key's partition."""
        if not _KEY.fullmatch(key):
            raise Rejected(
                f"{key[:60]!r} can't be a record's key: no spaces, '*' or '>', no empty part at a '.'"
            )
        if not records:
            return fence if fence is not None else await self.end(topic)
        if fence is not None:
            if topic not in self._fenced:
                self._fenced[topic] = FencedWriter(self._link, self._ends, topic)
            return await self._fenced[topic].write(key.encode(), records, fence)
        partition, offset = await self._writer.write(topic, key.encode(), records)
        if offset >= 0:
            return {str(partition): offset + 1}
        # A resend that the broker knew: stored, but it no longer tells where.
        return {str(partition): (await self.end(topic))[str(partition)]}

    async def end(self, topic: str) -> Position:
        """See the port: of every partition that has a record. Raises Unavailable, NotFound (no such topic)."""
        return as_position(await self._ends.last(topic, await self._ends.raw(topic)))

    def read(
        self, topic: str, start: Position | datetime | None = None, *, follow: bool = False
    ) -> AsyncIterator[Stored]:
        """See the port. Raises Unavailable, NotFound (no such topic)."""
        return read(self._link, self._ends, topic, start, follow=follow)

    def consume(self, topics: Sequence[str], group: str) -> AbstractAsyncContextManager[Subscription]:
        """See the port."""
        return join(self._link, topics, group)

    async def close(self) -> None:
        """Give up what is not yet confirmed."""
        await self._writer.close()
        for fenced in self._fenced.values():
            await fenced.close()
        await self._ends.close()


@asynccontextmanager
async def open_kafka(
    url: str, *, credentials: str = "", options: KafkaOptions | None = None
) -> AsyncIterator[EventLog]:
    """The log behind `kafka://host:port[,host:port][?security=ssl&ca=FILE]`.

    `credentials` is `user:password` for SASL/PLAIN, or empty for none. Raises Misconfigured (no such URL, refused),
    Unavailable.
    """
    link = Link(client_config(url, credentials), options or KafkaOptions())
    try:
        await link.open()
        log = KafkaLog(link)
        try:
            yield log
        finally:
            await log.close()
    finally:
        await link.close()
