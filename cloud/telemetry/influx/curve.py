"""A curve: which buckets serve which part of a range, and points of equal length from them. Pure.

The rules are the embedded store's (`sqlite_trend`), but for one: a minute or hour at an end of the range is taken whole
only if it lies within the range.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.telemetry.facts import HOUR_US, MINUTE_US, Trend
from cloud.telemetry.influx.buckets import Buckets, grouped

RAW: Final = 0
Segment = tuple[int, int, int]
"""Width of the buckets to take (0: readings), from, to."""


@dataclass(frozen=True, slots=True)
class Expired:
    """Before which event times a machine's readings, minutes and hours may be gone, in µs; multiples of an hour."""

    raw_us: int = 0
    minute_us: int = 0
    hour_us: int = 0


def fitting(first: int, end: int, most: int) -> int:
    """The width of the coarsest buckets of which at least so many fit between two times; RAW if none are so fine."""
    return next((one for one in (HOUR_US, MINUTE_US) if (end - first) // one >= most), RAW)


def segments(
    width: int, stretch: tuple[int, int], from_us: int, to_us: int, gone: Expired
) -> Iterator[Segment]:
    """A stretch of a range in parts by what serves each, in order of time, none coarser than `width`."""
    low, high = first, end = stretch
    if width:
        start, stop = first // width * width, -(-end // width) * width
        low = start if start >= from_us else first
        high = stop if stop <= to_us else end
    for segment in _parts(low, high, width):
        yield from _there(*segment, gone)


def trend(sensor: str, unit: str, buckets: Buckets, first: int, step: int) -> Trend:
    """The points that buckets in order of time come to, one each `step` from `first` on."""
    points = grouped(buckets, np.maximum(0, (buckets.start_us - first) // step))
    return plain(sensor, unit, points, downsampled=True)


def plain(sensor: str, unit: str, points: Buckets, *, downsampled: bool) -> Trend:
    """Each bucket as a point."""
    return Trend(
        sensor,
        unit,
        int(points.rows.sum()),
        downsampled,
        points.last_us,
        points.mean,
        points.quality,
        points.minimum,
        points.maximum,
    )


def _there(width: int, from_us: int, to_us: int, gone: Expired) -> Iterator[Segment]:
    """A part, its old end by coarser buckets where the finer ones have expired."""
    before, coarser = {RAW: (gone.raw_us, MINUTE_US), MINUTE_US: (gone.minute_us, HOUR_US)}.get(width, (0, 0))
    if from_us < before:
        yield from _there(coarser, from_us, min(to_us, before), gone)
    if max(from_us, before) < to_us:
        yield width, max(from_us, before), to_us


def _parts(from_us: int, to_us: int, width: int) -> Iterable[Segment]:
    """Whole buckets of `width` in the middle, finer ones at the ends, readings where no minute is whole."""
    low, high = from_us, to_us
    if width:
        low, high = -(-from_us // width) * width, to_us // width * width
    finer = MINUTE_US if width == HOUR_US else RAW
    if low >= high:
        return _parts(from_us, to_us, finer) if width else ()
    middle = [(width, low, high)]
    return [*_parts(from_us, low, finer), *middle, *_parts(high, to_us, finer)] if width else middle
