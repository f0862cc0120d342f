"""Aggregates of a full outbox: minimum, maximum, mean and count of buckets of event time. No I/O."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.clock import MICROSECONDS
from shared.frames import Aggregates, Quality, Readings
from shared.ranges import Range

FINE_US: Final = 10 * MICROSECONDS
COARSE_US: Final = 60 * MICROSECONDS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def bucketed(readings: Readings, width_us: int) -> Aggregates:
    """One row a sensor and bucket, in order of time. A sensor has one unit throughout.

    `rows` counts all readings. Minimum, maximum and mean are of those that are not bad; of a bucket that has only bad
    ones, of these.
    """
    good = (readings.quality != Quality.BAD).astype(np.int64)
    ones = np.ones(len(readings), np.int64)
    return _reduced(
        readings.sensor_names,
        readings.units,
        width_us,
        (readings.sensor, readings.time_us, ones, readings.value, readings.value, readings.value),
        good,
    )


def coarser(parts: Sequence[Aggregates], width_us: int, replaces: tuple[Range, ...] = ()) -> Aggregates:
    """All of the parts' buckets as buckets of `width_us`, a multiple of theirs; those of one sensor and time are one."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.sensor_names))
    units = {name: unit for part in parts for name, unit in zip(part.sensor_names, part.units, strict=True)}
    index = [np.array([names.index(name) for name in part.sensor_names], np.int64) for part in parts]
    columns = (
        np.concatenate([own[part.sensor] for own, part in zip(index, parts, strict=True)]),
        np.concatenate([part.start_us for part in parts]),
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.minimum for part in parts]),
        np.concatenate([part.maximum for part in parts]),
        np.concatenate([part.mean for part in parts]),
    )
    return _reduced(names, tuple(units[name] for name in names), width_us, columns, None, replaces)


def bucket_of(time_us: Ints, width_us: int) -> Ints:
    """The start of the bucket that each time is in."""
    return time_us // width_us * width_us


def _reduced(
    names: tuple[str, ...],
    units: tuple[str, ...],
    width_us: int,
    columns: tuple[Ints, Ints, Ints, Floats, Floats, Floats],
    good: Ints | None,
    replaces: tuple[Range, ...] = (),
) -> Aggregates:
    sensor, start, rows, low, high, mean = columns
    start = bucket_of(start, width_us)
    order = np.lexsort((sensor, start))
    sensor, start, rows = sensor[order], start[order], rows[order]
    first = np.flatnonzero((np.diff(start, prepend=start[0] - 1) != 0) | (np.diff(sensor, prepend=-1) != 0))
    lengths = np.diff(first, append=len(start))
    weight = rows
    if good is not None:
        some = np.repeat(np.add.reduceat(good[order], first) > 0, lengths)
        weight = np.where(some, good[order], 1)
    counted = weight > 0
    least = np.minimum.reduceat(np.where(counted, low[order], np.inf), first)
    most = np.maximum.reduceat(np.where(counted, high[order], -np.inf), first)
    share = weight / np.repeat(
        np.add.reduceat(weight, first), lengths
    )  # first: the sum of large values overflows
    centre = np.add.reduceat(np.where(counted, mean[order], 0.0) * share, first)
    return Aggregates(
        names,
        units,
        width_us,
        sensor[first],
        start[first],
        np.add.reduceat(rows, first),
        least,
        most,
        np.clip(centre, least, most),
        replaces=replaces,
    )
