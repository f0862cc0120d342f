"""Reading a topic by position or time: every partition at once, each in its order, as near to time's as it comes."""

import heapq
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message

from shared.errors import Unavailable
from shared.eventlog import Position, Stored
from shared.kafka.connection import Link, Thread, place, unavailable
from shared.kafka.ends import Ends, Offsets
from shared.kafka.records import next_offsets, offset_of, stored

_PAGE: Final = 500
_SLICE_S: Final = 0.2
_LOOK_S: Final = 30.0
"""A follower looks for new partitions this often."""


async def read(
    link: Link, ends: Ends, topic: str, start: Position | datetime | None, *, follow: bool
) -> AsyncIterator[Stored]:
    """See the port. A follower waits out the cluster's absence; others raise Unavailable."""
    raw = await ends.raw(topic)
    begin = await _begin(ends, topic, start, raw)
    wanted = {p: begin.get(p, 0) for p, end in raw.items() if follow or begin.get(p, 0) < end}
    if not wanted:
        return
    reading = _Reading(link, topic, wanted, None if follow else {p: raw[p] for p in wanted})
    thread = Thread(f"kafka-read-{topic}")
    try:
        looked = time.monotonic()
        while not reading.done:
            if not follow:
                await link.check()
            for record in await thread.run(reading.page):
                yield record
            if follow and time.monotonic() - looked > _LOOK_S:
                looked = time.monotonic()
                await _look_for_more(link, topic, reading, thread)
    finally:
        await thread.run(reading.close)
        thread.close()


async def _begin(ends: Ends, topic: str, start: Position | datetime | None, raw: Offsets) -> Offsets:
    """The first offset to read of each partition; 0 where nothing is said."""
    if isinstance(start, datetime):
        return {p: raw.get(p, 0) if at < 0 else at for p, at in (await ends.at(topic, start)).items()}
    return next_offsets(start or {})


async def _look_for_more(link: Link, topic: str, reading: "_Reading", thread: Thread) -> None:
    """Read partitions that were added since, from their start."""
    try:
        found = await link.partitions(topic)
    except Unavailable:
        return
    await thread.run(reading.add, found)


class _Reading:
    """A consumer without a group. Without `until` it never ends."""

    def __init__(
        self, link: Link, topic: str, begin: Mapping[int, int], until: Mapping[int, int] | None
    ) -> None:
        self._topic = topic
        self._until = until
        self._open = set(begin)
        self._patience = link.options.request
        self._heard = time.monotonic()
        follow = until is None
        self._consumer = Consumer(
            link.config(
                group_id="industrialmind-read",
                enable_auto_commit=False,
                enable_partition_eof=not follow,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                fetch_wait_max_ms=500 if follow else 20,
                fetch_queue_backoff_ms=20,
                queued_max_messages_kbytes=link.options.prefetch_kbytes,
            )
        )
        self._consumer.assign([place(topic, p, offset) for p, offset in begin.items()])

    @property
    def done(self) -> bool:
        """Whether everything up to the end was read."""
        return self._until is not None and not self._open

    def page(self) -> list[Stored]:
        """The next records, after a while perhaps none. Raises Unavailable."""
        first = self._consumer.poll(_SLICE_S)
        if first is None:
            if self._until is not None and time.monotonic() - self._heard > self._patience:
                raise Unavailable(f"Kafka: no answer while reading {self._topic}")
            return []
        self._heard = time.monotonic()
        parts: dict[int, list[Message]] = {}
        for message in (first, *self._consumer.consume(_PAGE, 0)):
            if self._take(message):
                parts.setdefault(message.partition() or 0, []).append(message)
        return [stored(message) for message in _merged(list(parts.values()))]

    def add(self, partitions: list[int]) -> None:
        """Read these from their start, unless they are read already."""
        new = [place(self._topic, p, 0) for p in partitions if p not in self._open]
        if new:
            self._open |= set(partitions)
            self._consumer.incremental_assign(new)

    def close(self) -> None:
        """Give the connection back."""
        self._consumer.close()

    def _take(self, message: Message) -> bool:
        """Whether it is a record to hand out; notes where a partition ends."""
        error, partition = message.error(), message.partition() or 0
        if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its name
            if self._until is None and not error.fatal():
                return False  # the client goes on by itself
            raise unavailable(f"reading {self._topic}", error)
        if self._until is None:
            return error is None
        if error is not None or offset_of(message) >= self._until[partition] - 1:
            self._open.discard(partition)
        return error is None and offset_of(message) < self._until[partition]


def _merged(parts: list[list[Message]]) -> list[Message]:
    """By time, without changing the order in any part."""
    if len(parts) == 1:
        return parts[0]
    return list(heapq.merge(*parts, key=lambda message: message.timestamp()[1]))
