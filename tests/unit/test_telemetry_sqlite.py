"""The embedded store where it meets the disk: full, locked, foreign files, death in the middle of a write."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from cloud.telemetry.port import (
    END_US,
    HOUR_US,
    MINUTE_US,
    Entry,
    EventFact,
    Rollups,
    Source,
    Trend,
    open_store,
)
from cloud.telemetry.sqlite import SqliteStore
from cloud.telemetry.sqlite_schema import connect_writer
from shared.errors import Misconfigured, Unavailable
from shared.eventlog import Stored
from shared.frames import Header, Kind, Readings
from shared.names import MACHINE_EVENTS, SENSOR_READINGS

EPOCH = b"e" * 16


def event(row: int, size: int = 10) -> Entry:
    record = Stored(MACHINE_EVENTS, "pump-1", b"", {}, "0", row, 0)
    header = Header("s1", "edge-1", "pump-1", Kind.EVENT, EPOCH, row, 1)
    return Entry(record, header, EventFact(f"id-{row}", "x", "pump-1", row, b"x" * size))


async def test_a_full_disk_is_unavailable_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        assert isinstance(store, SqliteStore)
        await store.write([event(1)])
        pages = store._connections[0].execute("PRAGMA page_count").fetchone()[0]
        store._connections[0].execute(f"PRAGMA max_page_count = {pages + 5}")
        with pytest.raises(Unavailable):
            await store.write([event(2), event(3, 200_000)])
        assert [e.fact.id for e in await store.events()] == ["id-1"]
        store._connections[0].execute("PRAGMA max_page_count = 1000000")
        assert (await store.write([event(2), event(3, 200_000)])).rows == 2
        assert list((await store.stored_ranges())[Source("edge-1", EPOCH)].stored) == [(1, 3)]


async def test_a_lock_held_by_another_program_is_unavailable(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        assert isinstance(store, SqliteStore)
        store._connections[0].execute("PRAGMA busy_timeout = 1")
        other = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            await store.write([event(1)])
        other.execute("ROLLBACK")
        other.close()
        assert (await store.write([event(1)])).rows == 1


@pytest.mark.parametrize("content", [b"this is not a database at all" * 100, None, 7])
async def test_a_foreign_file_is_misconfigured(tmp_path: Path, content: bytes | int | None) -> None:
    path = tmp_path / "t.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        connection = sqlite3.connect(path)
        connection.execute(
            "CREATE TABLE other (x)" if content is None else f"PRAGMA user_version = {content}"
        )
        connection.close()
    for read_only in (False, True):
        with pytest.raises(Misconfigured):
            async with open_store(f"sqlite:///{path}", read_only=read_only):
                pass


async def test_a_reader_waits_while_the_file_is_empty(tmp_path: Path) -> None:
    (tmp_path / "t.db").touch()
    with pytest.raises(Unavailable):
        async with open_store(f"sqlite:///{tmp_path}/t.db", read_only=True):
            pass


async def test_a_folder_that_cannot_be_made_is_misconfigured(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured):
        async with open_store(f"sqlite:///{tmp_path}/file/t.db"):
            pass


async def test_a_bug_is_not_taken_for_an_outage(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        assert isinstance(store, SqliteStore)
        store._connections[0].execute("DROP TABLE events")
        with pytest.raises(sqlite3.OperationalError):
            await store.events()


def test_the_commit_waits_for_the_disk(tmp_path: Path) -> None:
    connection = connect_writer(tmp_path / "t.db")
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    connection.close()


CHILD = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from tests.unit.test_telemetry_sqlite import event
from cloud.telemetry.port import open_store
async def main():
    async with open_store(f"sqlite:///{sys.argv[1]}") as store:
        row = 1
        while True:
            await store.write([event(row + i) for i in range(20)])
            row += 20
            print(row - 1, flush=True)
asyncio.run(main())
"""


async def test_after_kill_9_all_confirmed_rows_are_there_and_no_batch_is_half_there(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    confirmed = 0
    with subprocess.Popen(  # noqa: ASYNC220 - a real process to kill
        [sys.executable, "-c", CHILD, str(tmp_path / "t.db"), root], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for _ in range(10):
            confirmed = int(await asyncio.to_thread(child.stdout.readline))
        os.kill(child.pid, signal.SIGKILL)
        tail = child.stdout.read().split()
        confirmed = max([confirmed, *(int(line) for line in tail)])
    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        [ranges] = (await store.stored_ranges()).values()
        [(first, last)] = list(ranges.stored)
        assert first == 1
        assert last >= confirmed
        assert last % 20 == 0
        assert len(await store.events(limit=last + 100)) == last
        assert (await store.positions())[MACHINE_EVENTS]["0"] == last


def assert_same(one: Rollups | Trend, other: Rollups | Trend) -> None:
    """All but the last digits of a mean."""
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name in {"mean", "value"}:
            assert mine == pytest.approx(theirs)
        else:
            assert np.array_equal(mine, theirs), field.name


async def test_a_file_without_rollups_is_read_as_it_is_and_its_writer_fills_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    index = np.arange(3_000)
    body = Readings(
        ("t1",), ("degC",), index * 0, index * 3_000_000, index, index.astype(np.float64), np.zeros(3_000, np.uint8)
    )  # fmt: skip
    record = Stored(SENSOR_READINGS, "pump-1", b"", {}, "0", 1, 0)
    frames = Entry(record, Header("s1", "edge-1", "pump-1", Kind.READINGS, EPOCH, 1, 3_000), body)
    async with open_store(url) as store:
        await store.write([frames])
        wanted = [await store.rollups("pump-1", None, w, 0, END_US) for w in (MINUTE_US, HOUR_US)]
        curve = await store.trends("pump-1", None, 0, END_US, 50)
    db = sqlite3.connect(tmp_path / "t.db")
    db.executescript("DROP TABLE rollups; DROP TABLE expired; PRAGMA user_version = 2;")
    db.close()
    for read_only in (True, False):
        async with open_store(url, read_only=read_only) as store:
            found = [await store.rollups("pump-1", None, w, 0, END_US) for w in (MINUTE_US, HOUR_US)]
            again = await store.trends("pump-1", None, 0, END_US, 50)
        for [one], [other] in zip(found, wanted, strict=True):
            assert_same(one, other)
        assert_same(again[0], curve[0])
    assert wanted[0][0].rows.tolist() == [20] * 150
    assert wanted[1][0].rows.tolist() == [1200, 1200, 600]
