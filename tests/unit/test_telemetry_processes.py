"""Processes that read the embedded store: they answer as its threads do, and nobody misses one that dies."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from cloud.telemetry import sqlite_read as read
from cloud.telemetry.port import MINUTE_US, Columns, Entry, EventFact, TelemetryReader, open_store
from cloud.telemetry.sqlite_processes import NoReader, Readers, reader_processes
from shared.errors import Misconfigured
from shared.eventlog import Stored
from shared.frames import Header, Kind, Readings
from shared.names import MACHINE_EVENTS, SENSOR_READINGS

T0 = 1_750_000_000_000_000
ROWS = 3000
END = T0 + ROWS * 1_000_000


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A store of two sensors at 1 Hz and an event."""
    seconds = np.repeat(np.arange(ROWS), 2)
    body = Readings(
        ("flow", "temp"),
        ("l/s", "degC"),
        np.tile([0, 1], ROWS),
        T0 + seconds * 1_000_000,
        T0 + seconds * 1_000_000 + 5,
        np.random.default_rng(1).normal(5, 2, 2 * ROWS),
        np.tile(np.arange(3, dtype=np.uint8), 2 * ROWS // 3),
    )
    header = Header("s1", "e1", "pump-1", Kind.READINGS, b"1" * 16, 1, 2 * ROWS)
    happened = Header("s1", "e1", "pump-1", Kind.EVENT, b"1" * 16, 2 * ROWS + 1, 1)
    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        await store.write(
            [
                Entry(Stored(SENSOR_READINGS, "pump-1", b"", {}, "0", 7, T0), header, body),
                Entry(
                    Stored(MACHINE_EVENTS, "pump-1", b"", {}, "0", 1, T0),
                    happened,
                    EventFact("id-1", "x", "pump-1", T0, b"{}"),
                ),
            ]
        )
    return tmp_path / "t.db"


async def answered(ask: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - the query's own
    """The answer, once a process is up to give it."""
    async with asyncio.timeout(20):
        while True:
            with suppress(NoReader):
                return await ask()
            await asyncio.sleep(0.01)


def workers() -> list[psutil.Process]:
    found = psutil.Process().children()
    return [one for one in found if "cloud.telemetry.sqlite_worker" in one.cmdline()]


QUERIES: list[Callable[[TelemetryReader], Awaitable[Any]]] = [
    lambda store: store.series(),
    lambda store: store.count("pump-1"),
    lambda store: store.latest("pump-1"),
    lambda store: store.readings("pump-1", "flow", T0, END, 100, newest=True),
    lambda store: store.trends("pump-1", None, T0, END, 50),
    lambda store: store.trends("pump-1", ["flow"], T0, END, 4000),
    lambda store: store.rollups("pump-1", ["temp"], MINUTE_US, T0, END),
    lambda store: store.score_trend("pump-1", T0, END, 50),
    lambda store: store.events("pump-1"),
    lambda store: store.stored_ranges(),
    lambda store: store.counters(),
    lambda store: store.positions(),
    lambda store: store.expired_us("pump-1"),
]


async def test_they_answer_as_threads_do(path: Path) -> None:
    url = f"sqlite:///{path}"
    async with (
        open_store(url, read_only=True) as threads,
        open_store(url, read_only=True, processes=1) as store,
    ):
        processes: Readers = store._processes  # type: ignore[attr-defined]
        await answered(partial(processes.ask, read.positions))
        for query in QUERIES:
            assert repr(await query(store)) == repr(await query(threads))
        with pytest.raises(ValueError, match="by minute and by hour"):
            await store.rollups("pump-1", None, 5, T0, END)
        [worker] = workers()
        worker.suspend()
        try:
            asked = asyncio.create_task(store.count("pump-1"))
            await asyncio.sleep(0)
            assert await threads.count("pump-1") == 2 * ROWS
            assert not asked.done()  # so it was the process that was asked
        finally:
            worker.resume()
        assert await asked == 2 * ROWS


async def test_a_dead_one_is_not_missed_and_followed(path: Path) -> None:
    async with open_store(f"sqlite:///{path}", read_only=True, processes=2) as store:
        processes: Readers = store._processes  # type: ignore[attr-defined]
        await answered(partial(processes.ask, read.positions))
        async with asyncio.timeout(20):
            while len(processes._up) < 2:
                await asyncio.sleep(0.01)
        first = workers()
        for one in first:
            one.suspend()  # so that the queries are on their way when it dies
        asked = [asyncio.create_task(store.count("pump-1")) for _ in range(8)]
        await asyncio.sleep(0)
        asked[1].cancel()
        asked[5].cancel()
        for one in first:
            one.send_signal(signal.SIGKILL)
        counts = await asyncio.gather(*asked, return_exceptions=True)
        assert [one for one in counts if not isinstance(one, asyncio.CancelledError)] == [2 * ROWS] * 6
        assert await answered(partial(processes.ask, read.positions)) == {
            SENSOR_READINGS: {"0": 7},
            MACHINE_EVENTS: {"0": 1},
        }
        assert not {one.pid for one in workers()} & {one.pid for one in first}
    assert not workers()


async def test_many_questions_wait_in_line(path: Path) -> None:
    async with reader_processes(path, 2) as readers:
        ask = partial(readers.ask, read.readings, "pump-1", "flow", T0, END, newest=False)
        await answered(partial(ask, 1))
        asked = [asyncio.create_task(ask(limit)) for limit in range(1, 60)]
        for task in asked[::7]:
            task.cancel()
        found = await asyncio.gather(*asked, return_exceptions=True)
    for limit, one in enumerate(found, 1):
        assert isinstance(one, asyncio.CancelledError if limit % 7 == 1 else Columns)
        assert not isinstance(one, Columns) or len(one) == limit


async def test_sqlite_s_errors_keep_their_meaning(path: Path) -> None:
    async with open_store(f"sqlite:///{path}", read_only=True, processes=1) as store:
        processes: Readers = store._processes  # type: ignore[attr-defined]
        await answered(partial(processes.ask, read.positions))
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * 1_000_000)
        with pytest.raises(Misconfigured, match="malformed"):
            await store.count("pump-1")
