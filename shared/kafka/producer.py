"""Appends: one idempotent producer, one delivery report an append.

The broker takes a producer's records of a partition in order and without a gap, or not at all: the producer never
gives up a single record (`message.timeout.ms` 0), and any record that the broker refuses for good ends it
(`enable.gapless.guarantee`). So the report on an append's last record stands for all of them, which saves a callback
a record. An append that is not confirmed in time ends the producer with all that it holds; a new one takes over.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from shared.errors import Unavailable
from shared.eventlog import Record
from shared.kafka.connection import FATAL, Link
from shared.kafka.records import check_size, place_of

log = structlog.get_logger()

_PIECE: Final = 2000
_PIECE_BYTES: Final = 2 << 20
_RECORD_COST: Final = 100
"""Bytes of memory a record costs beside its own."""
_TICK_S: Final = 0.001
_LOST_S: Final = 1.0
"""What is under way when the last broker goes is given up after this: its caller has to know."""
_PURGE_S: Final = 5.0

Placed = tuple[int, int]
"""Partition and Kafka's offset."""


@dataclass(slots=True, eq=False)
class _Piece:
    """Records that were handed over together; the report on the last one settles `done`."""

    done: "asyncio.Future[Placed]"
    records: int
    size: int
    until: float


class Writer:
    """Writes records to any topic, in the order of the calls for each key. Bounded: further calls wait."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._options = link.options
        self._loop = asyncio.get_running_loop()
        self._producer: Producer | None = None
        self._pieces: deque[_Piece] = deque()
        self._records = 0
        self._bytes = 0
        self._failed = ""
        self._closed = False
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._ticking: asyncio.TimerHandle | None = None
        self._topics: set[str] = set()
        self._ending: set[asyncio.Future[None]] = set()

    async def write(self, topic: str, key: bytes, records: Sequence[Record]) -> Placed:
        """Write `records` in order; returns the last one's place once all are stored.

        Raises Unavailable, Rejected, NotFound (no such topic). Cancelled, they may still be stored.
        """
        size = check_size(topic, key, records)
        if self._link.in_doubt:
            await self._link.check()
        if topic not in self._topics:
            await self._link.partitions(topic)
            self._topics.add(topic)
        pieces = []
        async with self._turn:
            for part, count, cost in _pieces(records, size):
                if self._records and not self._fits(count, cost):
                    await self._wait_for_room(count, cost)
                if self._link.in_doubt:
                    await self._link.check()
                pieces.append(self._send(topic, key, part, count, cost))
        try:
            return [await piece.done for piece in pieces][-1]
        finally:
            for piece in pieces:
                if piece.done.done() and not piece.done.cancelled():
                    piece.done.exception()  # one failure speaks for all

    async def close(self) -> None:
        """Give up what is not confirmed yet."""
        self._closed = True
        self._end(Unavailable("the log was closed"))
        if self._ending:
            await asyncio.wait(self._ending)

    def _fits(self, records: int, size: int) -> bool:
        options = self._options
        return (
            self._records + records <= options.in_flight_records
            and self._bytes + size <= options.in_flight_bytes
        )

    async def _wait_for_room(self, records: int, size: int) -> None:
        while self._records and not self._fits(records, size):
            self._room.clear()
            await self._room.wait()  # the oldest piece is confirmed, or given up, within its time

    def _send(self, topic: str, key: bytes, records: Sequence[Record], count: int, size: int) -> _Piece:
        if self._producer is None:
            self._producer = Producer(self._config())
        piece = _Piece(self._loop.create_future(), count, size, self._loop.time() + self._options.produce)
        produce = self._producer.produce
        try:
            for record in records[:-1]:
                if record.headers:
                    produce(topic, record.value, key, headers=dict(record.headers))
                else:
                    produce(topic, record.value, key)
            last = records[-1]
            report = partial(self._report, piece)
            produce(topic, last.value, key, -1, report, headers=dict(last.headers) or None)
        except (KafkaException, BufferError) as error:
            # Whatever of it was taken has no report of its own: end it together with its producer.
            failure = Unavailable(f"Kafka: the producer took no record: {error}")
            self._end(failure)
            raise failure from error
        self._pieces.append(piece)
        self._records += count
        self._bytes += size
        if self._ticking is None:
            self._ticking = self._loop.call_later(_TICK_S, self._tick)
        return piece

    def _report(self, piece: _Piece, error: KafkaError | None, message: Message) -> None:
        """Called in a poll for an append's last record: nothing may be raised here."""
        if piece.done.done() and not piece.done.cancelled():
            return  # it was given up before
        if error is not None:
            self._failed = error.str()
            return
        if not piece.done.cancelled():
            piece.done.set_result(place_of(message))
        piece.records, self._records = 0, self._records - piece.records
        piece.size, self._bytes = 0, self._bytes - piece.size

    def _tick(self) -> None:
        """Take the reports that have come, look after the time, and come again while anything is in flight."""
        self._ticking = None
        if self._producer is None:
            return
        try:
            self._producer.poll(0)
        except FATAL as error:
            self._failed = str(error)
        pieces = self._pieces
        while pieces and not pieces[0].records:
            pieces.popleft()
        if self._failed:
            self._end(Unavailable(f"Kafka: the records were not stored: {self._failed}"))
        elif pieces and (lost := self._link.lost(_LOST_S)):
            self._end(Unavailable(lost))
        elif pieces and pieces[0].until <= self._loop.time():
            self._end(Unavailable(f"Kafka: not confirmed within {self._options.produce:g} s"))
        if self._pieces:
            self._ticking = self._loop.call_later(_TICK_S, self._tick)
        self._room.set()

    def _end(self, why: Unavailable) -> None:
        """Give up the producer and all that it holds."""
        self._failed = ""
        for piece in self._pieces:
            if not piece.done.done():
                piece.done.set_exception(why)
            piece.records = piece.size = 0
        self._pieces.clear()
        self._records = self._bytes = 0
        self._topics.clear()  # one of them may be gone
        self._room.set()
        if self._producer is not None:
            if not self._closed:
                log.warning("the Kafka producer begins anew", why=str(why))
            ending = self._loop.run_in_executor(None, _dispose, [self._producer])
            self._producer = None
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    def _config(self) -> dict[str, object]:
        return self._link.config(
            enable_idempotence=True,
            enable_gapless_guarantee=True,
            acks="all",
            message_timeout_ms=0,
            partitioner="murmur2_random",
            compression_type="lz4",
            linger_ms=self._options.linger * 1000,
            queue_buffering_max_messages=0,
            queue_buffering_max_kbytes=1 << 20,
            topic_metadata_propagation_max_ms=5000,
            request_timeout_ms=10_000,
        )


def _pieces(records: Sequence[Record], size: int) -> Iterator[tuple[Sequence[Record], int, int]]:
    """Records, their number and the memory they need, in pieces that fit a bounded queue."""
    if len(records) <= _PIECE and size <= _PIECE_BYTES:
        yield records, len(records), size + _RECORD_COST * len(records)
        return
    start = taken = 0
    for at, record in enumerate(records):
        if at > start and (at - start >= _PIECE or taken + len(record.value) > _PIECE_BYTES):
            yield records[start:at], at - start, taken + _RECORD_COST * (at - start)
            start, taken = at, 0
        taken += len(record.value)
    yield records[start:], len(records) - start, taken + _RECORD_COST * (len(records) - start)


def _dispose(held: list[Producer]) -> None:
    """Drop what a producer holds, and then itself; that takes as long as its threads need to end."""
    producer = held.pop()
    try:
        producer.purge(blocking=False)
        producer.flush(_PURGE_S)
    except FATAL as error:
        log.debug("a Kafka producer ended badly", why=str(error))
