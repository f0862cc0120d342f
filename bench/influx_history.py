"""How fast a day of one sensor at 1 Hz becomes 500 points on InfluxDB: by the store, beside a bare query of the server.

The first and the last frames come by the store's own `write` (books in SQLite). What lies between is posted by the store's
encoder and client, without the books' row ranges, which no curve asks for; so are its minutes and hours. Then days of
sensors drawn at random are asked for. Cold: after a new start of the server with its files dropped from the system's cache.
Cached: asked a second time. Bare: one InfluxQL statement with count, mean, minimum and maximum of 500 buckets.
`--keep DIR` fills a folder once and asks it again in later runs.
Run: PYTHONPATH=. python bench/influx_history.py [--days 30] [--queries 100] [--cold 10] [--keep DIR] [--fill] [--write-docs]
"""

import argparse
import asyncio
import http.client
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import orjson

from bench.influx.report import host
from bench.peers import docs
from bench.peers.report import table
from cloud.telemetry.access import Access
from cloud.telemetry.facts import DAY_US, HOUR_US, MINUTE_US
from cloud.telemetry.influx.batch import Rows, needs
from cloud.telemetry.influx.buckets import by_width, single, to_lines
from cloud.telemetry.influx.client import InfluxClient, Place, open_client
from cloud.telemetry.influx.encode import Encoder
from cloud.telemetry.influx.points import KIND_READING
from cloud.telemetry.influx.store import InfluxStore, open_influx
from cloud.telemetry.port import Entry
from cloud.telemetry.sql.known import Known, SeriesState
from deploy.servers.influxdb import InfluxDB
from deploy.servers.process import HOST
from shared.clock import SystemClock
from shared.eventlog import Stored
from shared.frames import Header, Kind, Readings
from shared.names import SENSOR_READINGS
from shared.sqlalchemy import Database, open_database

SECOND = 1_000_000
MACHINES, SENSORS = 5, 4
FRAME_SECONDS = 240
TURNS = 3_600 // FRAME_SECONDS
"""Frames of a machine at each end that the store writes itself."""
POINTS = 500
UNIT = "mm/s"
T0 = 20_454 * DAY_US
BODY_SECONDS = 21_600


@dataclass(frozen=True, slots=True)
class Question:
    """A day of a sensor."""

    machine: str
    sensor: str
    from_us: int


Answer = Callable[[Question], Awaitable[int]]
"""Asks, and says how many readings the answer stands for."""


def entries(turn: int) -> Iterator[Entry]:
    """A frame of each machine, as a gateway logs them."""
    rng = np.random.default_rng(turn)
    rows = FRAME_SECONDS * SENSORS
    index = np.arange(rows)
    sensors = tuple(f"sensor-{s}" for s in range(SENSORS))
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


class Filler:
    """Posts what lies between the first and the last frames, with its minutes and hours."""

    def __init__(self, client: InfluxClient, known: Known) -> None:
        self._client = client
        self._encoder = Encoder(known)
        self._series = [one for one in known.series_of.values() if one.kind == KIND_READING]
        self._origin = {
            machine: next(iter(known.origins[source.id, UNIT] for key, source in known.sources.items()
                               if key[0] == machine.replace("machine", "edge")))
            for machine in known.machines
        }  # fmt: skip

    async def fill(self, first_s: int, end_s: int) -> None:
        """All series, a stretch of time after another, two bodies on their way at once."""
        for start in range(first_s, end_s, BODY_SECONDS):
            stop = min(end_s, start + BODY_SECONDS)
            for at in range(0, len(self._series), 2):
                await asyncio.gather(*(self._post(one, start, stop) for one in self._series[at : at + 2]))

    async def _post(self, one: SeriesState, start: int, stop: int) -> None:
        body, minutes, hours = await asyncio.to_thread(self._made, one, start, stop)
        place = self._client.place
        await self._client.write(place.readings(one.machine), body)
        await self._client.write(place.rollups(one.machine, MINUTE_US), minutes)
        await self._client.write(place.rollups(one.machine, HOUR_US), hours)

    def _made(self, one: SeriesState, start: int, stop: int) -> tuple[bytes, bytes, bytes]:
        second = np.arange(start, stop)
        time_us, count = T0 + second * SECOND, len(second)
        value = np.random.default_rng((one.id, start)).normal(size=count)
        quality, same = np.zeros(count, np.uint8), np.ones(count, np.int64)
        row = second * SENSORS + int(one.name[-1]) + 1
        origin = same * self._origin[one.machine]
        rows = Rows(same * one.id, time_us, time_us + 2_000, value, quality, origin, row, same, same)
        buckets = single(time_us, value, quality)
        minutes, hours = (
            to_lines(one.machine, one.name, width, by_width(buckets, width)) for width in (MINUTE_US, HOUR_US)
        )
        return self._encoder.readings(rows), minutes, hours


async def fill(store: InfluxStore, client: InfluxClient, books: Database, days: int) -> None:
    """All readings. The first and the last hours' minutes are made by the store."""
    turns = days * 86_400 // FRAME_SECONDS
    ends = (*range(TURNS), *range(turns - TURNS, turns))
    known = Known()
    for turn in ends[:TURNS]:
        await store.write(list(entries(turn)))
    wanted = needs(entries(0))
    await books.read(lambda connection: known.look(connection, wanted))
    await Filler(client, known).fill(TURNS * FRAME_SECONDS, (turns - TURNS) * FRAME_SECONDS)
    for turn in ends[TURNS:]:
        await store.write(list(entries(turn)))
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


async def run(folder: Path, chosen: argparse.Namespace) -> str:
    """Fill unless that is done, ask, and say how much it was."""
    filled, days = folder / "filled", chosen.days
    with InfluxDB(folder / "influxdb") as server:
        access = Access(server.token, f"sqlite:///{folder / 'books.db'}")
        url = f"influxdb://{HOST}:{server.port}/{server.org}/{server.bucket}"
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(
                open_influx(url, access, read_only=False, bounds=None, clock=SystemClock())
            )
            if not filled.exists():
                client = await stack.enter_async_context(open_client(Place.of(url), server.token, seconds=60))
                books = await stack.enter_async_context(open_database(access.books_url, setting="books"))
                begun = time.monotonic()
                await fill(store, client, books, days)
                rows = days * 86_400 * MACHINES * SENSORS
                filled.write_text(
                    f"{rows:,} readings of {days} days, posted in {time.monotonic() - begun:.0f} s"
                )
            size = sum(path.stat().st_size for path in server.folder.rglob("*") if path.is_file()) / 1e9
            told = f"{filled.read_text()}, {size:.2f} GB"
            print(told, flush=True)
            if chosen.fill:
                return ""
            return f"{told}.\n\n{await measure(server, store, days, chosen.queries, chosen.cold)}"


def main() -> None:
    """Fill, measure, remove."""
    parser = argparse.ArgumentParser(description="a day of a sensor to 500 points on InfluxDB")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--cold", type=int, default=10, help="questions after a new start each")
    parser.add_argument(
        "--keep", type=Path, default=None, help="fill this folder (on a real disk, not tmpfs) or ask it again"
    )
    parser.add_argument("--fill", action="store_true", help="only fill it")
    parser.add_argument(
        "--write-docs", action="store_true", help="keep the table in docs/benchmarks-storage.md"
    )
    chosen = parser.parse_args()
    about = host()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(run(chosen.keep or Path(folder), chosen))
    print(found)
    if chosen.write_docs and found:
        docs.keep("influxdb history", f"{about}. {found}", docs.STORAGE)


if __name__ == "__main__":
    main()
