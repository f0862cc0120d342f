"""A simulated outage: a machine with 20 sensors goes on while no link is there, and what its outbox made of that."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.outbox import Outbox, Usage, open_outbox
from edge.outbox_frames import FrameRef
from shared.clock import ManualClock
from shared.frame_codec import decode
from shared.frames import Aggregates, Kind, Readings, Scores, ScoreState
from shared.packing import Item
from shared.ranges import RangeSet

SENSORS: Final = 20
NAMES: Final = tuple(f"s{n}" for n in range(SENSORS))
SECOND: Final = 1_000_000
START: Final = 1_790_000_040  # a whole minute
PERIOD: Final = 7200
MARGIN: Final = 120
"""Seconds around an anomaly that the outbox keeps raw longest."""
BYTES_A_READING: Final = 18.2
"""Of a frame in the outbox's file: measured without a cap."""
_APPEND: Final = 200  # seconds a commit: 4,000 readings


def values(second: NDArray[np.int64], sensor: NDArray[np.int64]) -> NDArray[np.float64]:
    """What a sensor measured: any reading can be told again."""
    return ((second * SENSORS + sensor) * 2654435761 % 100_003) / 7.0


def readings(start: int, seconds: int) -> Readings:
    """Every sensor once a second from `start` on."""
    second = np.repeat(np.arange(start, start + seconds), SENSORS)
    sensor = np.tile(np.arange(SENSORS), seconds)
    time_us = (START + second) * SECOND
    return Readings(
        NAMES,
        ("bar",) * SENSORS,
        sensor,
        time_us,
        time_us + 3000,
        values(second, sensor),
        np.zeros(len(second), np.uint8),
    )


