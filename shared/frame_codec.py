"""The codec between a frame's columns and the bytes of `frame.proto`.

Encoding the same rows gives the same bytes (golden files hold it), so a resend is byte for byte what was sent before.
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from shared import frame_pb2 as pb
from shared.errors import Rejected
from shared.frames import (
    EPOCH_BYTES,
    MAX_BYTES,
    MAX_REPLACES,
    MAX_ROWS,
    Aggregates,
    Body,
    Header,
    Kind,
    Quality,
    Readings,
    Records,
    Scores,
    ScoreState,
)
from shared.names import check_id
from shared.ranges import Range

VERSION: Final = 1
_MAX_FIRST: Final = 2**62
_KNOWN_SENSORS: Final = 4096

_BODIES: Final[dict[Kind, type[Body]]] = {
    Kind.READINGS: Readings,
    Kind.SCORES: Scores,
    Kind.EVENT: Records,
    Kind.AGGREGATE: Aggregates,
    Kind.WAVE: Records,
    Kind.REJECT: Records,
}


def encode(header: Header, body: Body) -> bytes:
    """The frame's bytes. Raises ValueError if the header and the body disagree or a bound is passed.

    NaN and infinities are the caller's to keep out: they encode, and `decode` refuses them.
    """
    if len(body) != header.count or not 1 <= header.count <= MAX_ROWS:
        raise ValueError(
            f"a frame has 1 to {MAX_ROWS} rows and says how many: {header.count}, not {len(body)}"
        )
    if type(body) is not _BODIES[header.kind]:
        raise ValueError(f"a {header.kind.name} frame holds no {type(body).__name__}")
    if len(header.epoch) != EPOCH_BYTES or not 1 <= header.first <= _MAX_FIRST:
        raise ValueError(f"an epoch has {EPOCH_BYTES} bytes and rows count from 1")
    raw = encode_body(body)
    frame = pb.Frame(
        version=VERSION,
        kind=int(header.kind),  # type: ignore[arg-type]
        site=header.site,
        edge=header.edge,
        machine=header.machine,
        epoch=header.epoch,
        first=header.first,
        count=header.count,
        crc32=zlib.crc32(raw),
        body=raw,
    )
    data = frame.SerializeToString(deterministic=True)
    if len(data) > MAX_BYTES:
        raise ValueError(f"a frame has at most {MAX_BYTES} bytes, not {len(data)}: cut it into fewer rows")
    return data


def decode_header(data: bytes) -> tuple[Header, bytes]:
    """The header and the still encoded body, checked for bounds, ids and the body's checksum. Raises Rejected."""
    if len(data) > MAX_BYTES:
        raise Rejected(f"frame of {len(data)} bytes: the most is {MAX_BYTES}")
    try:
        frame = pb.Frame.FromString(data)
    except DecodeError as error:
        raise Rejected(f"not a frame: {error}") from error
    if frame.version != VERSION:
        raise Rejected(f"frame version {frame.version}: this release reads {VERSION}; upgrade the receiver")
    if frame.kind not in Kind._value2member_map_:
        raise Rejected(f"unknown frame kind {frame.kind}")
    if len(frame.epoch) != EPOCH_BYTES:
        raise Rejected(f"an epoch has {EPOCH_BYTES} bytes, not {len(frame.epoch)}")
    if not 1 <= frame.count <= MAX_ROWS or not 1 <= frame.first <= _MAX_FIRST:
        raise Rejected(f"rows {frame.first} + {frame.count} are out of bounds")
    check_id(frame.site, "site")
    check_id(frame.edge, "edge")
    kind = Kind(frame.kind)
    if frame.machine or kind is not Kind.REJECT:
        check_id(frame.machine, "machine")
    if zlib.crc32(frame.body) != frame.crc32:
        raise Rejected("the frame's body does not match its checksum")
    header = Header(frame.site, frame.edge, frame.machine, kind, frame.epoch, frame.first, frame.count)
    return header, frame.body


