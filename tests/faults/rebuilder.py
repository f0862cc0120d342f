"""A child for the kill test: rebuilds a stopped plant's telemetry store from a log in memory, and says when it is done."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import numpy as np

from industrialmind.plant import DataDir
from industrialmind.progress import Teller
from industrialmind.rebuild import _copy, _swap
from industrialmind.served import Served
from shared.clock import SystemClock
from shared.eventlog import Position, Record, Stored, Subscription
from shared.frame_codec import encode
from shared.frames import Header, Kind, Readings
from shared.names import SENSOR_READINGS

FRAMES = 400
ROWS = 100
T0 = 1_750_000_000_000_000


def record(number: int) -> Stored:
    """Frame `number`, from 1."""
    index = np.arange(ROWS) + number * ROWS
    body = Readings(
        ("a", "b"), ("m", "m"), index % 2, T0 + index * 1000, T0 + index * 1000, index.astype(np.float64),
        np.zeros(ROWS, np.uint8),
    )  # fmt: skip
    first = (number - 1) * ROWS + 1
    header = Header("s1", "edge-1", "m1", Kind.READINGS, b"e" * 16, first, ROWS)
    return Stored(SENSOR_READINGS, "m1", encode(header, body), {}, "0", number, T0)


class Frames:
    """A log of all frames but the first `aged`, which it no longer has."""

    def __init__(self, aged: int) -> None:
        self.aged = aged

    async def append(
        self, topic: str, key: str, records: Sequence[Record], *, fence: Position | None = None
    ) -> Position:
        raise NotImplementedError

    def consume(self, topics: Sequence[str], group: str) -> AbstractAsyncContextManager[Subscription]:
        raise NotImplementedError

    async def read(self, topic: str, start: Any = None, *, follow: bool = False) -> AsyncIterator[Stored]:  # noqa: ANN401
        assert not follow
        if topic == SENSOR_READINGS:
            for number in range(max((start or {}).get("0", 0), self.aged) + 1, FRAMES + 1):
                yield record(number)

    async def end(self, topic: str) -> Position:
        return {"0": FRAMES} if topic == SENSOR_READINGS else {}


async def rebuild(root: Path, aged: int) -> None:
    """The command on a stopped plant, but for its servers."""
    data, log = DataDir(root), Frames(aged)
    with Teller("telemetry", SystemClock(), json=True) as tell:
        bounds = (await _copy(data, log, tell, fresh=False, running=False))[0]
        await _swap(data, Served("", running=False), log, bounds, tell)
        tell.done()


if __name__ == "__main__":
    asyncio.run(rebuild(Path(sys.argv[1]), int(sys.argv[2])))
