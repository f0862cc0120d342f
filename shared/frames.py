"""Frames: what they carry, as numpy columns, and whose rows they are. `shared.frame_codec` turns them into bytes.

A frame carries one machine, one kind and one contiguous range of an edge's rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.ranges import Range

MAX_ROWS: Final = 1000
MAX_BYTES: Final = 256 * 1024
EPOCH_BYTES: Final = 16
MAX_REPLACES: Final = 8192  # ranges that an aggregate may name


class Kind(IntEnum):
    """What the rows of a frame are."""

    READINGS = 1
    SCORES = 2
    EVENT = 3
    AGGREGATE = 4
    WAVE = 5
    REJECT = 6


class Quality(IntEnum):
    """The device's word on a reading; the edge may only lower it."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2


class ScoreState(IntEnum):
    """What a scored window came to."""

    NORMAL = 0
    ALARM = 1
    UNSCORED = 2
    MAINTENANCE = 3  # scored while somebody worked on the machine: raised nothing
    SHADOW = 4  # scored by a model on trial: raised nothing


@dataclass(frozen=True, slots=True)
class Header:
    """Who made a frame, and which rows of its outbox it holds: `first` to `first + count - 1`."""

    site: str
    edge: str
    machine: str
    kind: Kind
    epoch: bytes
    first: int
    count: int

    @property
    def last(self) -> int:
        """The last row number in the frame."""
        return self.first + self.count - 1


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """Columns of n readings. `sensor` int64[n] indexes `sensor_names`; times int64[n] in µs; value float64[n]."""

    sensor_names: tuple[str, ...]
    units: tuple[str, ...]
    sensor: NDArray[np.int64]
    time_us: NDArray[np.int64]
    arrival_us: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Columns of n scored windows of one model over S sensors; `contribution` float32[n,S], `expected` float64[n,S]."""

    model: str
    version_hash: str
    limit: float
    sensor_names: tuple[str, ...]
    time_us: NDArray[np.int64]
    score: NDArray[np.float32]
    state: NDArray[np.uint8]
    contribution: NDArray[np.float32]
    expected: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True, slots=True, eq=False)
class Aggregates:
    """Columns of n buckets of `width_us`; `rows` uint32[n] counts the raw rows that each replaces.

    `replaces` names, as ranges in order, the rows of the edge's epoch that went into these buckets (and into others made
    with them): their numbers were given out, and they will never be sent.
    """

    sensor_names: tuple[str, ...]
    units: tuple[str, ...]
    width_us: int
    sensor: NDArray[np.int64]
    start_us: NDArray[np.int64]
    rows: NDArray[np.int64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    mean: NDArray[np.float64]
    replaces: tuple[Range, ...] = field(default=(), kw_only=True)

    def __len__(self) -> int:
        return len(self.mean)


@dataclass(frozen=True, slots=True)
class Records:
    """Opaque records: CloudEvents JSON (EVENT), dead letters (REJECT), waveform blocks (WAVE)."""

    record: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.record)


Body = Readings | Scores | Aggregates | Records


def concat_readings(parts: Sequence[Readings]) -> Readings:
    """One set of columns from several, in order, with one dictionary of sensors. A sensor's unit is part of its key."""
    if len(parts) == 1:
        return parts[0]
    keys: dict[tuple[str, str], int] = {}
    index = []
    for part in parts:
        lookup = [keys.setdefault(key, len(keys)) for key in zip(part.sensor_names, part.units, strict=True)]
        index.append(np.asarray(lookup, np.int64)[part.sensor])
    return Readings(
        tuple(name for name, _ in keys),
        tuple(unit for _, unit in keys),
        np.concatenate(index),
        np.concatenate([part.time_us for part in parts]),
        np.concatenate([part.arrival_us for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.quality for part in parts]),
    )


def chosen_readings(readings: Readings, at: NDArray[np.int64]) -> Readings:
    """Some of the rows, with the same dictionary."""
    return Readings(
        readings.sensor_names,
        readings.units,
        readings.sensor[at],
        readings.time_us[at],
        readings.arrival_us[at],
        readings.value[at],
        readings.quality[at],
    )


def slice_readings(readings: Readings, start: int, stop: int) -> Readings:
    """Rows `start` to `stop`, with the same dictionary."""
    return Readings(
        readings.sensor_names,
        readings.units,
        readings.sensor[start:stop],
        readings.time_us[start:stop],
        readings.arrival_us[start:stop],
        readings.value[start:stop],
        readings.quality[start:stop],
    )