def is_anomalous(second: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Anomalies take the last part of each two hours."""
    return second % PERIOD >= PERIOD * (1 - share)


def scores(start: int, seconds: int, share: float) -> Scores:
    """A score every ten seconds."""
    second = np.arange(start + 10, start + seconds + 1, 10)
    alarm = is_anomalous(second - 1, share)
    count = len(second)
    return Scores(
        "m",
        "f" * 64,
        1.0,
        ("s0",),
        (START + second) * SECOND,
        np.where(alarm, 2.0, 0.5).astype(np.float32),
        np.where(alarm, ScoreState.ALARM, ScoreState.NORMAL).astype(np.uint8),
        np.ones((count, 1), np.float32),
        np.zeros((count, 1)),
    )


@dataclass(slots=True)
class Outage:
    """What the outbox held at its end, reading by reading."""

    seconds: int
    share: float
    most_bytes: int = 0
    usage: Usage | None = None
    raw: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    """[second, sensor]: there as it was measured."""
    covered: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """[second, sensor]: the width in seconds of the bucket that stands for it, 0 for none."""
    frames: list[bytes] = field(default_factory=list)
    report: dict[str, object] = field(default_factory=dict)

    def anomalous(self) -> NDArray[np.bool_]:
        """The seconds in which the machine was out of order."""
        return is_anomalous(np.arange(self.seconds), self.share)


async def run(path: Path, *, seconds: int, share: float, max_bytes: int) -> Outage:
    """Let the machine work for so long with the link down, then look at the file."""
    outage = Outage(seconds, share)
    async with open_outbox(
        path, site="s1", edge="e1", clock=ManualClock(), max_bytes=max_bytes, anomaly_seconds=MARGIN
    ) as outbox:
        for start in range(0, seconds, _APPEND):
            length = min(_APPEND, seconds - start)
            await outbox.append(
                [
                    Item("pump", Kind.READINGS, readings(start, length)),
                    Item("pump", Kind.SCORES, scores(start, length, share)),
                ]
            )
            await outbox.cut(partial=False)
            size = sum(file.stat().st_size for file in path.parent.iterdir())
            outage.most_bytes = max(outage.most_bytes, size)
        await outbox.cut(partial=True)
        await read(outage, outbox)
    return outage


async def read(outage: Outage, outbox: Outbox) -> None:
    """Every frame, checked: aggregates against what was measured, each reading raw or in one bucket and never in two."""
    raw = np.zeros((outage.seconds, SENSORS), np.bool_)
    covered = np.zeros((outage.seconds, SENSORS), np.int64)
    buckets: list[Aggregates] = []
    named = RangeSet()
    seen: set[int] = set()
    while fresh := [ref.first for ref in await outbox.frames() if ref.first not in seen]:
        for first in fresh:
            data = await outbox.data(first)
            if data is None:
                continue  # thinned meanwhile; what was given out once is not
            seen.add(first)
            outage.frames.append(data)
            _, body = decode(data)
            if isinstance(body, Readings):
                at = (body.time_us // SECOND - START, body.sensor)
                assert not raw[at].any(), "a reading twice"
                assert np.array_equal(body.value, values(*at))
                raw[at] = True
            elif isinstance(body, Aggregates):
                buckets.append(body)
                for first_row, last_row in body.replaces:
                    named.add(first_row, last_row)
    outage.usage = await outbox.usage()
    outage.report = await outbox.report()
    check(buckets, raw)
    for body in sorted(buckets, key=lambda body: body.width_us):
        width = body.width_us // SECOND
        second = (body.start_us // SECOND - START)[:, None] + np.arange(width)[None, :]
        sensor = np.broadcast_to(body.sensor[:, None], second.shape)
        inside = (second >= 0) & (second < len(raw))
        mine = inside & ~raw[np.where(inside, second, 0), sensor]
        mine &= covered[np.where(inside, second, 0), sensor] == 0
        covered[second[mine], sensor[mine]] = width
    outage.raw, outage.covered = raw, covered
    assert list(named) == [tuple(pair) for pair in outage.report["degraded"]], "not what the frames name"  # type: ignore[attr-defined]


def check(buckets: list[Aggregates], raw: NDArray[np.bool_]) -> None:
    """In each minute of a sensor the buckets together are of the readings that are not there raw, and of nothing else."""
    minutes = -(-len(raw) // 60)
    missing = np.zeros((minutes * 60, SENSORS), np.bool_)
    missing[: len(raw)] = ~raw
    second, sensor = np.indices(missing.shape)
    value = values(second, sensor)

    def by_minute(cells: NDArray[np.float64]) -> NDArray[np.float64]:
        return cells.reshape(minutes, 60, SENSORS)

    rows, least = np.zeros((minutes, SENSORS)), np.full((minutes, SENSORS), np.inf)
    most, total = -least, rows.copy()
    identities: set[tuple[int, int, int]] = set()
    for body in buckets:
        at = ((body.start_us // SECOND - START) // 60, body.sensor)
        np.add.at(rows, at, body.rows)
        np.add.at(total, at, body.mean * body.rows)
        np.minimum.at(least, at, body.minimum)
        np.maximum.at(most, at, body.maximum)
        keys = set(
            zip(body.start_us.tolist(), body.sensor.tolist(), [body.width_us] * len(body), strict=True)
        )
        assert identities.isdisjoint(keys), "a bucket twice"
        identities |= keys
    assert np.array_equal(rows, by_minute(missing.astype(float)).sum(axis=1))
    assert np.array_equal(least, by_minute(np.where(missing, value, np.inf)).min(axis=1))
    assert np.array_equal(most, by_minute(np.where(missing, value, -np.inf)).max(axis=1))
    assert np.allclose(total, by_minute(np.where(missing, value, 0.0)).sum(axis=1), rtol=1e-9)


def sent_order(refs: list[FrameRef], data: dict[int, bytes]) -> list[int]:
    """The event second at which each frame begins, in the order of `refs`."""
    starts = []
    for ref in refs:
        _, body = decode(data[ref.first])
        time_us = body.time_us if isinstance(body, Readings | Scores) else None
        time_us = body.start_us if isinstance(body, Aggregates) else time_us
        assert time_us is not None
        starts.append(int(time_us.min()) // SECOND - START)
    return starts
