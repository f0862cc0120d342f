"""Curves of readings for a screen: a range in at most so many points, made inside SQLite.

Where the walk over readings would be long, it goes over minutes or hours. A point of many rows is one walk of the tree: twice
as fast as a `GROUP BY`, which sorts what is in order already, and four times as fast as fetching the rows. Where points have
few rows each, the statements cost more than the sorting, and it is the other way round.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cloud.telemetry.facts import HOUR_US, MINUTE_US, Trend
from cloud.telemetry.sqlite_expired import Expired, expired, has_rollups
from cloud.telemetry.sqlite_rollup_read import with_units

_RAW: Final = 0
_RANGE: Final = "FROM readings WHERE series = ? AND time_us >= ? AND time_us < ?"
_BUCKETS: Final = "FROM rollups WHERE series = ? AND width_us = ? AND start_us >= ? AND start_us < ?"
_FEW: Final = 8
_OF_READINGS: Final = (
    f"SELECT max(time_us), avg(value), max(quality), min(value), max(value), count(*) {_RANGE}"
)
_OF_BUCKETS: Final = (
    "SELECT max(last_us), sum(mean * rows) / sum(rows), max(quality), min(minimum), max(maximum), sum(rows)"
    f" {_BUCKETS}"
)
_SHORT_US: Final = 20_000_000
"""Points of readings that are no longer have few each at the usual rates."""
_GROUPED_READINGS: Final = (
    "SELECT max(time_us), avg(value), max(quality), min(value), max(value), count(*),"
    f" (time_us - ?4) / ?5 {_RANGE.replace('?', '?{}').format(1, 2, 3)} GROUP BY 7"
)
_GROUPED: Final = (
    "SELECT max(last_us), sum(mean * rows) / sum(rows), max(quality), min(minimum), max(maximum), sum(rows),"
    f" (max(start_us, ?5) - ?5) / ?6 {_BUCKETS.replace('?', '?{}').format(1, 2, 3, 4)} GROUP BY 7"
)

Point = tuple[int, float | None, int, float, float, int, int]
"""Time of the last reading, mean, worst quality, minimum, maximum, readings, and the point's number."""
Segment = tuple[int, int, int]
"""Width of the buckets to take (0: readings), from, to."""


def trends(
    db: sqlite3.Connection, machine: str, sensors: Sequence[str] | None, from_us: int, to_us: int, most: int
) -> list[Trend]:
    """Each sensor's curve, by name."""
    gone, kept = expired(db, machine), has_rollups(db)
    return [
        _trend(sensor, unit, *_Curve(db, series, gone, kept).points(from_us, to_us, most))
        for series, sensor, unit in with_units(db, machine, sensors)
    ]


def _trend(sensor: str, unit: str, points: Sequence[Any], downsampled: bool) -> Trend:  # noqa: FBT001 - a field
    """Of buckets, or of readings, each of which is its own mean, minimum and maximum."""
    time_us, means, worst, *more = zip(*points, strict=True) if points else ((),) * 6
    value = np.array(means, np.float64)
    low, high, rows = value, value, len(points)
    if downsampled:
        low, high, rows = np.array(more[0], np.float64), np.array(more[1], np.float64), sum(more[2])
        value = np.where(np.isfinite(value), value, low / 2 + high / 2)  # see `_mean`
    return Trend(
        sensor,
        unit,
        rows,
        downsampled,
        np.array(time_us, np.int64),
        value,
        np.array(worst, np.uint8),
        low,
        high,
    )


