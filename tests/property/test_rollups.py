"""Minutes and hours are those of the readings, whatever order, batches, repetition or conflict these came with."""

import random
import sqlite3
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.telemetry.facts import DAY_US, HOUR_US, MINUTE_US, Entry, Retention
from cloud.telemetry.lateness import LateBounds
from cloud.telemetry.sqlite_expired import expire
from cloud.telemetry.sqlite_rollup_read import rollups
from cloud.telemetry.sqlite_schema import connect_writer
from cloud.telemetry.sqlite_trend import trends
from cloud.telemetry.sqlite_write import Writer, transaction
from shared.eventlog import Stored
from shared.frames import Header, Kind, Readings
from shared.names import SENSOR_READINGS

T0 = 1_750_000_000_000_000 // DAY_US * DAY_US
SECOND = 1_000_000
HUGE = 1.7e308

Row = tuple[int, int, float, int, int, int]
Reading = tuple[int, float, int]

# Few times, so that identities meet, on both sides of the edges of minutes and of an hour.
at = st.builds(
    lambda hour, minute, step: hour * HOUR_US + minute * MINUTE_US + step,
    st.sampled_from([0, 1]),
    st.sampled_from([0, 1, 59]),
    st.sampled_from([0, 1, 30 * SECOND, MINUTE_US - 1]),
)
rows = st.lists(
    st.tuples(
        st.integers(0, 1),  # sensor
        at,
        st.one_of(st.integers(-5, 5).map(float), st.sampled_from([-HUGE, HUGE, 0.1])),
        st.integers(0, 2),  # quality
        st.integers(0, 2),  # arrival
        st.integers(0, 1),  # epoch
    ),
    min_size=1,
    max_size=24,
)


def entries(table: list[Row], frame_rows: int) -> list[Entry]:
    made = []
    for epoch in (0, 1):
        own = [row for row in table if row[5] == epoch]
        for start in range(0, len(own), frame_rows):
            part = own[start : start + frame_rows]
            body = Readings(
                ("a", "b"),
                ("m", "m"),
                np.array([r[0] for r in part], np.int64),
                np.array([T0 + r[1] for r in part], np.int64),
                np.array([r[4] for r in part], np.int64),
                np.array([r[2] for r in part], np.float64),
                np.array([r[3] for r in part], np.uint8),
            )
            header = Header("s", "e", "m", Kind.READINGS, bytes([epoch]) * 16, start + 1, len(part))
            made.append(Entry(Stored(SENSOR_READINGS, "m", b"", {}, "0", start + 1, 0), header, body))
    return made


def content(db: sqlite3.Connection) -> dict[str, list[Reading]]:
    """The readings, as the store settled them."""
    found: dict[str, list[Reading]] = {}
    query = "SELECT sensor, time_us, value, quality FROM readings r JOIN series s ON s.id = r.series ORDER BY 1, 2"
    for sensor, *reading in db.execute(query):
        found.setdefault(sensor, []).append((reading[0], reading[1], reading[2]))
    return found


def recomputed(readings: list[Reading], width_us: int) -> list[tuple[float, ...]]:
    """Start, rows, minimum, maximum, last, worst quality, mean of each bucket, by plain arithmetic."""
    made: list[tuple[float, ...]] = []
    for place, group in groupby(readings, lambda one: one[0] // width_us):
        part = list(group)
        values = [value for _, value, _ in part]
        mean = sum(value / len(values) for value in values)
        worst = max(quality for _, _, quality in part)
        made.append((place * width_us, len(part), min(values), max(values), values[-1], worst, mean))
    return made


def kept(db: sqlite3.Connection, width_us: int) -> dict[str, list[tuple[float, ...]]]:
    found = {}
    for one in rollups(db, "m", None, width_us, 0, T0 + 10 * DAY_US):
        columns = (one.start_us, one.rows, one.minimum, one.maximum, one.last, one.quality, one.mean)
        found[one.sensor] = list(zip(*(column.tolist() for column in columns), strict=True))
    return found


def assert_same(found: list[tuple[float, ...]], wanted: list[tuple[float, ...]]) -> None:
    assert [one[:-1] for one in found] == [one[:-1] for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        size = max(abs(one[2]), abs(one[3]))
        assert one[-1] == pytest.approx(other[-1], rel=1e-12, abs=size * 1e-12)


@given(rows, st.integers(1, 5), st.integers(1, 4), st.randoms(use_true_random=False))
def test_whatever_order_batches_and_repetition_rollups_are_those_of_the_readings(
    table: list[Row], frame_rows: int, batch: int, rng: random.Random
) -> None:
    plain = entries(table, frame_rows)
    shuffled = plain + rng.sample(plain, k=len(plain) // 2)
    rng.shuffle(shuffled)
    with TemporaryDirectory() as folder:
        db = connect_writer(Path(folder) / "t.db")
        db.execute("PRAGMA synchronous = OFF")
        writer = Writer(db, LateBounds())
        for start in range(0, len(shuffled), batch):
            writer.write(shuffled[start : start + batch])
        readings = content(db)
        for width_us in (MINUTE_US, HOUR_US):
            found = kept(db, width_us)
            for sensor in ("a", "b"):
                assert_same(found[sensor], recomputed(readings.get(sensor, []), width_us))
        db.close()


# Many readings in few hours and minutes, and ranges that begin and end among them.
spot = st.builds(
    lambda hour, minute, second: ((hour * 60 + minute) * 60 + second) * SECOND,
    st.sampled_from([0, 1, 2, 40, 41, 95]),
    st.sampled_from([0, 1, 30, 59]),
    st.sampled_from([0, 1, 30, 59]),
)
history = st.lists(
    st.tuples(spot, st.integers(-9, 9).map(float)), min_size=12, max_size=50, unique_by=lambda one: one[0]
)
moment = st.builds(lambda place, off: T0 + place + off * SECOND, spot, st.sampled_from([-1, 0, 1]))


@given(history, moment, moment, st.integers(1, 9), st.one_of(st.none(), st.integers(0, 100)))
def test_a_curve_has_each_reading_of_its_range_once_from_whatever_it_is_made(
    table: list[tuple[int, float]], one: int, other: int, most: int, hours: int | None
) -> None:
    """With `hours`, readings before that hour have expired: then a minute is in the range if its start is."""
    from_us, to_us = min(one, other), max(one, other)
    gone = T0 if hours is None else T0 + hours * HOUR_US
    with TemporaryDirectory() as folder:
        db = connect_writer(Path(folder) / "t.db")
        db.execute("PRAGMA synchronous = OFF")
        Writer(db, LateBounds()).write(
            entries([(0, time, value, 0, 0, 0) for time, value in table], len(table))
        )
        readings = content(db).get("a", [])
        if hours is not None:
            with transaction(db):
                expire(db, Retention(raw_us=DAY_US), gone + DAY_US)
        [found] = trends(db, "m", ["a"], from_us, to_us, most)
        db.close()
    wanted = [
        (time, value)
        for time, value, _ in readings
        if from_us <= (time if time >= gone else time // MINUTE_US * MINUTE_US) < to_us
    ]
    assert len(found.value) <= most
    assert found.rows == len(wanted)
    assert np.all(np.diff(found.time_us) > 0)
    if wanted:
        assert found.time_us[-1] == wanted[-1][0]
        assert found.minimum.min() == min(value for _, value in wanted)
        assert found.maximum.max() == max(value for _, value in wanted)
        assert np.all((found.minimum <= found.value + 1e-9) & (found.value <= found.maximum + 1e-9))
        if all(time >= gone for time, _ in wanted):
            assert found.downsampled == (len(wanted) > most)
