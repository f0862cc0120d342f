"""The codec: golden bytes of every kind, and every rule that a frame can break."""

import dataclasses
import zlib
from typing import Any

import numpy as np
import pytest

from shared import frame_pb2 as pb
from shared.errors import Rejected
from shared.frame_codec import VERSION, decode, decode_body, decode_header, encode, encode_body
from shared.frames import (
    MAX_BYTES,
    MAX_ROWS,
    Body,
    Header,
    Kind,
    Readings,
    Records,
    Scores,
    concat_readings,
    slice_readings,
)
from shared.ranges import Range
from tests.golden.frame_samples import EPOCH, FOLDER, REPLACING, SAMPLES, header, read
from tests.golden.same import same_body


def readings_of(kind: Kind = Kind.READINGS) -> Readings:
    body = SAMPLES[kind][1]
    assert isinstance(body, Readings)
    return body


def built(raw: bytes, kind: int = Kind.READINGS, **fields: Any) -> bytes:  # noqa: ANN401 - any field
    """A frame with this encoded body and a right checksum; `fields` spoil it."""
    made: dict[str, Any] = {
        "version": VERSION,
        "kind": int(kind),
        "site": "plant-a",
        "edge": "edge-01",
        "machine": "pump-01",
        "epoch": EPOCH,
        "first": 1,
        "count": 4,
        "crc32": zlib.crc32(raw),
        "body": raw,
        **fields,
    }
    return pb.Frame(**made).SerializeToString()


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_golden_bytes_of_every_shipped_version_still_decode(kind: Kind, version: int) -> None:
    wanted_header, wanted_body = SAMPLES[kind]
    got_header, got_body = decode(read(kind, version))
    assert got_header == wanted_header
    assert same_body(got_body, wanted_body)


@pytest.mark.parametrize("kind", Kind)
def test_encoding_gives_the_golden_bytes(kind: Kind) -> None:
    assert encode(*SAMPLES[kind]) == read(kind, VERSION)


def test_aggregates_name_the_rows_they_replace() -> None:
    golden = bytes.fromhex((FOLDER / "aggregate-replacing.v1.hex").read_text(encoding="ascii"))
    head = header(Kind.AGGREGATE, 8, 2)
    assert encode(head, REPLACING) == golden
    got_header, got = decode(golden)
    assert got_header == head
    assert same_body(got, REPLACING)


@pytest.mark.parametrize("steps", [[1], [0, 1], [1, 0], [1, 2**62, 1, 1], [1, 1] * 8193])
def test_ranges_that_go_back_or_beyond_are_rejected(steps: list[int]) -> None:
    raw = pb.Aggregates(**{**TWO_BUCKETS, "replaces": steps}).SerializeToString()
    with pytest.raises(Rejected, match="replaces"):
        decode_body(Kind.AGGREGATE, raw)


@pytest.mark.parametrize("ranges", [((2, 1),), ((1, 2), (2, 3)), tuple((n, n) for n in range(1, 2**15, 2))])
def test_ranges_that_go_back_or_are_too_many_are_not_encoded(ranges: tuple[Range, ...]) -> None:
    with pytest.raises(ValueError, match="ranges"):
        encode(header(Kind.AGGREGATE, 8, 2), dataclasses.replace(REPLACING, replaces=ranges))


def test_negative_zero_keeps_its_sign() -> None:
    _, body = decode(encode(*SAMPLES[Kind.READINGS]))
    assert isinstance(body, Readings)
    assert np.signbit(body.value[1])


def test_a_header_names_its_last_row() -> None:
    assert header(Kind.EVENT, 8, 3).last == 10


