"""A child for the crash suite: fills, thins and drains a small outbox as fast as it can, and says what is durable.

Usage: outbox_load.py OUTBOX LOG SEED LIMIT START... ; LOG is the event log of this test: frames, each behind its length. With LIMIT
the disk takes no file beyond so many bytes for a while.
"""

import asyncio
import os
import random
import resource
import sys
import time
from pathlib import Path

import numpy as np

from edge.flight import Flight
from edge.outbox import Outbox, open_outbox
from edge.outbox_frames import FrameRef
from shared.clock import SystemClock
from shared.errors import Unavailable
from shared.frames import Kind, Readings, Scores, ScoreState
from shared.packing import Item

MAX_BYTES = 1 << 20
ROWS = 200
SECOND = 1_000_000


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def readings(first: int) -> Readings:
    at = np.arange(first, first + ROWS)
    time_us = at * SECOND // 10
    return Readings(
        ("level",), ("m",), at * 0, time_us, time_us, at.astype(np.float64), (at * 0).astype(np.uint8)
    )


def alarm(first: int) -> Scores:
    at = np.array([first * SECOND // 10])
    one = np.ones((1, 1), np.float32)
    state = np.array([ScoreState.ALARM], np.uint8)
    return Scores("m", "f" * 64, 1.0, ("level",), at, one[0], state, one, one.astype(np.float64))


async def write(outbox: Outbox, first: int, lane: int, rng: random.Random) -> None:
    """One machine: its rows are told apart by their value."""
    failed = 0.0
    while True:
        items = [Item(f"m{lane}", Kind.READINGS, readings(first))]
        if rng.random() < 0.02:
            items.append(Item(f"m{lane}", Kind.SCORES, alarm(first)))
        try:
            await outbox.append(items)
        except Unavailable:
            failed = failed or time.monotonic()
            say("refused", outbox.trouble or "full")
            if time.monotonic() - failed > 0.3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            await asyncio.sleep(0.05)
            continue
        if failed:
            say("back", time.monotonic() - failed)
            failed = 0.0
        say("kept", f"m{lane}", first, ROWS)
        first += ROWS


async def cut(outbox: Outbox, flight: Flight) -> None:
    while True:
        try:
            flight.add(await outbox.cut(partial=False))
        except Unavailable:
            say("refused", "cut")
        await asyncio.sleep(0.005)


async def drain(outbox: Outbox, flight: Flight, log: Path, rng: random.Random) -> None:
    """The uplink, by turns there and away."""
    while True:
        await asyncio.sleep(rng.uniform(0.05, 0.4))
        until = time.monotonic() + rng.uniform(0.02, 0.2)
        flight.link_up()
        while time.monotonic() < until:
            refs = flight.take()
            try:
                found = [(ref, await outbox.data(ref.first)) for ref in refs]
                with log.open("ab") as file:
                    for _, data in found:
                        if data is not None:
                            file.write(len(data).to_bytes(4, "little") + data)
                    file.flush()
                    os.fsync(file.fileno())
                freed = await outbox.free([(ref.first, ref.last) for ref, data in found if data is not None])
                flight.free([*freed, *(ref.first for ref, data in found if data is None)])
            except (Unavailable, OSError):
                say("refused", "drain")
                break
            await asyncio.sleep(0.001)


async def main(path: Path, log: Path, seed: int, limit: int, starts: list[int]) -> None:
    rng, clock = random.Random(seed), SystemClock()
    begun = time.monotonic()
    async with open_outbox(
        path, site="s1", edge="e1", clock=clock, max_bytes=MAX_BYTES, anomaly_seconds=5
    ) as outbox:
        say("open", time.monotonic() - begun)
        flight = Flight(clock, random.Random(seed))
        flight.add(await outbox.frames())

        def replaced(gone: list[int], made: list[FrameRef]) -> None:
            flight.free(gone)
            flight.add(made, old=True)

        outbox.listen(flight.add, replaced)
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        lanes = (write(outbox, first, lane, rng) for lane, first in enumerate(starts))
        await asyncio.gather(cut(outbox, flight), drain(outbox, flight, log, rng), *lanes)


if __name__ == "__main__":
    asyncio.run(
        main(
            Path(sys.argv[1]),
            Path(sys.argv[2]),
            int(sys.argv[3]),
            int(sys.argv[4]),
            [int(n) for n in sys.argv[5:]],
        )
    )