def decode(data: bytes) -> tuple[Header, Body]:
    """The header and the columns. Raises Rejected for bytes that are no frame or break one of its rules."""
    header, raw = decode_header(data)
    return header, decode_rows(header, raw)


def decode_rows(header: Header, raw: bytes) -> Body:
    """The columns of a frame whose header was decoded. Raises Rejected."""
    body = decode_body(header.kind, raw)
    if len(body) != header.count:
        raise Rejected(f"the frame says {header.count} rows and holds {len(body)}")
    return body


def encode_body(body: Body) -> bytes:
    """The encoded columns alone, as an outbox keeps rows that wait for their cut."""
    match body:
        case Readings():
            return pb.Readings(
                sensor_names=body.sensor_names,
                units=body.units,
                sensor=body.sensor.tolist(),
                time_delta=_deltas(body.time_us),
                arrival_delta=_deltas(body.arrival_us),
                value=_bytes(body.value, "<f8"),
                quality=body.quality.astype(np.uint8).tobytes() if body.quality.any() else b"",
            ).SerializeToString(deterministic=True)
        case Scores():
            return pb.Scores(
                model=body.model,
                version_hash=body.version_hash,
                limit=body.limit,
                sensor_names=body.sensor_names,
                time_delta=_deltas(body.time_us),
                score=_bytes(body.score, "<f4"),
                state=body.state.astype(np.uint8).tobytes(),
                contribution=_bytes(body.contribution, "<f4"),
                expected=_bytes(body.expected, "<f8"),
            ).SerializeToString(deterministic=True)
        case Aggregates():
            return pb.Aggregates(
                sensor_names=body.sensor_names,
                units=body.units,
                width_us=body.width_us,
                sensor=body.sensor.tolist(),
                start_delta=_deltas(body.start_us),
                rows=body.rows.tolist(),
                minimum=_bytes(body.minimum, "<f8"),
                maximum=_bytes(body.maximum, "<f8"),
                mean=_bytes(body.mean, "<f8"),
                replaces=_range_deltas(body.replaces),
            ).SerializeToString(deterministic=True)
        case Records():
            return pb.Records(record=body.record).SerializeToString(deterministic=True)


def decode_body(kind: Kind, raw: bytes) -> Body:
    """The columns of an encoded body. Raises Rejected."""
    try:
        match kind:
            case Kind.READINGS:
                return _readings(pb.Readings.FromString(raw))
            case Kind.SCORES:
                return _scores(pb.Scores.FromString(raw))
            case Kind.AGGREGATE:
                return _aggregates(pb.Aggregates.FromString(raw))
            case Kind.EVENT | Kind.REJECT | Kind.WAVE:
                return Records(tuple(pb.Records.FromString(raw).record))
    except DecodeError as error:
        raise Rejected(f"the frame's body can't be read: {error}") from error


def _readings(message: pb.Readings) -> Readings:
    names = _sensors(tuple(message.sensor_names))
    value = _floats(message.value, "<f8")
    rows = len(value)
    sensor = _indices(message.sensor, len(names), rows)
    if len(message.units) != len(names):
        raise Rejected(f"{len(names)} sensors and {len(message.units)} units")
    if message.quality:
        quality = np.frombuffer(message.quality, np.uint8)
        if len(quality) != rows or quality.max() > Quality.BAD:
            raise Rejected("quality does not fit the rows")
    else:
        quality = np.zeros(rows, np.uint8)
    if not np.isfinite(value).all():
        raise Rejected("a reading is NaN or infinite")
    return Readings(
        names,
        tuple(message.units),
        sensor,
        _times(message.time_delta, rows),
        _times(message.arrival_delta, rows),
        value,
        quality,
    )


def _scores(message: pb.Scores) -> Scores:
    names = _sensors(tuple(message.sensor_names))
    score = _floats(message.score, "<f4")
    rows, width = len(score), len(names)
    state = np.frombuffer(message.state, np.uint8)
    contribution = _floats(message.contribution, "<f4")
    expected = _floats(message.expected, "<f8")
    if len(state) != rows or len(contribution) != rows * width or len(expected) != rows * width:
        raise Rejected("the columns of the scores differ in length")
    if rows and state.max() > max(ScoreState):
        raise Rejected(f"unknown score state {state.max()}")
    return Scores(
        message.model,
        message.version_hash,
        message.limit,
        names,
        _times(message.time_delta, rows),
        score.astype(np.float32),
        state,
        contribution.astype(np.float32).reshape(rows, width),
        expected.reshape(rows, width),
    )


