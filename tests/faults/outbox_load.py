"""A child for the crash suite: fills, thins and drains a small outbox as fast as it can, and says what is durable.

Usage: outbox_load.py OUTBOX LOG SEED LIMIT AIM START... ; LOG is the event log of this test: frames, each behind its length. With
LIMIT the disk takes no file beyond so many bytes for a while. AIM is where it kills itself: in a `checkpoint` of the journal, which
then comes before each transaction, in a step of thinning (`thin`; the link is down then), or nowhere (`-`).
"""

import asyncio
import errno
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
from shared.frame_codec import decode_header
from shared.frames import Kind, Readings, Scores, ScoreState
from shared.packing import Item
from tests.faults.aimed import die_in

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


def keep(log: Path, frames: list[bytes]) -> None:
    """Append to the log: all of them or, with an OSError, none."""
    with log.open("ab", buffering=0) as file:
        before = file.tell()
        data = b"".join(len(frame).to_bytes(4, "little") + frame for frame in frames)
        if file.write(data) != len(data):
            file.truncate(before)
            raise OSError(errno.ENOSPC, "the log's disk is full")
        os.fsync(file.fileno())


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
                keep(log, [data for _, data in found if data is not None])
                # As a gateway does it: by the frame's own word. A frame may have been split since it was chosen.
                headers = [decode_header(data)[0] for _, data in found if data is not None]
                freed = await outbox.free([(header.first, header.last) for header in headers])
                flight.free([*freed, *(ref.first for ref, data in found if data is None)])
            except (Unavailable, OSError):
                say("refused", "drain")
                break
            await asyncio.sleep(0.001)


def take_aim(outbox: Outbox, aim: str, rng: random.Random) -> None:
    if aim == "checkpoint":
        outbox._file._room._most_journal = 0
        die_in(outbox._file._room, "check_journal", rng, 150)
    elif aim == "thin":
        die_in(outbox._file, "thin", rng, 10)


async def main(path: Path, log: Path, seed: int, limit: int, aim: str, starts: list[int]) -> None:
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
        take_aim(outbox, aim, rng)
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        lanes = (write(outbox, first, lane, rng) for lane, first in enumerate(starts))
        drains = () if aim == "thin" else (drain(outbox, flight, log, rng),)
        await asyncio.gather(cut(outbox, flight), *drains, *lanes)


if __name__ == "__main__":
    asyncio.run(
        main(
            Path(sys.argv[1]),
            Path(sys.argv[2]),
            int(sys.argv[3]),
            int(sys.argv[4]),
            sys.argv[5],
            [int(n) for n in sys.argv[6:]],
        )
    )