@dataclass(frozen=True, slots=True)
class _Curve:
    """One series' points. `kept`: the file has rollups."""

    db: sqlite3.Connection
    series: int
    gone: Expired
    kept: bool

    def points(self, from_us: int, to_us: int, most: int) -> tuple[list[Any], bool]:
        """The points, and whether they are buckets and not readings (time, value and quality)."""
        early = self._early(from_us, to_us)
        begin = max(from_us, self.gone.raw_us)
        rows = self._readings(begin, to_us, 1) if early or self._more(begin, to_us, most) else None
        if rows is None:
            return self._readings(begin, to_us, most), False
        first = rows[0][0] if early is None else early[0]
        last = self._last(first, to_us) if rows else early[1] if early else first
        end = min(to_us, last + 1)
        step = max(1, -(-(end - first) // most))
        found: dict[int, Point] = {}
        for segment in self._segments(from_us, first, end, to_us, most):
            for point in self._walk(segment, first, step):
                old = found.get(point[-1])
                found[point[-1]] = point if old is None else _joined(old, point)
        return [found[index] for index in sorted(found)], True

    def _more(self, from_us: int, to_us: int, most: int) -> bool:
        """Whether the range has more readings than that. Many minutes, which are read next, spare a look at them."""
        low, high = -(-from_us // MINUTE_US) * MINUTE_US, to_us // MINUTE_US * MINUTE_US
        if self.kept and (high - low) // MINUTE_US > most:
            query = f"SELECT 1 {_BUCKETS} LIMIT 1 OFFSET ?"
            if self.db.execute(query, (self.series, MINUTE_US, low, high, most)).fetchone() is not None:
                return True
        found = self.db.execute(f"SELECT 1 {_RANGE} LIMIT 1 OFFSET ?", (self.series, from_us, to_us, most))
        return found.fetchone() is not None

    def _readings(self, from_us: int, to_us: int, most: int) -> list[Any]:
        return self.db.execute(
            f"SELECT time_us, value, quality {_RANGE} ORDER BY time_us LIMIT ?",
            (self.series, from_us, to_us, most),
        ).fetchall()

    def _early(self, from_us: int, to_us: int) -> tuple[int, int] | None:
        """Start of the first bucket and time of the last reading where readings have expired; None: nowhere."""
        end = min(to_us, self.gone.raw_us)
        if from_us >= end:
            return None
        first, last = (
            [
                row
                for width in (MINUTE_US, HOUR_US)
                for row in self.db.execute(
                    f"SELECT start_us, last_us {_BUCKETS} ORDER BY start_us {order} LIMIT 1",
                    (self.series, width, from_us, end),
                )
            ]
            for order in ("ASC", "DESC")
        )
        return (min(one[0] for one in first), max(one[1] for one in last)) if first else None

    def _last(self, first: int, to_us: int) -> int:
        last: int = self.db.execute(f"SELECT max(time_us) {_RANGE}", (self.series, first, to_us)).fetchone()[
            0
        ]
        return last

    def _segments(self, from_us: int, first: int, end: int, to_us: int, most: int) -> Iterator[Segment]:
        """The range in parts by what serves each, in order of time."""
        width = _RAW
        if self.kept:
            width = next((one for one in (HOUR_US, MINUTE_US) if (end - first) // one >= most), _RAW)
        low, high = first, end
        if width:
            # A bucket at an end is whole if all its readings are in the range.
            start, stop = first // width * width, -(-end // width) * width
            low = start if start >= from_us or self._none(start, first) else first
            high = stop if stop <= to_us or self._none(to_us, stop) else end
        for segment in _parts(low, high, width):
            yield from self._there(*segment)

    def _none(self, from_us: int, to_us: int) -> bool:
        """Whether there was never a reading in a range, as far as readings can tell."""
        if from_us < self.gone.raw_us:
            return False
        found = self.db.execute(f"SELECT 1 {_RANGE} LIMIT 1", (self.series, from_us, to_us)).fetchone()
        return found is None

    def _there(self, width: int, from_us: int, to_us: int) -> Iterator[Segment]:
        """A part, its old end by coarser buckets where the finer ones have expired."""
        gone = {_RAW: (self.gone.raw_us, MINUTE_US), MINUTE_US: (self.gone.minute_us, HOUR_US)}
        before, coarser = gone.get(width, (0, 0))
        if from_us < before:
            yield from self._there(coarser, from_us, min(to_us, before))
        if max(from_us, before) < to_us:
            yield width, max(from_us, before), to_us

    def _walk(self, segment: Segment, first: int, step: int) -> Iterable[Point]:
        """The segment's points, empty ones left out."""
        width, low, high = segment
        if width and step <= _FEW * width:
            return self.db.execute(_GROUPED, (self.series, width, low, high, first, step))
        if not width and step <= _SHORT_US:
            return self.db.execute(_GROUPED_READINGS, (self.series, low, high, first, step))
        return self._one_by_one(segment, first, step)

    def _one_by_one(self, segment: Segment, first: int, step: int) -> Iterator[Point]:
        width, low, high = segment
        query, key = (_OF_BUCKETS, (self.series, width)) if width else (_OF_READINGS, (self.series,))
        for index in range(max(0, (low - first) // step), (high - 1 - first) // step + 1):
            start = low if index == 0 else first + index * step
            edges = (max(low, start), min(high, first + (index + 1) * step))
            point = self.db.execute(query, (*key, *edges)).fetchone()
            if point[-1]:
                yield *point, index


def _parts(from_us: int, to_us: int, width: int) -> Iterable[Segment]:
    """Whole buckets of `width` in the middle, finer ones at the ends, readings where no minute is whole."""
    low, high = from_us, to_us
    if width:
        low, high = -(-from_us // width) * width, to_us // width * width
    finer = MINUTE_US if width == HOUR_US else _RAW
    if low >= high:
        return _parts(from_us, to_us, finer) if width else ()
    middle = [(width, low, high)]
    return [*_parts(from_us, low, finer), *middle, *_parts(high, to_us, finer)] if width else middle


def _mean(point: Point) -> float:
    """The sum behind a mean may overflow where its values do not."""
    mean = point[1]
    if mean is None or abs(mean) == np.inf:
        return point[3] / 2 + point[4] / 2
    return mean


def _joined(one: Point, other: Point) -> Point:
    rows = one[5] + other[5]
    return (
        max(one[0], other[0]),
        _mean(one) * (one[5] / rows) + _mean(other) * (other[5] / rows),
        max(one[2], other[2]),
        min(one[3], other[3]),
        max(one[4], other[4]),
        rows,
        one[6],
    )
