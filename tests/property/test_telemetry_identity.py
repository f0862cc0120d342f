"""The store's content depends on the rows written and on nothing else: not their order, batches or repetition."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloud.telemetry.lateness import LateBounds
from cloud.telemetry.port import Entry, WriteResult
from cloud.telemetry.sqlite_read import chunk, stored_ranges
from cloud.telemetry.sqlite_schema import connect_writer
from cloud.telemetry.sqlite_write import Writer
from shared.eventlog import Stored
from shared.frames import Header, Kind, Readings
from shared.names import SENSOR_READINGS

Row = tuple[int, int, int, int, int]
Content = dict[tuple[str, int], tuple[float, int, int]]

rows = st.lists(
    st.tuples(
        st.integers(0, 1),  # sensor
        st.integers(0, 3),  # time
        st.integers(0, 2),  # value
        st.integers(0, 2),  # arrival
        st.integers(0, 1),  # epoch
    ),
    max_size=14,
)


def entries(table: list[Row], frame_rows: int) -> list[Entry]:
    made = []
    for epoch in (0, 1):
        own = [row for row in table if row[4] == epoch]
        for start in range(0, len(own), frame_rows):
            part = own[start : start + frame_rows]
            first = start + 1
            body = Readings(
                ("a", "b"),
                ("m", "m"),
                np.array([r[0] for r in part], np.int64),
                np.array([r[1] for r in part], np.int64),
                np.array([r[3] for r in part], np.int64),
                np.array([r[2] for r in part], np.float64),
                np.zeros(len(part), np.uint8),
            )
            header = Header("s", "e", "m", Kind.READINGS, bytes([epoch]) * 16, first, len(part))
            made.append(Entry(Stored(SENSOR_READINGS, "m", b"", {}, "0", first, 0), header, body))
    return made


def expected(table: list[Row]) -> Content:
    best: dict[tuple[str, int], tuple[int, int, int, float]] = {}
    number = {0: 0, 1: 0}
    for sensor, at, value, arrival, epoch in table:
        number[epoch] += 1
        key = ("ab"[sensor], at)
        best[key] = max(best.get(key, (-1, 0, 0, 0.0)), (arrival, epoch, number[epoch], float(value)))
    return {key: (value, arrival, row) for key, (arrival, _, row, value) in best.items()}


def content(path: Path, batches: list[list[Entry]]) -> tuple[Content, WriteResult]:
    connection = connect_writer(path)
    connection.execute("PRAGMA synchronous = OFF")
    writer = Writer(connection, LateBounds())
    total = WriteResult()
    for batch in batches:
        result = writer.write(batch)
        total.rows += result.rows
        total.duplicates += result.duplicates
        total.conflicts += result.conflicts
    part, _ = chunk(connection, "m", ("a", "b"), 0, 100, 1000)
    held = sum(len(r.stored) for r in stored_ranges(connection, None).values())
    connection.close()
    assert held == total.rows + total.duplicates + total.conflicts
    found = {
        (part.sensors[s], t): (v, a, r)
        for s, t, v, a, r in zip(
            part.sensor.tolist(),
            part.time_us.tolist(),
            part.value.tolist(),
            part.arrival_us.tolist(),
            part.row.tolist(),
            strict=True,
        )
    }
    return found, total


@given(rows, st.integers(1, 5), st.integers(1, 4), st.randoms(use_true_random=False))
def test_any_order_any_batches_any_repetition_give_the_same_content(
    table: list[Row], frame_rows: int, batch: int, rng: random.Random
) -> None:
    plain = entries(table, frame_rows)
    shuffled = plain + rng.sample(plain, k=len(plain) // 2)
    rng.shuffle(shuffled)
    batches = [shuffled[i : i + batch] for i in range(0, len(shuffled), batch)]
    with TemporaryDirectory() as folder:
        found, total = content(Path(folder) / "t.db", batches)
    assert found == expected(table)
    assert total.rows == len(found)
