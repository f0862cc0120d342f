"""Minutes and hours of readings, kept with them: columns of one write are grouped once and merged into the table.

New readings only add to a bucket, in whatever order they come. A reading whose value was replaced can't be taken out of
a minimum: its minute is made again from the readings, and its hour from the minutes.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cloud.telemetry.facts import HOUR_US, MINUTE_US, Ints
from cloud.telemetry.sqlite_expired import raw_expired

_CHUNK: Final = 50_000
_SHORT: Final = 1 << 16
_COLUMNS: Final = "start_us, rows, minimum, maximum, mean, last, last_us, unit, quality"
_MERGE: Final = (
    f"INSERT INTO rollups (series, width_us, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - own names
    " ON CONFLICT (series, width_us, start_us) DO UPDATE SET rows = rows + excluded.rows,"
    " minimum = min(minimum, excluded.minimum), maximum = max(maximum, excluded.maximum),"
    # Weights first: a sum may overflow where its values do not.
    " mean = mean * (1.0 * rows / (rows + excluded.rows))"
    " + excluded.mean * (1.0 * excluded.rows / (rows + excluded.rows)),"
    " last = iif(excluded.last_us > last_us, excluded.last, last),"
    " unit = iif(excluded.last_us > last_us, excluded.unit, unit),"
    " last_us = max(last_us, excluded.last_us), quality = max(quality, excluded.quality)"
)
_READINGS: Final = (
    "SELECT time_us, value, unit, quality FROM readings WHERE series = ? AND time_us >= ? AND time_us < ?"
)
_REMOVE: Final = "DELETE FROM rollups WHERE series = ? AND width_us = ? AND start_us >= ? AND start_us < ?"

Floats = NDArray[np.float64]
Columns = tuple[Ints, Ints, Floats, Ints, NDArray[np.uint8]]
"""n readings: series, time_us, value, unit, quality."""


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """n buckets of any series. A reading is one too, of no width."""

    series: Ints
    start_us: Ints
    rows: Ints
    minimum: Floats
    maximum: Floats
    mean: Floats
    last: Floats
    last_us: Ints
    unit: Ints
    quality: Ints | NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.series)

    def chosen(self, mask: NDArray[np.bool_]) -> "Buckets":
        """Some of them."""
        return Buckets(*(getattr(self, name)[mask] for name in self.__slots__))


def of_readings(
    series: Ints, time_us: Ints, value: Floats, unit: Ints, quality: Ints | NDArray[np.uint8]
) -> Buckets:
    """Readings as buckets of one."""
    return Buckets(series, time_us, np.ones_like(time_us), value, value, value, value, time_us, unit, quality)


def grouped(found: Buckets, width_us: int) -> Buckets:
    """The buckets of `width_us` that they make together, by series and start. No two share a series and a `last_us`."""
    if not len(found):
        return found
    place = found.start_us // width_us
    keys = _keys(found.series, place)
    in_order = bool((keys[1:] >= keys[:-1]).all())
    order = np.arange(len(keys)) if in_order else np.argsort(keys, kind="stable")
    series, place = found.series[order], place[order]
    new = np.empty(len(order), np.bool_)
    new[0] = True
    np.logical_or(series[1:] != series[:-1], place[1:] != place[:-1], out=new[1:])
    first = np.flatnonzero(new)
    each = np.diff(first, append=len(order))
    counts = found.rows[order]
    rows = np.add.reduceat(counts, first)
    minimum = np.minimum.reduceat(found.minimum[order], first)
    maximum = np.maximum.reduceat(found.maximum[order], first)
    means = found.mean[order]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.add.reduceat(means * counts, first) / rows
    if not np.isfinite(mean).all():  # the sum overflowed where its values did not
        mean = np.add.reduceat(means * (counts / np.repeat(rows, each)), first)
    times = found.last_us[order]
    newest = np.maximum.reduceat(times, first)
    at = order[np.flatnonzero(times == np.repeat(newest, each))]
    return Buckets(
        series[first],
        place[first] * width_us,
        rows,
        minimum,
        maximum,
        np.clip(mean, minimum, maximum),
        found.last[at],
        newest,
        found.unit[at],
        np.maximum.reduceat(found.quality[order], first),
    )


def _keys(series: Ints, place: Ints) -> NDArray[np.int64] | NDArray[np.uint16]:
    """By which to sort: two bytes where they do, as in nearly every write, which NumPy sorts in linear time."""
    low, base = series.min(), place.min()
    places = int(place.max() - base) + 1
    keys: Ints = (series - low) * places + (place - base)
    return keys.astype(np.uint16) if (int(series.max() - low) + 1) * places <= _SHORT else keys


class RollupRows:
    """What one write brings; `save` merges it into the table, inside the write's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._added: list[Columns] = []
        self._replaced: set[tuple[int, int]] = set()

    def forget(self) -> None:
        """Drop what was not saved."""
        self._added.clear()
        self._replaced.clear()

    def add(self, columns: Columns, new: NDArray[np.bool_] | None = None) -> None:
        """New readings, identities that the table did not have: all of them or those of the mask."""
        if new is not None:
            series, time_us, value, unit, quality = columns
            columns = (series[new], time_us[new], value[new], unit[new], quality[new])
        self._added.append(columns)

    def replace(self, series: int, time_us: int) -> None:
        """A reading now has another value, unit or quality."""
        self._replaced.add((series, time_us - time_us % MINUTE_US))

    def save(self) -> None:
        """Merge."""
        again = self._again()
        if self._added:
            series, time_us, value, unit, quality = (
                np.concatenate(column) for column in zip(*self._added, strict=True)
            )
            minutes = grouped(of_readings(series, time_us, value, unit, quality), MINUTE_US)
            hours = grouped(minutes, HOUR_US)
            merge(self._db, _others(minutes, again), MINUTE_US)
            merge(self._db, _others(hours, {(key, at - at % HOUR_US) for key, at in again}), HOUR_US)
        _make_again(self._db, again)
        self.forget()

    def _again(self) -> set[tuple[int, int]]:
        """The minutes to be made from readings: those whose readings are all there still."""
        return {(series, at) for series, at in self._replaced if at >= raw_expired(self._db, series)}