def _aggregates(message: pb.Aggregates) -> Aggregates:
    names = _sensors(tuple(message.sensor_names))
    mean = _floats(message.mean, "<f8")
    minimum, maximum = _floats(message.minimum, "<f8"), _floats(message.maximum, "<f8")
    rows = len(mean)
    if not len(minimum) == len(maximum) == len(message.rows) == rows or len(message.units) != len(names):
        raise Rejected("the columns of the aggregates differ in length")
    if message.width_us < 1 or 0 in message.rows:
        raise Rejected("an aggregate has a width and replaces at least one row")
    if not (np.isfinite(mean).all() and np.isfinite(minimum).all() and np.isfinite(maximum).all()):
        raise Rejected("an aggregate is NaN or infinite")
    return Aggregates(
        names,
        tuple(message.units),
        message.width_us,
        _indices(message.sensor, len(names), rows),
        _times(message.start_delta, rows),
        np.asarray(message.rows, np.int64),
        minimum,
        maximum,
        mean,
        replaces=_ranges(message.replaces),
    )


@lru_cache(maxsize=_KNOWN_SENSORS)
def _sensors(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, each an id; a machine's frames have the same ones over and over. Raises Rejected."""
    for name in names:
        check_id(name, "sensor")
    return names


def _deltas(times: NDArray[np.int64]) -> list[int]:
    deltas: list[int] = np.diff(times, prepend=0).tolist()
    return deltas


def _times(deltas: Sequence[int], rows: int) -> NDArray[np.int64]:
    if len(deltas) != rows:
        raise Rejected(f"{len(deltas)} times for {rows} rows")
    return np.array(
        deltas[:], np.int64
    ).cumsum()  # a list first: numpy asks protobuf's containers item by item


def _range_deltas(ranges: Sequence[Range]) -> list[int]:
    """Ranges in order as steps: from the last row before to the first, and how many rows. Raises ValueError."""
    if len(ranges) > MAX_REPLACES:
        raise ValueError(f"an aggregate names at most {MAX_REPLACES} ranges, not {len(ranges)}")
    steps: list[int] = []
    end = 0
    for first, last in ranges:
        if not end < first <= last:
            raise ValueError(f"ranges of rows go up, and {first} to {last} comes after {end}")
        steps += [first - end, last - first + 1]
        end = last
    return steps


def _ranges(steps: Sequence[int]) -> tuple[Range, ...]:
    if len(steps) % 2 or len(steps) > 2 * MAX_REPLACES or (steps and min(steps) < 1):
        raise Rejected("what an aggregate replaces can't be read")
    found: list[Range] = []
    end = 0
    for step, count in zip(steps[::2], steps[1::2], strict=True):
        found.append((end + step, end + step + count - 1))
        end += step + count - 1
    if end > _MAX_FIRST:
        raise Rejected(f"an aggregate replaces rows up to {end}: out of bounds")
    return tuple(found)


def _indices(sensor: Sequence[int], names: int, rows: int) -> NDArray[np.int64]:
    index = np.array(sensor[:], np.int64)
    if len(index) != rows or (rows and index.max() >= names):
        raise Rejected("the sensor column does not fit the rows or the names")
    return index


def _bytes(column: NDArray[np.float64] | NDArray[np.float32], dtype: str) -> bytes:
    return column.astype(dtype).tobytes()


def _floats(raw: bytes, dtype: str) -> NDArray[np.float64]:
    width = int(dtype[-1])
    if len(raw) % width:
        raise Rejected(f"a column of {len(raw)} bytes does not hold {width}-byte numbers")
    return np.frombuffer(raw, dtype)
