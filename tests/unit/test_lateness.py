"""How late readings came: the histogram, what the store keeps of it, and files of the release before."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.telemetry.lateness import BUCKETS, LateBounds, Lateness, measure, merged
from cloud.telemetry.port import Counters, Entry, Source, open_store
from cloud.telemetry.sqlite_schema import SCHEMA_VERSION, connect_writer
from shared.clock import ManualClock
from shared.eventlog import Stored
from shared.frames import Header, Kind, Readings
from shared.names import SENSOR_READINGS

EPOCH = b"e" * 16
SECOND = 1_000_000
T0 = 1_700_000_000 * SECOND


@given(
    st.lists(st.lists(st.integers(-(2**40), 2**60), min_size=1, max_size=6), min_size=1, max_size=4),
    st.integers(0, 2**50),
)
def test_each_delay_is_counted_once_in_the_bucket_of_its_size(parts: list[list[int]], bound: int) -> None:
    sizes = [len(part) for part in parts]
    starts = np.cumsum([0, *sizes[:-1]])
    found = measure(np.array([one for part in parts for one in part], np.int64), starts, bound)
    for part, (counts, late, longest) in zip(parts, found, strict=True):
        delays = [max(one, 0) for one in part]
        wanted = np.zeros(BUCKETS, np.int64)
        for one in delays:
            wanted[min(int(np.frexp(float(one))[1]), BUCKETS - 1)] += 1
        assert counts.tolist() == wanted.tolist()
        assert (late, longest) == (sum(one > bound for one in delays), max(delays))


def test_quantiles_are_upper_edges_and_never_above_the_longest() -> None:
    total = Lateness(0)
    assert total.quantile_us(0.5) == 0
    for found in measure(np.array([0] * 50 + [1000] * 49 + [5000]), np.array([0]), 2000):
        total.add(*found)
    assert (total.quantile_us(0.4), total.quantile_us(0.9), total.quantile_us(1)) == (0, 1024, 5000)
    both = merged([total, total])
    assert (both.rows, both.late, both.longest_us) == (200, 2, 5000)


def entry(first: int, delays: list[int], *, logged: int, edge: str = "edge-1") -> Entry:
    """Readings a second apart that reached the edge so many seconds late; the log took them at T0 + `logged` s."""
    count = len(delays)
    time_us = T0 + (np.arange(count) + first) * SECOND
    body = Readings(
        ("t1",), ("m",), np.zeros(count, np.int64), time_us, time_us + np.array(delays) * SECOND,
        np.zeros(count), np.zeros(count, np.uint8),
    )  # fmt: skip
    header = Header("s1", edge, edge, Kind.READINGS, EPOCH, first, count)
    return Entry(Stored(SENSOR_READINGS, edge, b"", {}, "0", first, T0 + logged * SECOND), header, body)


async def test_the_store_counts_each_stage_of_each_source_once(tmp_path: Path) -> None:
    clock = ManualClock(T0 + 1000 * SECOND)
    url, bounds = f"sqlite:///{tmp_path}/t.db", LateBounds(60 * SECOND, 10 * SECOND, 20 * SECOND)
    entries = [
        entry(1, [1, 1, 100], logged=990),
        entry(1, [2], logged=900, edge="edge-2"),
        entry(4, [1], logged=990),
    ]
    async with open_store(url, bounds=bounds, clock=clock) as store:
        await store.write(entries[:1])
        await store.write(entries)  # the first one again
    async with open_store(url, bounds=bounds, clock=clock) as store:
        await store.write([entry(5, [70], logged=990)])
        found = await store.lateness()
        one, two = found[Source("edge-1", EPOCH)], found[Source("edge-2", EPOCH)]
    assert [(one[s].rows, one[s].late) for s in ("device", "uplink", "store")] == [(5, 2), (5, 5), (5, 0)]
    assert one["device"].longest_us == 100 * SECOND
    assert [(two[s].rows, two[s].late) for s in ("device", "uplink", "store")] == [(1, 0), (1, 1), (1, 1)]
    assert one["device"].quantile_us(0.5) == 2**20


async def test_without_a_clock_the_way_into_the_store_is_not_counted(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        await store.write([entry(1, [1], logged=2)])
        assert set((await store.lateness())[Source("edge-1", EPOCH)]) == {"device", "uplink"}


@pytest.fixture
def first_release(tmp_path: Path) -> Path:
    """A file as the first release made it."""
    path = tmp_path / "old.db"
    db = connect_writer(path)
    db.executescript(
        "DROP TABLE rollups; DROP TABLE expired; DROP TABLE lateness; DROP TABLE counters; CREATE TABLE counters (edge TEXT PRIMARY KEY, duplicates INTEGER"
        " NOT NULL, conflicts INTEGER NOT NULL, redelivered INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
        "INSERT INTO sources (edge, epoch) VALUES ('e1', x'01'), ('e1', x'02');"
        "INSERT INTO counters VALUES ('e1', 3, 2, 1), ('', 0, 0, 5); PRAGMA user_version = 1;"
    )
    db.close()
    return path


async def test_a_file_of_the_first_release_is_read_as_it_is_and_brought_up_by_its_writer(
    first_release: Path,
) -> None:
    url = f"sqlite:///{first_release}"
    async with open_store(url, read_only=True) as store:
        assert (await store.counters())[Source("e1", b"")] == Counters(3, 2, 1)
        assert await store.lateness() == {}
    async with open_store(url) as store:
        assert await store.counters() == {
            Source("e1", b"\x02"): Counters(3, 2, 1),
            Source("", b""): Counters(0, 0, 5),
        }
        await store.write([entry(1, [1], logged=2)])
        assert len(await store.lateness()) == 1
    db = sqlite3.connect(first_release)
    assert db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
    db.close()
