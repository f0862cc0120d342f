"""Durable rows a second into the outbox: group commit beside one transaction a row, same file format, same fsync."""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from edge.outbox import Outbox, open_outbox
from edge.outbox_file import OutboxFile
from shared.clock import SystemClock
from shared.frames import Kind, Readings
from shared.packing import Item, pieces

SECONDS = 3.0
LANES = 200


def reading(n: int) -> Item:
    """One row, as a device's single message brings it."""
    at = np.array([n])
    return Item(
        "pump",
        Kind.READINGS,
        Readings(("p",), ("bar",), at * 0, at, at, at.astype(np.float64), (at * 0).astype(np.uint8)),
    )


def one_by_one(path: Path) -> tuple[float, list[float]]:
    """One row a transaction, one after the other."""
    file = OutboxFile(path, site="s1", edge="e1", max_bytes=1 << 30, clock=SystemClock())
    delays: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        before = time.perf_counter()
        with file.transaction():
            file.append(pieces([reading(len(delays))]))
        delays.append(time.perf_counter() - before)
    file.close()
    return len(delays) / SECONDS, delays


async def grouped(path: Path, lanes: int) -> tuple[float, list[float]]:
    """`lanes` devices, each waiting for its own commit before it sends the next row."""
    delays: list[float] = []

    async def device(outbox: Outbox, until: float) -> None:
        while time.perf_counter() < until:
            before = time.perf_counter()
            await outbox.append([reading(len(delays))])
            delays.append(time.perf_counter() - before)

    async with open_outbox(path, site="s1", edge="e1", clock=SystemClock()) as outbox:
        until = time.perf_counter() + SECONDS
        await asyncio.gather(*(device(outbox, until) for _ in range(lanes)))
    return len(delays) / SECONDS, delays


def main() -> None:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        rows = [("one row a transaction", one_by_one(base / "single.db"))]
        rows += [
            (f"group commit, {lanes} devices", asyncio.run(grouped(base / f"group{lanes}.db", lanes)))
            for lanes in (1, 20, LANES)
        ]
    single = rows[0][1][0]
    print(f"{'outbox, synchronous=FULL':32} {'rows/s':>9} {'ratio':>7} {'p50 ms':>8} {'p99 ms':>8}")
    for name, (rate, delays) in rows:
        cuts = statistics.quantiles(delays, n=100)
        print(f"{name:32} {rate:9.0f} {rate / single:7.1f} {cuts[49] * 1e3:8.2f} {cuts[98] * 1e3:8.2f}")


if __name__ == "__main__":
    main()
