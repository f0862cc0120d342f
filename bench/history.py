"""How fast a day of one sensor at 1 Hz becomes 500 points, out of a store of 30 days of 5 machines with 4 sensors.

    python -m bench.history [--rows 51840000] [--queries 200] [--folder DIR]

The store is built in the real schema by `executemany`, ten minutes of each sensor in turn, as rows of a live plant would lie.
Then days of sensors drawn at random are asked for, beside a bare `GROUP BY` over the readings. Cold: the file's pages are
dropped from the system's cache, and the time is that of opening the store and asking. Cached: the same
question on an open store, asked a second time. CPU: without the disk's time and that of other work, should there be any. The folder needs 4 GB of a real disk; the store is removed at the end.
"""

import argparse
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from cloud.telemetry.facts import DAY_US, HOUR_US, MINUTE_US
from cloud.telemetry.sqlite_readings import INSERT_READING
from cloud.telemetry.sqlite_rollup import grouped, merge, of_readings
from cloud.telemetry.sqlite_rows import Interned
from cloud.telemetry.sqlite_schema import connect_reader, connect_writer
from cloud.telemetry.sqlite_trend import trends

T0 = 1_750_000_000_000_000 // DAY_US * DAY_US
SECOND = 1_000_000
MACHINES, SENSORS = 5, 4
TURN = 600
POINTS = 500
BARE = (
    "SELECT max(time_us), avg(value), min(value), max(value), max(quality), count(*) FROM readings"
    " WHERE series = (SELECT id FROM series WHERE machine = ? AND sensor = ?) AND time_us >= ? AND time_us < ?"
    " GROUP BY (time_us - ?) / ?"
)

Question = tuple[str, str, int]
"""Machine, sensor, and where the day begins."""
Took = tuple[float, float]
"""Seconds by the clock, and of this thread."""
Answer = Callable[[sqlite3.Connection, Question], int]


def build(path: Path, seconds: int) -> None:
    """All series at 1 Hz, with their minutes and hours."""
    db = connect_writer(path)
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")
    ids = Interned(db)
    unit = ids.of("units", ("unit",), ("mm/s",))
    source = ids.source("edge-1", b"e" * 16)
    series = [ids.series(f"machine-{m}", f"sensor-{s}") for m in range(MACHINES) for s in range(SENSORS)]
    rng = np.random.default_rng(1)
    row = 1
    for first in range(0, seconds, TURN):
        times = T0 + np.arange(first, min(first + TURN, seconds)) * SECOND
        for one in series:
            value = rng.normal(size=len(times))
            fixed = np.full(len(times), 0)
            numbers = range(row, row + len(times))
            row += len(times)
            table = (
                (one, t, v, 0, unit, t + 2_000, source, n)
                for t, v, n in zip(times.tolist(), value.tolist(), numbers, strict=True)
            )
            db.executemany(INSERT_READING, table)
            minutes = grouped(of_readings(fixed + one, times, value, fixed + unit, fixed), MINUTE_US)
            merge(db, minutes, MINUTE_US)
            merge(db, grouped(minutes, HOUR_US), HOUR_US)
    db.execute("COMMIT")
    db.execute("PRAGMA journal_mode = WAL")
    db.close()


def by_rollups(db: sqlite3.Connection, question: Question) -> int:
    """What the data API asks the store."""
    machine, sensor, start = question
    [found] = trends(db, machine, [sensor], start, start + DAY_US, POINTS)
    return found.rows


def bare(db: sqlite3.Connection, question: Question) -> int:
    """One statement over the readings."""
    start = question[2]
    rows = db.execute(BARE, (*question, start + DAY_US, start, DAY_US // POINTS)).fetchall()
    return sum(row[-1] for row in rows)


def drop_pages(path: Path) -> None:
    """Out of the system's page cache with the file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold(path: Path, answer: Answer, question: Question) -> Took:
    """From nothing."""
    drop_pages(path)
    wall, cpu = time.perf_counter(), time.thread_time()
    with closing(connect_reader(path)) as db:
        answer(db, question)
        return time.perf_counter() - wall, time.thread_time() - cpu


def cached(db: sqlite3.Connection, answer: Answer, question: Question) -> Took:
    """When it was asked before."""
    answer(db, question)
    wall, cpu = time.perf_counter(), time.thread_time()
    answer(db, question)
    return time.perf_counter() - wall, time.thread_time() - cpu


def measure(path: Path, seconds: int, queries: int) -> None:
    """Print the table."""
    rng = np.random.default_rng(2)
    questions = [
        (f"machine-{rng.integers(MACHINES)}", f"sensor-{rng.integers(SENSORS)}",
         T0 + int(rng.integers(max(1, seconds - 86_400))) * SECOND)
        for _ in range(queries)
    ]  # fmt: skip
    print(f"{'a day to 500 points':24}  p50 ms  p99 ms  CPU p50  CPU p99")
    medians: dict[str, float] = {}
    with closing(connect_reader(path)) as db:
        for question in questions[:3]:
            assert by_rollups(db, question) == bare(db, question) == min(86_400, seconds)  # noqa: S101 - same rows
        for name, answer in (("the store", by_rollups), ("bare GROUP BY", bare)):
            for state in ("cold", "cached"):
                took = [
                    cold(path, answer, one) if state == "cold" else cached(db, answer, one)
                    for one in questions
                ]
                (p50, cpu50), (p99, cpu99) = np.percentile(took, [50, 99], axis=0) * 1000
                medians[f"{name} {state}"] = p50
                print(f"{name:15}  {state:7}  {p50:6.2f}  {p99:6.2f}  {cpu50:7.2f}  {cpu99:7.2f}")
    for state in ("cold", "cached"):
        ratio = medians[f"bare GROUP BY {state}"] / medians[f"the store {state}"]
        print(f"{state}: {ratio:.1f} times as fast as the bare query, by medians")


def main() -> None:
    """Build, measure, remove."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=51_840_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path, default=None, help="where to write (a real disk, not tmpfs)")
    options = parser.parse_args()
    seconds = options.rows // (MACHINES * SENSORS)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "telemetry.db"
        begin = time.perf_counter()
        build(path, seconds)
        took, size = time.perf_counter() - begin, path.stat().st_size / 1e9
        rows = seconds * MACHINES * SENSORS
        print(f"{rows:,} readings, {size:.2f} GB, built in {took:.0f} s ({rows / took:,.0f} rows/s)")
        measure(path, seconds, options.queries)


if __name__ == "__main__":
    main()
