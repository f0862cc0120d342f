"""How fast frames become rows of the telemetry store, beside a bare `executemany` of the same rows.

    python -m bench.ingest [--rows 200000] [--folder DIR]

Batches are those of ingest: 100 frames, 50,000 rows, and 1,000 small frames once it is behind (see `cloud/ingest/fetch.py`).
Both sides write one transaction a batch with WAL and synchronous=FULL to the same folder and in the same table
layout. The bare side does nothing else: no identity rule, no minutes and hours, no row ranges, no positions, and its columns
are Python tuples already. A ratio of 1 would mean that all this is free. The ratio by CPU leaves the disk's time out, and that
of other work on the machine.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cloud.ingest.logic import read_record
from cloud.telemetry.port import open_store
from cloud.telemetry.sqlite_readings import INSERT_READING
from cloud.telemetry.sqlite_schema import connect_writer
from cloud.telemetry.sqlite_write import transaction
from shared.clock import SystemClock
from shared.eventlog import Stored
from shared.frame_codec import encode
from shared.frames import Header, Kind, Readings
from shared.names import SENSOR_READINGS

T0 = 1_750_000_000_000_000
SENSORS = 8
CASES = ((20, 100), (20, 1000), (200, 100), (1000, 50))
"""Rows of a frame, and frames of a batch."""


def make_frames(rows: int, frame_rows: int) -> list[tuple[Stored, Readings]]:
    """Frames of five machines with eight sensors each at 10 Hz, machines taking turns, as a gateway logs them."""
    rng = np.random.default_rng(1)
    made = []
    for number in range(rows // frame_rows):
        machine, turn = number % 5, number // 5
        index = np.arange(frame_rows) + turn * frame_rows
        body = Readings(
            tuple(f"sensor-{i}" for i in range(SENSORS)),
            ("mm/s",) * SENSORS,
            index % SENSORS,
            T0 + (index // SENSORS) * 100_000,
            T0 + (index // SENSORS) * 100_000 + 2_000,
            rng.normal(size=frame_rows),
            np.zeros(frame_rows, np.uint8),
        )
        header = Header(
            "s1", f"edge-{machine}", f"machine-{machine}", Kind.READINGS, bytes([machine]) * 16,
            turn * frame_rows + 1, frame_rows,
        )  # fmt: skip
        made.append(
            (
                Stored(SENSOR_READINGS, header.machine, encode(header, body), {}, "0", number + 1, T0),
                body,
            )
        )
    return made


def bare(path: Path, frames: Sequence[tuple[Stored, Readings]], batch: int) -> tuple[float, float]:
    """Seconds that SQLite alone takes, and how many of them on a processor."""
    tables = []
    for number, (_, body) in enumerate(frames):
        machine, first = number % 5, (number // 5) * len(body) + 1
        tables.append(
            [
                (machine * SENSORS + s, t, v, 0, 1, a, machine, first + i)
                for i, (s, t, v, a) in enumerate(
                    zip(body.sensor.tolist(), body.time_us.tolist(), body.value.tolist(), body.arrival_us.tolist(), strict=True)
                )
            ]
        )  # fmt: skip
    connection = connect_writer(path)
    statement = INSERT_READING.split(" ON CONFLICT")[0]
    begin, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(tables), batch):
        with transaction(connection):
            for table in tables[start : start + batch]:
                connection.executemany(statement, table)
    took = (time.perf_counter() - begin, time.process_time() - cpu)
    connection.close()
    return took


async def ingest(
    path: Path, frames: Sequence[tuple[Stored, Readings]], size: int
) -> tuple[float, float, float, float]:
    """Seconds for decoding and for writing, for writing it all once more (every row is known), and CPU of the first."""
    records = [record for record, _ in frames]
    async with open_store(f"sqlite:///{path}", clock=SystemClock()) as store:
        begin = time.perf_counter()
        batches = [
            [read_record(record) for record in records[start : start + size]]
            for start in range(0, len(records), size)
        ]
        decoded, cpu = time.perf_counter(), time.process_time()
        for batch in batches:
            await store.write([entry for entry, _ in batch])
        written, cpu = time.perf_counter(), time.process_time() - cpu
        for batch in batches:
            await store.write([entry for entry, _ in batch])
        again = time.perf_counter()
    return decoded - begin, written - decoded, again - written, cpu


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to write (a real disk, not tmpfs)")
    options = parser.parse_args()
    print(
        "rows/frame  frames/batch  bare executemany  store.write  with decoding  ratio write  ratio all  ratio resent  ratio by CPU   [rows/s]"
    )
    for frame_rows, batch in CASES:
        frames = make_frames(options.rows, frame_rows)
        rows = sum(len(body) for _, body in frames)
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            plain, plain_cpu = bare(Path(folder) / "bare.db", frames, batch)
            decode, write, again, cpu = asyncio.run(ingest(Path(folder) / "store.db", frames, batch))
        print(
            f"{frame_rows:10}  {batch:12}  {rows / plain:16,.0f}  {rows / write:11,.0f}  {rows / (write + decode):13,.0f}"
            f"  {plain / write:11.2f}  {plain / (write + decode):9.2f}  {plain / again:12.2f}  {plain_cpu / cpu:12.2f}"
        )


if __name__ == "__main__":
    main()
