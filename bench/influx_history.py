"""How fast a day of one sensor at 1 Hz becomes 500 points on InfluxDB: by the store, beside a bare query of the server.

The store is filled by its own `write` (books in SQLite), and makes its minutes and hours itself. Then days of sensors drawn at
random are asked for. Cold: after a new start of the server with its files dropped from the system's cache. Cached: asked a
second time. Bare: one InfluxQL statement with mean, minimum and maximum of 500 buckets.
Run: PYTHONPATH=. python bench/influx_history.py [--days 30] [--queries 100] [--cold 10] [--folder DIR] [--write-docs]
"""

import argparse
import asyncio
import http.client
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import orjson

from bench.influx.report import host
from bench.peers import docs
from bench.peers.report import table
from cloud.telemetry.access import Access
from cloud.telemetry.facts import DAY_US
from cloud.telemetry.influx.store import InfluxStore, open_influx
from cloud.telemetry.port import Entry
from deploy.servers.influxdb import InfluxDB
from deploy.servers.process import HOST
from shared.clock import SystemClock
from shared.eventlog import Stored
from shared.frames import Header, Kind, Readings
from shared.names import SENSOR_READINGS

SECOND = 1_000_000
MACHINES, SENSORS = 5, 4
FRAME_SECONDS = 240
BATCH = 100
POINTS = 500
UNIT = "mm/s"
T0 = int(time.time()) * SECOND // DAY_US * DAY_US - 40 * DAY_US


@dataclass(frozen=True, slots=True)
class Question:
    """A day of a sensor."""

    machine: str
    sensor: str
    from_us: int


Answer = Callable[[Question], Awaitable[int]]
"""Asks, and says how many readings the answer stands for."""


