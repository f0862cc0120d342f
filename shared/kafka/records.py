"""A Kafka message as the log's record, and offsets as positions.

A position counts from 1, as on the other log: the first record of a partition is 1, and none is 0. So a position is
Kafka's offset + 1, which is also the offset to go on reading from.
"""

from collections.abc import Mapping, Sequence

from confluent_kafka import Message

from shared.errors import Rejected
from shared.eventlog import Position, Record, Stored
from shared.kafka.connection import RECORD_BYTES

_FRAMING = 256


def stored(message: Message) -> Stored:
    """What a consumer received."""
    key, value, headers = message.key(), message.value(), message.headers()
    return Stored(
        message.topic() or "",
        key.decode(errors="replace") if key else "",
        value or b"",
        _headers(headers),
        str(message.partition()),
        offset_of(message) + 1,
        message.timestamp()[1] * 1000,
    )


def offset_of(message: Message) -> int:
    """Kafka's own offset of a message that has one."""
    offset = message.offset()
    return -1 if offset is None else offset


def place_of(message: Message) -> tuple[int, int]:
    """Partition and Kafka's own offset of a message that was delivered."""
    return message.partition() or 0, offset_of(message)


def next_offsets(position: Position) -> dict[int, int]:
    """Kafka's offset after each partition's position; partitions where there is none are left out."""
    return {int(partition): offset for partition, offset in position.items() if offset > 0}


def as_position(offsets: dict[int, int]) -> dict[str, int]:
    """The reverse of `next_offsets`."""
    return {str(partition): offset for partition, offset in sorted(offsets.items()) if offset > 0}


def check_size(topic: str, key: bytes, records: Sequence[Record]) -> int:
    """The records' bytes. Raises Rejected for one that is larger than any log takes."""
    sizes = [len(record.value) + (_bytes(record.headers) if record.headers else 0) for record in records]
    most = RECORD_BYTES - _FRAMING - len(key)
    if max(sizes) > most:
        raise Rejected(f"a record of {max(sizes)} bytes for {topic}; at most {most} fit")
    return sum(sizes)


def _bytes(headers: Mapping[str, str]) -> int:
    return sum(len(name) + len(value.encode()) + 4 for name, value in headers.items())


def _headers(
    headers: Mapping[str, str | bytes | None] | Sequence[tuple[str, str | bytes | None]] | None,
) -> dict[str, str]:
    return {name: _text(held) for name, held in dict(headers).items()} if headers else {}


def _text(held: bytes | str | None) -> str:
    return held.decode(errors="replace") if isinstance(held, bytes) else held or ""
