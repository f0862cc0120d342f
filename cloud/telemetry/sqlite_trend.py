"""Curves for a screen: a range of readings or scores in at most so many points, made inside SQLite.

Buckets of readings are one walk of the tree each: for a sparkline that is twice as fast as a `GROUP BY`, which sorts
what is in order already, and four times as fast as fetching the rows.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson

from cloud.telemetry.port import ScoreTrend, Trend

_RANGE: Final = "FROM readings WHERE series = ? AND time_us >= ? AND time_us < ?"
_SCORED: Final = (
    "FROM scores WHERE series IN (SELECT id FROM score_series WHERE machine = ?)"
    " AND time_us >= ? AND time_us < ? AND score IS NOT NULL"
)


def trends(
    db: sqlite3.Connection, machine: str, sensors: Sequence[str] | None, from_us: int, to_us: int, most: int
) -> list[Trend]:
    """Each sensor's curve, by name."""
    found = db.execute(
        "SELECT s.id, s.sensor, coalesce((SELECT u.unit FROM readings r JOIN units u ON u.id = r.unit"
        " WHERE r.series = s.id ORDER BY r.time_us DESC LIMIT 1), '') FROM series s"
        " WHERE s.machine = ? ORDER BY s.sensor",
        (machine,),
    ).fetchall()
    return [
        _trend(db, key, sensor, unit, from_us, to_us, most)
        for key, sensor, unit in found
        if sensors is None or sensor in sensors
    ]


def _trend(
    db: sqlite3.Connection, series: int, sensor: str, unit: str, from_us: int, to_us: int, most: int
) -> Trend:
    rows: list[tuple[Any, ...]] = db.execute(
        f"SELECT time_us, value, quality, value, value, 1 {_RANGE} ORDER BY time_us LIMIT ?",
        (series, from_us, to_us, most + 1),
    ).fetchall()
    downsampled = len(rows) > most
    if downsampled:
        rows = _buckets(db, series, rows[0][0], to_us, most)
    time_us, value, quality, low, high, count = zip(*rows, strict=True) if rows else ((),) * 6
    minimum, maximum = np.array(low, np.float64), np.array(high, np.float64)
    mean = np.array(value, np.float64)
    # The sum behind a mean may overflow where its values do not.
    mean = np.where(np.isfinite(mean), mean, minimum / 2 + maximum / 2)
    return Trend(
        sensor,
        unit,
        sum(count),
        downsampled,
        np.array(time_us, np.int64),
        mean,
        np.array(quality, np.uint8),
        minimum,
        maximum,
    )


def _buckets(
    db: sqlite3.Connection, series: int, from_us: int, to_us: int, most: int
) -> list[tuple[Any, ...]]:
    """Equal buckets from the first row to the last one, empty ones left out."""
    last: int = db.execute(f"SELECT max(time_us) {_RANGE}", (series, from_us, to_us)).fetchone()[0]
    width = -(-(last + 1 - from_us) // most)
    query = f"SELECT max(time_us), avg(value), max(quality), min(value), max(value), count(*) {_RANGE}"
    found = (
        db.execute(query, (series, start, min(start + width, last + 1))).fetchone()
        for start in range(from_us, last + 1, width)
    )
    return [row for row in found if row[-1]]


def score_trend(db: sqlite3.Connection, machine: str, from_us: int, to_us: int, most: int) -> ScoreTrend:
    """The machine's score, whichever version made it; of a bucket its largest, with that window's limit."""
    rows, first, last = db.execute(
        f"SELECT count(*), min(time_us), max(time_us) {_SCORED}",
        (machine, from_us, to_us),
    ).fetchone()
    width = 1 if rows <= most else -(-(last + 1 - first) // most)
    # With one max() SQLite takes the other columns from the row that has it.
    found = db.execute(
        "SELECT b.time_us, b.score, l.alarm_limit, l.model, s.version_hash FROM"  # noqa: S608 - own names
        f" (SELECT time_us, max(score) AS score, layout, series {_SCORED} GROUP BY (time_us - ?) / ?) b"
        " JOIN score_series s ON s.id = b.series JOIN score_layouts l ON l.id = b.layout ORDER BY b.time_us",
        (machine, from_us, to_us, first or 0, width),
    ).fetchall()
    time_us, score, limit, model, version = zip(*found, strict=True) if found else ((),) * 5
    made_by = list(zip(model, version, strict=True))
    models = tuple(dict.fromkeys(made_by))
    index = {name: number for number, name in enumerate(models)}
    return ScoreTrend(
        rows,
        rows > most,
        np.array(time_us, np.int64),
        np.array(score, np.float64),
        np.array(limit, np.float64),
        np.array([index[name] for name in made_by], np.int64),
        models,
        _newest_shares(db, machine, from_us, to_us),
    )


def _newest_shares(
    db: sqlite3.Connection, machine: str, from_us: int, to_us: int
) -> tuple[tuple[str, float], ...]:
    """(sensor, share) of the newest scored window."""
    row = db.execute(
        "SELECT l.sensors, b.contribution FROM"  # noqa: S608 - own names
        f" (SELECT layout, contribution {_SCORED} ORDER BY time_us DESC LIMIT 1) b"
        " JOIN score_layouts l ON l.id = b.layout",
        (machine, from_us, to_us),
    ).fetchone()
    if row is None:
        return ()
    shares = np.frombuffer(row[1], "<f4").astype(np.float64)
    return tuple(zip(orjson.loads(row[0]), np.nan_to_num(shares).tolist(), strict=True))
