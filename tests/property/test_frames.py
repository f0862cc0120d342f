"""The codec under arbitrary columns and arbitrary damage."""

import contextlib
import zlib
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared import frame_pb2 as pb
from shared.errors import Rejected
from shared.frame_codec import decode, decode_body, encode
from shared.frames import (
    EPOCH_BYTES,
    Aggregates,
    Body,
    Header,
    Kind,
    Readings,
    Records,
    Scores,
    concat_readings,
    slice_readings,
)
from shared.ranges import RangeSet
from tests.golden.frame_samples import SAMPLES
from tests.golden.same import same_body

ids = st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True)
names = st.lists(ids, min_size=1, max_size=5, unique=True).map(tuple)
units = st.text(st.characters(codec="utf-8"), max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False)
times = st.integers(-(2**62), 2**62)


def column(dtype: str, rows: int, elements: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return hnp.arrays(dtype, rows, elements=elements)


@st.composite
def readings(draw: st.DrawFn, rows: int | None = None) -> Readings:
    n = draw(st.integers(1, 12)) if rows is None else rows
    sensors = draw(names)
    return Readings(
        sensors,
        tuple(draw(units) for _ in sensors),
        draw(column("int64", n, st.integers(0, len(sensors) - 1))),
        draw(column("int64", n, times)),
        draw(column("int64", n, times)),
        draw(column("float64", n, finite)),
        draw(column("uint8", n, st.integers(0, 2))),
    )


@st.composite
def scores(draw: st.DrawFn) -> Scores:
    n, sensors = draw(st.integers(1, 8)), draw(names)
    shape = (n, len(sensors))
    return Scores(
        draw(units),
        draw(st.text("0123456789abcdef", max_size=64)),
        draw(finite),
        sensors,
        draw(column("int64", n, times)),
        draw(column("float32", n, st.floats(width=32))),
        draw(column("uint8", n, st.integers(0, 2))),
        draw(hnp.arrays("float32", shape, elements=st.floats(width=32))),
        draw(hnp.arrays("float64", shape, elements=st.floats())),
    )


row_sets = st.sets(st.integers(1, 2**40), max_size=20)
ranges = row_sets.map(lambda found: tuple(RangeSet((row, row + row % 7) for row in sorted(found))))


@st.composite
def aggregates(draw: st.DrawFn) -> Aggregates:
    n, sensors = draw(st.integers(1, 8)), draw(names)
    return Aggregates(
        sensors,
        tuple(draw(units) for _ in sensors),
        draw(st.integers(1, 2**40)),
        draw(column("int64", n, st.integers(0, len(sensors) - 1))),
        draw(column("int64", n, times)),
        draw(column("int64", n, st.integers(1, 2**32 - 1))),
        draw(column("float64", n, finite)),
        draw(column("float64", n, finite)),
        draw(column("float64", n, finite)),
        replaces=draw(ranges),
    )


records = st.lists(st.binary(max_size=40), min_size=1, max_size=8).map(lambda found: Records(tuple(found)))
bodies: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.READINGS: readings(),
    Kind.SCORES: scores(),
    Kind.EVENT: records,
    Kind.AGGREGATE: aggregates(),
    Kind.WAVE: records,
    Kind.REJECT: records,
}


@st.composite
def frames(draw: st.DrawFn) -> tuple[Header, Body]:
    kind = draw(st.sampled_from(list(Kind)))
    body = draw(bodies[kind])
    machine = draw(ids) if kind is not Kind.REJECT else draw(st.one_of(st.just(""), ids))
    epoch = draw(st.binary(min_size=EPOCH_BYTES, max_size=EPOCH_BYTES))
    return Header(draw(ids), draw(ids), machine, kind, epoch, draw(st.integers(1, 2**62)), len(body)), body


@given(frame=frames())
def test_decoding_gives_back_what_was_encoded_and_again_the_same_bytes(frame: tuple[Header, Body]) -> None:
    data = encode(*frame)
    header, body = decode(data)
    assert header == frame[0]
    assert same_body(body, frame[1])
    assert encode(header, body) == data


@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_rejected_or_decode(data: bytes) -> None:
    with contextlib.suppress(Rejected):
        decode(data)
    for kind in Kind:
        with contextlib.suppress(Rejected):
            decode_body(kind, data)


@given(
    kind=st.sampled_from(list(Kind)),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.one_of(st.none(), st.integers(0, 10_000)),
    mend=st.booleans(),
)
def test_damaged_frames_are_rejected_or_decode(
    *, kind: Kind, changes: list[tuple[int, int]], cut: int | None, mend: bool
) -> None:
    """`mend`: the body is damaged under a right checksum, as a faulty sender would."""
    whole = encode(*SAMPLES[kind])
    damaged = bytearray(pb.Frame.FromString(whole).body if mend else whole)
    for place, byte in changes:
        damaged[place % len(damaged)] = byte
    if cut is not None:
        damaged = damaged[: cut % len(damaged)]
    data = bytes(damaged)
    if mend:
        frame = pb.Frame.FromString(whole)
        frame.body, frame.crc32 = data, zlib.crc32(data)
        data = frame.SerializeToString()
    with contextlib.suppress(Rejected):
        decode(data)


def rows(part: Readings) -> list[tuple[Any, ...]]:
    return [
        (part.sensor_names[s], part.units[s], *rest)
        for s, *rest in zip(
            part.sensor.tolist(),
            part.time_us.tolist(),
            part.arrival_us.tolist(),
            part.value.tolist(),
            part.quality.tolist(),
            strict=True,
        )
    ]


@given(parts=st.lists(readings(), min_size=1, max_size=4), data=st.data())
def test_concat_and_slice_keep_every_row_in_order(parts: list[Readings], data: st.DataObject) -> None:
    whole = concat_readings(parts)
    expected = [row for part in parts for row in rows(part)]
    assert rows(whole) == expected
    keys = list(zip(whole.sensor_names, whole.units, strict=True))
    if len(parts) > 1:
        assert len(keys) == len(set(keys))
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert rows(slice_readings(whole, start, stop)) == expected[start:stop]
    pieces = [slice_readings(whole, 0, start), slice_readings(whole, start, len(whole))]
    assert np.array_equal(concat_readings(pieces).value, whole.value)


def test_a_column_may_have_no_rows() -> None:
    with_rows = SAMPLES[Kind.READINGS][1]
    assert isinstance(with_rows, Readings)
    nothing = slice_readings(with_rows, 0, 0)
    assert rows(concat_readings([nothing, with_rows])) == rows(with_rows)
