"""Where a topic ends: the position of its last record.

Kafka's own end also counts the markers that close transactions, and records of transactions that were given up;
neither is ever read. So where the end moved, the last record is looked up by reading what stands before the end.
"""

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException
from confluent_kafka.admin import OffsetSpec

from shared.errors import NotFound, Unavailable
from shared.kafka.connection import Link, Thread, is_missing, place, unavailable
from shared.kafka.records import offset_of

_POLL_S: Final = 0.05
_VISIBLE_S: Final = 0.002
_AGAIN_S: Final = 0.05
_SOON: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
)
"""Answers of a partition that has just been made, or is just changing its leader."""

Offsets = dict[int, int]
"""Partition to an offset of Kafka's: of the record after the last one, unless said otherwise."""


class Ends:
    """Looks up ends and times, and remembers the last record before an end that has not moved."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._thread = Thread("kafka-ends")
        self._busy = asyncio.Lock()
        self._consumer: Consumer | None = None
        self._known: dict[tuple[str, int], tuple[int, int]] = {}

    async def raw(self, topic: str) -> Offsets:
        """Kafka's own ends, of all partitions. Raises Unavailable, NotFound (no such topic)."""
        return await self._offsets(topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    async def at(self, topic: str, since: datetime) -> Offsets:
        """The first record of each partition from a time on; -1 where there is none."""
        return await self._offsets(topic, OffsetSpec.for_timestamp(int(since.timestamp() * 1000)))

    async def last(self, topic: str, raw: Mapping[int, int]) -> Offsets:
        """After the last record of each partition, given its ends: 0 where it never had one. Raises Unavailable."""
        async with self._busy:
            moved = {
                p: end for p, end in raw.items() if end and self._known.get((topic, p), (0, 0))[0] != end
            }
            if moved:
                for partition, found in (await self._thread.run(self._look, topic, moved)).items():
                    self._known[topic, partition] = (moved[partition], found)
            return {p: self._known[topic, p][1] if end else 0 for p, end in raw.items()}

    async def shown(self, topic: str, partition: int, after: int) -> None:
        """Wait until readers are shown the transaction whose last record stands before `after`."""
        until = time.monotonic() + self._link.options.request
        while (end := (await self.raw(topic)).get(partition, 0)) <= after:
            if time.monotonic() > until:
                raise Unavailable(f"{topic}: written, but not shown to readers yet")
            await asyncio.sleep(_VISIBLE_S)
        if end == after + 1:
            self._known[topic, partition] = (end, after)

    async def close(self) -> None:
        """Give the connection back."""
        if self._consumer is not None:
            await self._thread.run(self._consumer.close)
        self._thread.close()

    async def _offsets(self, topic: str, spec: OffsetSpec) -> Offsets:
        until = time.monotonic() + self._link.options.request
        while True:
            await self._link.check()
            asked = {place(topic, partition, 0): spec for partition in await self._link.partitions(topic)}
            answers = self._link.admin.list_offsets(
                asked,
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=self._link.options.request,
            )
            told: list[Any] = await asyncio.gather(
                *map(asyncio.wrap_future, answers.values()), return_exceptions=True
            )
            failed = next((one for one in told if isinstance(one, BaseException)), None)
            if failed is None:
                return {where.partition: one.offset for where, one in zip(answers, told, strict=True)}
            if not isinstance(failed, KafkaException):
                raise failed
            if is_missing(failed.args[0]):
                raise NotFound(f"Kafka has no topic {topic!r} any more") from failed
            if failed.args[0].code() not in _SOON or time.monotonic() > until:
                raise unavailable(f"asking where {topic} ends", failed) from failed
            await asyncio.sleep(_AGAIN_S)

    def _look(self, topic: str, ends: Mapping[int, int]) -> Offsets:
        """After the last record before each end: read a little, and more and more, before the end."""
        if self._consumer is None:
            self._consumer = Consumer(
                self._link.config(
                    group_id="industrialmind-ends",
                    enable_auto_commit=False,
                    enable_partition_eof=True,
                    auto_offset_reset="earliest",
                    isolation_level="read_committed",
                    fetch_wait_max_ms=5,
                    queued_max_messages_kbytes=4096,
                )
            )
        found: Offsets = {}
        step = 1
        while missing := {p: end for p, end in ends.items() if p not in found}:
            for partition, last in self._before(self._consumer, topic, missing, step).items():
                if last >= 0:
                    found[partition] = last + 1
                elif step >= missing[partition]:
                    found[partition] = self._none(self._consumer, topic, partition, missing[partition])
            step *= 4
        return found

    def _before(self, consumer: Consumer, topic: str, ends: Mapping[int, int], step: int) -> Offsets:
        """The last record among the `step` offsets before each end; -1 for none."""
        consumer.assign([place(topic, p, max(0, end - step)) for p, end in ends.items()])
        found = dict.fromkeys(ends, -1)
        open_ = set(ends)
        until = time.monotonic() + self._link.options.request
        try:
            while open_:
                message = consumer.poll(_POLL_S)
                if message is None:
                    if time.monotonic() > until:
                        raise Unavailable(f"Kafka: no answer where {topic} ends")
                    continue
                partition, error = message.partition() or 0, message.error()
                if error is None and offset_of(message) < ends[partition]:
                    found[partition] = offset_of(message)
                if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its name
                    raise unavailable(f"reading where {topic} ends", error)
                if error is not None or offset_of(message) >= ends[partition] - 1:
                    open_.discard(partition)
        finally:
            consumer.unassign()
        return found

    def _none(self, consumer: Consumer, topic: str, partition: int, end: int) -> int:
        """For a partition without a record: 0 if it never had one, its end if all have aged out."""
        where = place(topic, partition, 0)
        marks = consumer.get_watermark_offsets(where, timeout=self._link.options.request)
        return end if marks is not None and marks[0] > 0 else 0
