"""What ingest makes of each record of the log."""

from typing import Any

import numpy as np
import orjson
import pytest

from cloud.ingest.logic import Letter, read_batch, read_event, read_record
from cloud.telemetry.port import EventFact
from shared import names
from shared.dead_letter import DeadLetter
from shared.errors import Rejected
from shared.eventlog import Stored
from shared.frame_codec import encode
from shared.frames import Aggregates, Body, Header, Kind, Readings, Records, Scores
from shared.origin import origin

EPOCH = b"e" * 16
ORIGIN = {
    names.HEADER_SITE: "s1",
    names.HEADER_EDGE: "edge-1",
    names.HEADER_EPOCH: EPOCH.hex(),
    names.HEADER_ROW: "7",
}
EVENT: dict[str, Any] = {
    "id": "abc",
    "type": "anomaly.started",
    "subject": "pump-1",
    "time": "2025-06-01T00:00:00.000001+00:00",
}


def record(topic: str, value: bytes, headers: dict[str, str] | None = None) -> Stored:
    return Stored(topic, "pump-1", value, headers or {}, "0", 3, 5)


def frame(kind: Kind, body: Body) -> bytes:
    return encode(Header("s1", "edge-1", "pump-1", kind, EPOCH, 7, len(body)), body)


def readings() -> Readings:
    one = np.ones(1, np.int64)
    return Readings(("t1",), ("degC",), one - 1, one, one, np.array([1.5]), np.zeros(1, np.uint8))


def aggregates(width: int, mean: float) -> Aggregates:
    one = np.ones(1, np.int64)
    value = np.array([mean])
    return Aggregates(("t1",), ("degC",), width, one - 1, one, one, value, value, value)


def scores(limit: float) -> Scores:
    part = np.zeros((1, 1))
    return Scores(
        "pca",
        "aa",
        limit,
        ("t1",),
        np.ones(1, np.int64),
        np.ones(1, np.float32),
        np.zeros(1, np.uint8),
        part.astype(np.float32),
        part,
    )


@pytest.mark.parametrize(
    ("topic", "kind", "body"),
    [
        (names.SENSOR_READINGS, Kind.READINGS, readings()),
        (names.SENSOR_READINGS, Kind.AGGREGATE, aggregates(10, 1.0)),
        (names.SCORES, Kind.SCORES, scores(2.0)),
    ],
)
def test_a_frame_on_its_topic_is_content(topic: str, kind: Kind, body: Body) -> None:
    entry, letter = read_record(record(topic, frame(kind, body)))
    assert letter is None
    assert entry.header is not None
    assert (entry.header.first, entry.header.kind) == (7, kind)
    assert type(entry.content) is type(body)


@pytest.mark.parametrize(
    ("topic", "kind", "body"),
    [
        (names.SCORES, Kind.READINGS, readings()),
        (names.SENSOR_READINGS, Kind.EVENT, Records((b"{}",))),
        (names.SENSOR_READINGS, Kind.AGGREGATE, aggregates(0, 1.0)),
        (names.SENSOR_READINGS, Kind.AGGREGATE, aggregates(10, float("nan"))),
        (names.SCORES, Kind.SCORES, scores(float("inf"))),
    ],
)
def test_a_frame_that_cannot_be_stored_keeps_its_rows_and_is_a_dead_letter(
    topic: str, kind: Kind, body: Body
) -> None:
    entry, letter = read_record(record(topic, frame(kind, body)))
    assert entry.content is None
    assert entry.header is not None
    assert entry.header.first == 7
    assert letter is not None


def test_bytes_that_are_no_frame_keep_only_their_place() -> None:
    entries, letters = read_batch([record(names.SENSOR_READINGS, b"garbage"), record(names.SCORES, b"")])
    assert [(e.header, e.content) for e in entries] == [(None, None)] * 2
    assert len(letters) == 2
    made = letters[0].to_record()
    told = DeadLetter.decode(made.value)
    assert (told.topic, told.payload, told.position) == (names.SENSOR_READINGS, b"garbage", {"0": 3})
    assert made.id == "ingest:sensor-readings:0:3"


def test_a_large_dead_letter_is_bounded() -> None:
    told = DeadLetter.decode(Letter(record("scores", b"x" * 200_000), "why").to_record().value)
    assert not told.whole
    assert told.size == 200_000


def test_an_event_of_any_type_is_content_with_its_origin() -> None:
    entry, letter = read_record(record(names.MACHINE_EVENTS, orjson.dumps(EVENT), ORIGIN))
    assert letter is None
    assert entry.content == EventFact(
        "abc", "anomaly.started", "pump-1", 1_748_736_000_000_001, orjson.dumps(EVENT)
    )
    assert entry.header == Header("s1", "edge-1", "pump-1", Kind.EVENT, EPOCH, 7, 1)
    from_cloud, _ = read_record(record(names.MACHINE_EVENTS, orjson.dumps(EVENT)))
    assert from_cloud.header is None


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"type": 5},
        {"subject": None},
        {"time": "yesterday"},
        {"time": "2025-06-01T00:00:00"},
        {"time": 7},
    ],
)
def test_a_crooked_event_is_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(Rejected):
        read_event(orjson.dumps(EVENT | change))


@pytest.mark.parametrize("value", [b"", b"[]", b"7", b'"text"', b"{", b"\xff"])
def test_what_is_no_json_object_is_rejected_with_its_row(value: bytes) -> None:
    entry, letter = read_record(record(names.MACHINE_EVENTS, value, ORIGIN))
    assert letter is not None
    assert entry.content is None
    assert entry.header is not None


def test_a_dead_letter_is_rows_rejected_and_never_a_dead_letter_again() -> None:
    entry, letter = read_record(record(names.DEAD_LETTER, b"\x00anything", ORIGIN | {names.HEADER_ROWS: "3"}))
    assert letter is None
    assert entry.content is None
    assert entry.header is not None
    assert (entry.header.first, entry.header.last) == (7, 9)
    own, letter = read_record(record(names.DEAD_LETTER, b"{}"))
    assert (own.header, letter) == (None, None)


@pytest.mark.parametrize(
    "change",
    [
        {names.HEADER_ROW: "0"},
        {names.HEADER_ROW: "x"},
        {names.HEADER_ROWS: "1001"},
        {names.HEADER_EPOCH: "ab"},
        {names.HEADER_EPOCH: "zz"},
        {names.HEADER_EDGE: "Not An Id"},
    ],
)
def test_crooked_headers_are_no_origin(change: dict[str, str]) -> None:
    assert origin(record(names.DEAD_LETTER, b"", ORIGIN | change), Kind.REJECT) is None
