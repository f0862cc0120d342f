"""A child for the kill test: commits, cuts and frees as fast as it can, and says what is durable."""

import asyncio
import sys
from pathlib import Path

import numpy as np

from edge.outbox import Outbox, open_outbox
from shared.clock import SystemClock
from shared.frames import Kind, Readings
from shared.packing import Item


def readings(first: int, count: int) -> Readings:
    at = np.arange(first, first + count)
    return Readings(
        ("level",), ("m",), at * 0, at * 1000, at * 1000, at.astype(np.float64), (at * 0).astype(np.uint8)
    )


async def write(outbox: Outbox, first: int, lane: int) -> None:
    """One lane of four: its rows are told apart by their value."""
    while True:
        await outbox.append([Item(f"m{lane}", Kind.READINGS, readings(first, 1 + first % 7))])
        sys.stdout.write(f"kept m{lane} {first} {1 + first % 7}\n")
        sys.stdout.flush()
        first += 1 + first % 7


async def cut(outbox: Outbox) -> None:
    while True:
        for ref in await outbox.cut(partial=True):
            sys.stdout.write(f"cut {ref.first} {ref.last}\n")
        sys.stdout.flush()
        await asyncio.sleep(0.003)


async def main(path: Path, starts: list[int]) -> None:
    async with open_outbox(path, site="s1", edge="e1", clock=SystemClock()) as outbox:
        lanes = (write(outbox, first, lane) for lane, first in enumerate(starts))
        await asyncio.gather(cut(outbox), *lanes)


asyncio.run(main(Path(sys.argv[1]), [int(text) for text in sys.argv[2:]]))