def entries(days: int) -> Iterator[Entry]:
    """All readings, machines taking turns, as a gateway logs them."""
    rng = np.random.default_rng(1)
    rows = FRAME_SECONDS * SENSORS
    index = np.arange(rows)
    sensors = tuple(f"sensor-{s}" for s in range(SENSORS))
    for turn in range(days * 86_400 // FRAME_SECONDS):
        time_us = T0 + (turn * FRAME_SECONDS + index // SENSORS) * SECOND
        for m in range(MACHINES):
            body = Readings(
                sensors,
                (UNIT,) * SENSORS,
                index % SENSORS,
                time_us,
                time_us + 2_000,
                rng.normal(size=rows),
                np.zeros(rows, np.uint8),
            )
            machine, first = f"machine-{m}", turn * rows + 1
            header = Header("s1", f"edge-{m}", machine, Kind.READINGS, bytes([m]) * 16, first, rows)
            stored = Stored(SENSOR_READINGS, machine, b"", {}, "0", turn * MACHINES + m + 1, int(time_us[-1]))
            yield Entry(stored, header, body)


async def fill(store: InfluxStore, days: int) -> None:
    """Write everything, then make the rollups."""
    batch: list[Entry] = []
    for entry in entries(days):
        batch.append(entry)
        if len(batch) == BATCH:
            await store.write(batch)
            batch = []
    await store.write(batch)
    while await store.make_rollups():
        pass


def drop_pages(folder: Path) -> None:
    """Out of the system's page cache with every file below."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Asked:
    """The two ways to ask."""

    def __init__(self, server: InfluxDB, store: InfluxStore) -> None:
        self._server, self._store = server, store

    async def by_store(self, question: Question) -> int:
        """What the data API asks the store."""
        until = question.from_us + DAY_US
        [found] = await self._store.trends(
            question.machine, [question.sensor], question.from_us, until, POINTS
        )
        return found.rows

    async def bare(self, question: Question) -> int:
        """One statement."""
        return await asyncio.to_thread(self._bare, question)

    def _bare(self, question: Question) -> int:
        query = (
            "SELECT COUNT(value),MEAN(value),MIN(value),MAX(value) FROM reading"  # noqa: S608 - the bench's own names
            f" WHERE machine='{question.machine}' AND sensor='{question.sensor}' AND time >= {question.from_us}u"
            f" AND time < {question.from_us + DAY_US}u GROUP BY time({DAY_US // POINTS}u)"
        )
        connection = http.client.HTTPConnection(HOST, self._server.port, timeout=60)
        asked = urlencode({"db": self._server.bucket, "q": query, "epoch": "u"})
        connection.request("GET", f"/query?{asked}", headers={"Authorization": f"Token {self._server.token}"})
        found = orjson.loads(connection.getresponse().read())
        connection.close()
        return sum(row[1] for row in found["results"][0]["series"][0]["values"])


async def timed(answer: Answer, question: Question) -> float:
    """Milliseconds that an answer takes."""
    begun = time.perf_counter()
    await answer(question)
    return (time.perf_counter() - begun) * 1000


async def measure(server: InfluxDB, store: InfluxStore, days: int, queries: int, cold: int) -> str:
    """The table."""
    rng = np.random.default_rng(2)
    latest = max(1, (days - 1) * 86_400)
    questions = [
        Question(
            f"machine-{rng.integers(MACHINES)}",
            f"sensor-{rng.integers(SENSORS)}",
            T0 + int(rng.integers(latest)) * SECOND,
        )
        for _ in range(queries)
    ]
    asked = Asked(server, store)
    for question in questions[:3]:
        assert await asked.by_store(question) == await asked.bare(question) == 86_400  # noqa: S101 - same rows
    lines = []
    for name, answer in (("the store", asked.by_store), ("bare InfluxQL", asked.bare)):
        took = []
        for question in questions[:cold]:
            server.stop()
            drop_pages(server.folder)
            server.start()
            took.append(await timed(answer, question))
        lines.append(line(name, "cold", took))
        again = []
        for question in questions:
            await answer(question)
            again.append(await timed(answer, question))
        lines.append(line(name, "cached", again))
    return table(("a day to 500 points", "", "questions", "p50 ms", "p99 ms"), lines)


def line(name: str, state: str, took: Sequence[float]) -> tuple[str, ...]:
    """A row of the table."""
    p50, p99 = np.percentile(took, [50, 99])
    return name, state, f"{len(took)}", f"{p50:.1f}", f"{p99:.1f}"


async def run(folder: Path, days: int, queries: int, cold: int) -> str:
    """Fill, ask, and say how much it was."""
    with InfluxDB(folder / "influxdb") as server:
        access = Access(server.token, f"sqlite:///{folder / 'books.db'}")
        url = f"influxdb://{HOST}:{server.port}/{server.org}/{server.bucket}"
        async with open_influx(url, access, read_only=False, bounds=None, clock=SystemClock()) as store:
            begun = time.monotonic()
            await fill(store, days)
            took = time.monotonic() - begun
            rows = days * 86_400 * MACHINES * SENSORS
            size = sum(path.stat().st_size for path in server.folder.rglob("*") if path.is_file()) / 1e9
            told = (
                f"{rows:,} readings of {days} days, {size:.2f} GB, written in {took:.0f} s with their rollups"
            )
            print(told, flush=True)
            return f"{told}.\n\n{await measure(server, store, days, queries, cold)}"


def main() -> None:
    """Fill, measure, remove."""
    parser = argparse.ArgumentParser(description="a day of a sensor to 500 points on InfluxDB")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--cold", type=int, default=10, help="questions after a new start each")
    parser.add_argument("--folder", type=Path, default=None, help="where to write (a real disk, not tmpfs)")
    parser.add_argument(
        "--write-docs", action="store_true", help="keep the table in docs/benchmarks-storage.md"
    )
    chosen = parser.parse_args()
    about = host()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        found = asyncio.run(run(Path(folder), chosen.days, chosen.queries, chosen.cold))
    print(found)
    if chosen.write_docs:
        docs.keep("influxdb history", f"{about}. {found}", docs.STORAGE)


if __name__ == "__main__":
    main()