def merge(db: sqlite3.Connection, found: Buckets, width_us: int) -> None:
    """Add buckets to the table's."""
    columns = [getattr(found, name).tolist() for name in Buckets.__slots__]
    columns.insert(1, [width_us] * len(found))
    db.executemany(_MERGE, zip(*columns, strict=True))


def fill(db: sqlite3.Connection, series: int, from_us: int, to_us: int) -> None:
    """Make a series' minutes and hours that start in the range anew from its readings; the range is of whole hours."""
    for width_us in (MINUTE_US, HOUR_US):
        db.execute(_REMOVE, (series, width_us, from_us, to_us))
    for part in _readings(db, series, from_us, to_us):
        minutes = grouped(part, MINUTE_US)
        merge(db, minutes, MINUTE_US)
        merge(db, grouped(minutes, HOUR_US), HOUR_US)


def computed(db: sqlite3.Connection, series: int, width_us: int, from_us: int, to_us: int) -> Buckets:
    """The buckets that start in the range, made from readings alone: for a file that keeps none."""
    first, end = (-(-at // width_us) * width_us for at in (from_us, to_us))
    parts = [grouped(part, width_us) for part in _readings(db, series, first, end)]
    if not parts:
        return _buckets(series, [])
    columns = ([getattr(part, name) for part in parts] for name in Buckets.__slots__)
    return grouped(Buckets(*(np.concatenate(column) for column in columns)), width_us)


def _others(found: Buckets, again: set[tuple[int, int]]) -> Buckets:
    if not again:
        return found
    keys = zip(found.series.tolist(), found.start_us.tolist(), strict=True)
    return found.chosen(np.array([key not in again for key in keys], np.bool_))


def _make_again(db: sqlite3.Connection, minutes: set[tuple[int, int]]) -> None:
    for series, start_us in minutes:
        db.execute(_REMOVE, (series, MINUTE_US, start_us, start_us + 1))
        for part in _readings(db, series, start_us, start_us + MINUTE_US):
            merge(db, grouped(part, MINUTE_US), MINUTE_US)
    for series, start_us in {(key, at - at % HOUR_US) for key, at in minutes}:
        db.execute(_REMOVE, (series, HOUR_US, start_us, start_us + 1))
        found = stored(db, series, MINUTE_US, start_us, start_us + HOUR_US)
        merge(db, grouped(found, HOUR_US), HOUR_US)


def stored(db: sqlite3.Connection, series: int, width_us: int, from_us: int, to_us: int) -> Buckets:
    """A series' buckets that start in the range."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM rollups WHERE series = ? AND width_us = ? AND start_us >= ? AND start_us < ?"  # noqa: S608 - own names
        " ORDER BY start_us",
        (series, width_us, from_us, to_us),
    ).fetchall()
    return _buckets(series, rows)


def _buckets(series: int, rows: list[tuple[float, ...]]) -> Buckets:
    """Rows of the table."""
    columns = zip(*rows, strict=True) if rows else ((),) * 9
    start_us, count, low, high, mean, last, last_us, unit, quality = columns
    return Buckets(
        np.full(len(rows), series, np.int64),
        np.array(start_us, np.int64),
        np.array(count, np.int64),
        np.array(low, np.float64),
        np.array(high, np.float64),
        np.array(mean, np.float64),
        np.array(last, np.float64),
        np.array(last_us, np.int64),
        np.array(unit, np.int64),
        np.array(quality, np.int64),
    )


def _readings(db: sqlite3.Connection, series: int, from_us: int, to_us: int) -> Iterator[Buckets]:
    found = db.execute(f"{_READINGS} ORDER BY time_us", (series, from_us, to_us))
    while rows := found.fetchmany(_CHUNK):
        time_us, value, unit, quality = zip(*rows, strict=True)
        yield of_readings(
            np.full(len(rows), series, np.int64),
            np.array(time_us, np.int64),
            np.array(value, np.float64),
            np.array(unit, np.int64),
            np.array(quality, np.int64),
        )
