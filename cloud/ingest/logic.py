"""What a log record is to the store: decoded content, rows to count as rejected, or a dead letter. No I/O here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import orjson

from cloud.telemetry.port import Content, Entry, EventFact
from shared import names
from shared.dead_letter import DeadLetter
from shared.errors import Rejected
from shared.eventlog import Record, Stored
from shared.events import to_us
from shared.frame_codec import decode_header, decode_rows
from shared.frames import Aggregates, Header, Kind, Readings, Scores
from shared.origin import origin

TOPICS: Final = (names.SENSOR_READINGS, names.SCORES, names.MACHINE_EVENTS, names.DEAD_LETTER)

_KINDS: Final[Mapping[str, frozenset[Kind]]] = {
    names.SENSOR_READINGS: frozenset({Kind.READINGS, Kind.AGGREGATE}),
    names.SCORES: frozenset({Kind.SCORES}),
}


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that can't be stored, and why: it goes on `dead-letter`."""

    record: Stored
    reason: str

    def to_record(self) -> Record:
        """The dead letter. Its id lets the log drop a second one soon after."""
        letter = DeadLetter.of(
            self.reason,
            self.record.topic,
            self.record.value,
            source="ingest",
            received_us=self.record.time_us,
            position={self.record.partition: self.record.offset},
        )
        return Record(
            letter.encode(), id=f"ingest:{self.record.topic}:{self.record.partition}:{self.record.offset}"
        )


def read_batch(records: Iterable[Stored]) -> tuple[list[Entry], list[Letter]]:
    """Every record as an entry, and a letter for each that can't be stored."""
    read = [read_record(record) for record in records]
    return [entry for entry, _ in read], [letter for _, letter in read if letter is not None]


def read_record(record: Stored) -> tuple[Entry, Letter | None]:
    """A record as the store takes it. What can't be stored keeps its place, and its rows if its header is readable."""
    header: Header | None = None
    try:
        match record.topic:
            case names.DEAD_LETTER:
                # A dead letter is rows that were rejected before the log; one without origin is only a place.
                return Entry(record, origin(record, Kind.REJECT), None), None
            case names.MACHINE_EVENTS:
                header = origin(record, Kind.EVENT)
                return Entry(record, header, read_event(record.value)), None
            case _:
                header, raw = decode_header(record.value)
                return Entry(record, header, _content(record.topic, header, raw)), None
    except Rejected as error:
        return Entry(record, header, None), Letter(record, error.reason)


def read_event(value: bytes) -> EventFact:
    """The envelope of a CloudEvent of any type, known to this release or not. Raises Rejected."""
    try:
        envelope = orjson.loads(value)
        identity, kind, machine = envelope["id"], envelope["type"], envelope["subject"]
        moment = datetime.fromisoformat(envelope["time"])
        if not all(isinstance(text, str) and text for text in (identity, kind, machine)):
            raise Rejected("an event needs id, type and subject as text")
        if moment.tzinfo is None:
            raise Rejected("an event's time needs its offset from UTC")
        return EventFact(identity, kind, machine, to_us(moment), value)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise Rejected(f"not an event: {str(error)[:300]}") from error


def _content(topic: str, header: Header, raw: bytes) -> Content:
    body = decode_rows(header, raw)
    if header.kind not in _KINDS.get(topic, frozenset()):
        raise Rejected(f"a frame of kind {header.kind.name} does not belong on {topic!r}")
    match body:
        case Readings():
            return body
        case Scores() if np.isfinite(body.limit):
            return body
        case Aggregates() if body.width_us > 0 and _finite(body):
            return body
    raise Rejected("a limit or an aggregate is NaN or infinite, or a bucket has no width")


def _finite(body: Aggregates) -> bool:
    return all(bool(np.isfinite(column).all()) for column in (body.minimum, body.maximum, body.mean))