@pytest.mark.parametrize(
    ("spoiled", "body"),
    [
        (header(Kind.READINGS, 1, 3), SAMPLES[Kind.READINGS][1]),
        (header(Kind.EVENT, 1, 0), Records(())),
        (header(Kind.EVENT, 1, MAX_ROWS + 1), Records((b"",) * (MAX_ROWS + 1))),
        (header(Kind.EVENT, 1, 4), SAMPLES[Kind.READINGS][1]),
        (header(Kind.READINGS, 1, 1), Records((b"x",))),
        (header(Kind.EVENT, 0, 1), Records((b"x",))),
        (Header("plant-a", "edge-01", "pump-01", Kind.EVENT, b"short", 1, 1), Records((b"x",))),
        (header(Kind.WAVE, 1, 1), Records((b"x" * MAX_BYTES,))),
    ],
    ids=["count", "none", "too many", "kind", "kind of records", "row 0", "epoch", "too large"],
)
def test_encode_refuses_what_can_not_be_a_frame(spoiled: Header, body: Body) -> None:
    with pytest.raises(ValueError, match=r"frame|epoch"):
        encode(spoiled, body)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"version": 2}, "version 2"),
        ({"kind": 0}, "unknown frame kind 0"),
        ({"kind": 77}, "unknown frame kind 77"),
        ({"epoch": b"123"}, "an epoch has 16 bytes"),
        ({"count": 0}, "out of bounds"),
        ({"count": MAX_ROWS + 1}, "out of bounds"),
        ({"first": 0}, "out of bounds"),
        ({"first": 2**63}, "out of bounds"),
        ({"site": "Plant A"}, "site 'Plant A' is not an id"),
        ({"edge": ""}, "edge '' is not an id"),
        ({"machine": ""}, "machine '' is not an id"),
        ({"machine": "a/b"}, "machine 'a/b' is not an id"),
        ({"crc32": 1}, "checksum"),
        ({"count": 3}, "says 3 rows and holds 4"),
    ],
)
def test_decode_rejects_a_header_that_breaks_a_rule(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        decode(built(encode_body(readings_of()), **fields))


def test_decode_rejects_what_is_too_large_or_no_protobuf() -> None:
    with pytest.raises(Rejected, match="the most is"):
        decode(bytes(MAX_BYTES + 1))
    with pytest.raises(Rejected, match="not a frame"):
        decode(b"\xff\xff\xff")


def test_only_a_dead_letter_may_name_no_machine() -> None:
    raw = encode_body(Records((b"x",)))
    got, body = decode(built(raw, Kind.REJECT, machine="", count=1))
    assert (got.machine, len(body)) == ("", 1)


def test_a_reader_passes_over_fields_of_a_later_release() -> None:
    later = read(Kind.READINGS, VERSION) + bytes([0xFA, 0x01, 0x01, 0x41])  # field 31, one byte
    assert decode_header(later)[0] == SAMPLES[Kind.READINGS][0]


F8 = np.array([1.0, 2.0]).astype("<f8").tobytes()
F4 = np.array([1.0, 2.0]).astype("<f4").tobytes()
TWO_READINGS: dict[str, Any] = {
    "sensor_names": ["a"],
    "units": ["V"],
    "sensor": [0, 0],
    "time_delta": [1, 1],
    "arrival_delta": [1, 1],
    "value": F8,
}
TWO_SCORES: dict[str, Any] = {
    "sensor_names": ["a"],
    "time_delta": [1, 1],
    "score": F4,
    "state": b"\x00\x01",
    "contribution": F4,
    "expected": F8,
}
TWO_BUCKETS: dict[str, Any] = {
    "sensor_names": ["a"],
    "units": ["V"],
    "width_us": 10,
    "sensor": [0, 0],
    "start_delta": [1, 1],
    "rows": [1, 1],
    "minimum": F8,
    "maximum": F8,
    "mean": F8,
}


@pytest.mark.parametrize(
    "spoil",
    [
        {"sensor_names": ["A"]},
        {"units": []},
        {"units": ["V", "V"]},
        {"sensor": [0]},
        {"sensor": [0, 1]},
        {"time_delta": [1]},
        {"arrival_delta": [1, 2, 3]},
        {"value": F8[:-1]},
        {"value": F8[:8]},
        {"quality": b"\x00"},
        {"quality": b"\x00\x03"},
        {"value": np.array([1.0, np.nan]).astype("<f8").tobytes()},
        {"value": np.array([np.inf, 1.0]).astype("<f8").tobytes()},
        {"value": b""},
    ],
)
def test_readings_that_break_a_rule_are_rejected(spoil: dict[str, Any]) -> None:
    whole = decode_body(Kind.READINGS, pb.Readings(**TWO_READINGS).SerializeToString())
    assert len(whole) == 2
    with pytest.raises(Rejected):
        decode_body(Kind.READINGS, pb.Readings(**{**TWO_READINGS, **spoil}).SerializeToString())


@pytest.mark.parametrize(
    "spoil",
    [
        {"sensor_names": ["a", "b"]},
        {"sensor_names": ["a b"]},
        {"time_delta": []},
        {"score": F4[:-1]},
        {"state": b"\x00"},
        {"state": b"\x00\x05"},
        {"contribution": F4[:4]},
        {"expected": F8[:8]},
    ],
)
def test_scores_that_break_a_rule_are_rejected(spoil: dict[str, Any]) -> None:
    assert len(decode_body(Kind.SCORES, pb.Scores(**TWO_SCORES).SerializeToString())) == 2
    with pytest.raises(Rejected):
        decode_body(Kind.SCORES, pb.Scores(**{**TWO_SCORES, **spoil}).SerializeToString())


@pytest.mark.parametrize(
    "spoil",
    [
        {"sensor_names": ["ü"]},
        {"units": []},
        {"width_us": 0},
        {"rows": [1]},
        {"rows": [1, 0]},
        {"sensor": [0, 7]},
        {"start_delta": [1]},
        {"minimum": F8[:8]},
        {"maximum": np.array([1.0, np.inf]).astype("<f8").tobytes()},
        {"mean": np.array([1.0, np.nan]).astype("<f8").tobytes()},
    ],
)
def test_aggregates_that_break_a_rule_are_rejected(spoil: dict[str, Any]) -> None:
    assert len(decode_body(Kind.AGGREGATE, pb.Aggregates(**TWO_BUCKETS).SerializeToString())) == 2
    with pytest.raises(Rejected):
        decode_body(Kind.AGGREGATE, pb.Aggregates(**{**TWO_BUCKETS, **spoil}).SerializeToString())


@pytest.mark.parametrize("kind", Kind)
def test_a_body_that_is_no_protobuf_is_rejected(kind: Kind) -> None:
    with pytest.raises(Rejected, match="can't be read"):
        decode_body(kind, b"\xff")


def test_an_empty_body_has_no_rows() -> None:
    assert len(decode_body(Kind.READINGS, b"")) == 0
    empty = decode_body(Kind.SCORES, b"")
    assert isinstance(empty, Scores)
    assert empty.contribution.shape == (0, 0)


def test_concat_keeps_one_sensor_with_two_units_apart() -> None:
    celsius = readings_of()
    kelvin = Readings(
        ("bearing-temp",),
        ("K",),
        np.array([0]),
        celsius.time_us[:1],
        celsius.arrival_us[:1],
        np.array([334.4]),
        np.array([0], np.uint8),
    )
    both = concat_readings([celsius, kelvin, celsius])
    assert both.sensor_names == ("bearing-temp", "flow", "bearing-temp")
    assert both.units == ("degC", "m3/h", "K")
    assert both.sensor.tolist() == [0, 1, 0, 1, 2, 0, 1, 0, 1]


def test_concat_of_one_is_itself_and_slices_keep_the_dictionary() -> None:
    whole = readings_of()
    assert concat_readings([whole]) is whole
    part = slice_readings(whole, 1, 3)
    assert part.sensor_names == whole.sensor_names
    assert part.value.tolist() == whole.value[1:3].tolist()
