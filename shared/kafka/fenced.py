"""Fenced appends: compare-and-set over a whole topic, by transactions of one `transactional.id` a topic.

Whoever calls `init_transactions` fences every other holder of the id and ends its open transaction. What is then
compared can only be changed by a later holder, and that one has fenced us before it writes: our commit fails and
nothing of ours is ever read. A writer that needs no transaction can't be fenced; the place that the broker gave our
first record tells whether one came in between (ADR 0012).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from shared.errors import Conflict
from shared.eventlog import Position, Record
from shared.kafka.connection import Link, Thread, unavailable
from shared.kafka.ends import Ends
from shared.kafka.records import as_position, check_size, next_offsets, place_of

_TRIES: Final = 2
_TRANSACTION_S: Final = 10.0
_FENCED: Final = (
    KafkaError._FENCED,  # noqa: SLF001 - its name
    KafkaError._FATAL,  # noqa: SLF001 - its name
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
)


class _Lost(Exception):  # noqa: N818 - what happened
    """Another writer holds the topic's id now; nothing was written."""


@dataclass(slots=True)
class _Reports:
    """The places of a transaction's first and last record."""

    first: tuple[int, int] | None = None
    last: tuple[int, int] | None = None
    error: KafkaError | None = None

    def take(self, error: KafkaError | None, message: Message) -> None:
        """A delivery report: nothing may be raised here."""
        if error is not None:
            self.error = error
            return
        self.last = place_of(message)
        self.first = self.first or self.last


class FencedWriter:
    """The fenced appends to one topic, one after the other."""

    def __init__(self, link: Link, ends: Ends, topic: str) -> None:
        self._link = link
        self._ends = ends
        self._topic = topic
        self._wait = min(_TRANSACTION_S, link.options.produce)
        self._thread = Thread("kafka-fenced")
        self._busy = asyncio.Lock()
        self._producer: Producer | None = None

    async def write(self, key: bytes, records: Sequence[Record], fence: Position) -> dict[str, int]:
        """Write all or none, only if the topic ends at `fence`; its new end. Raises Conflict, Unavailable, Rejected."""
        check_size(self._topic, key, records)
        async with self._busy:
            for _ in range(_TRIES):
                await self._link.check()
                try:
                    if self._producer is None:
                        await self._thread.run(self._open)
                    raw = await self._ends.raw(self._topic)
                    last = await self._ends.last(self._topic, raw)
                    if as_position(last) != as_position(next_offsets(fence)):
                        raise Conflict(f"{self._topic} moved on")
                    partition, offset = await self._thread.run(self._transact, key, records, raw)
                except _Lost:
                    continue  # the id was another's: take it back, and compare again
                await self._ends.shown(self._topic, partition, offset + 1)
                return as_position({**last, partition: offset + 1})
        raise Conflict(f"{self._topic}: another writer is at work")

    async def close(self) -> None:
        """Give up the producer."""
        await self._thread.run(self._dispose)
        self._thread.close()

    def _open(self) -> None:
        """Take the topic's id: fences whoever held it."""
        producer = Producer(
            self._link.config(
                transactional_id=f"industrialmind-{self._topic}",
                transaction_timeout_ms=_TRANSACTION_S * 1000,
                message_timeout_ms=_TRANSACTION_S * 1000,
                acks="all",
                partitioner="murmur2_random",
                compression_type="lz4",
                linger_ms=0,
            )
        )
        try:
            producer.init_transactions(self._link.options.request)
        except KafkaException as error:
            if error.args[0].code() in _FENCED:
                raise _Lost from error
            raise unavailable(f"no transaction on {self._topic}", error) from error
        self._producer = producer

    def _transact(self, key: bytes, records: Sequence[Record], ends: Mapping[int, int]) -> tuple[int, int]:
        """Write and commit; the last record's place. Raises _Lost, Conflict, Unavailable."""
        producer = self._producer
        if producer is None:
            raise _Lost
        try:
            producer.begin_transaction()
            first, last = self._send(producer, key, records)
            if first[1] == ends.get(first[0], 0):
                producer.commit_transaction(self._wait)
                return last
            producer.abort_transaction(self._wait)
        except KafkaException as error:
            # Also where only this transaction failed: the id's next holder ends what is left of it.
            self._dispose()
            if error.args[0].code() in _FENCED or error.args[0].fatal():
                raise _Lost from error
            raise unavailable(f"a transaction on {self._topic}", error) from error
        except SystemError as error:  # fenced at the moment of a report
            self._dispose()
            raise _Lost from error
        raise Conflict(f"{self._topic} moved on under a writer without a fence")

    def _send(
        self, producer: Producer, key: bytes, records: Sequence[Record]
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """The places that the first and the last record got in the open transaction. Raises KafkaException."""
        reports = _Reports()
        for number, record in enumerate(records):
            report = reports.take if number in (0, len(records) - 1) else None
            producer.produce(self._topic, record.value, key, -1, report, headers=dict(record.headers) or None)
        producer.flush(self._wait)
        if reports.error is not None or reports.first is None or reports.last is None:
            raise KafkaException(reports.error or KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its name
        return reports.first, reports.last

    def _dispose(self) -> None:
        self._producer = None  # what it still held was of a transaction that is not to be
