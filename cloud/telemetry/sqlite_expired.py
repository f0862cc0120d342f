"""Retention in the embedded store: what is removed, in which pieces, and what readers are told of it.

What has expired is said first and removed then, piece by piece: readers go by what is said. Everything expires in whole
hours, so that no minute or hour is left with a part of its readings.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cloud.telemetry.facts import HOUR_US, MINUTE_US, Retention
from shared.names import REPLAYED

_PIECE: Final = 5_000
_KEPT: Final = f"SELECT id FROM {{}} WHERE machine NOT LIKE '{REPLAYED}%' ORDER BY id"  # noqa: S608 - own names
_TABLES: Final = (("raw", "readings", "series", "time_us"), ("raw", "scores", "score_series", "time_us"))
_SAY: Final = (
    "INSERT INTO expired VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET before_us = excluded.before_us"
    " WHERE excluded.before_us > before_us"
)


@dataclass(frozen=True, slots=True)
class Expired:
    """Before which event times a machine's readings, minutes and hours may be gone, in µs; multiples of an hour."""

    raw_us: int = 0
    minute_us: int = 0
    hour_us: int = 0


def has_rollups(db: sqlite3.Connection) -> bool:
    """Whether the file keeps minutes and hours, and may have less than all readings: since version 3."""
    return bool(db.execute("PRAGMA user_version").fetchone()[0] > 2)  # noqa: PLR2004 - a schema's number


def expired(db: sqlite3.Connection, machine: str) -> Expired:
    """What has expired of a machine."""
    if not has_rollups(db) or machine.startswith(REPLAYED):
        return Expired()
    found = dict(db.execute("SELECT what, before_us FROM expired").fetchall())
    return Expired(found.get("raw", 0), found.get("minute", 0), found.get("hour", 0))


def raw_expired(db: sqlite3.Connection, series: int) -> int:
    """Before which event time readings of a series may be gone."""
    [machine] = db.execute("SELECT machine FROM series WHERE id = ?", (series,)).fetchone()
    return expired(db, machine).raw_us


def expire(db: sqlite3.Connection, retention: Retention, now_us: int) -> int:
    """Remove a piece of what is kept no longer, inside the caller's transaction; returns the rows."""
    kept = {"raw": retention.raw_us, "minute": retention.minute_us, "hour": retention.hour_us}
    before = {what: (now_us - age) // HOUR_US * HOUR_US for what, age in kept.items() if age is not None}
    db.executemany(_SAY, before.items())
    left = _PIECE
    for what, table, series, bound in _TABLES:
        if what in before:
            for (one,) in db.execute(_KEPT.format(series)).fetchall():
                left -= _remove(db, table, bound, (one,), before[what], left)
    for width_us, what in ((MINUTE_US, "minute"), (HOUR_US, "hour")):
        if what in before:
            for (one,) in db.execute(_KEPT.format("series")).fetchall():
                left -= _remove(db, "rollups", "start_us", (one, width_us), before[what], left)
    if "minute" in before:
        for key in _aggregates(db):
            left -= _remove(db, "aggregates", "start_us", key, before["minute"], left)
    return _PIECE - left


def _remove(
    db: sqlite3.Connection, table: str, bound: str, key: tuple[int, ...], before_us: int, most: int
) -> int:
    """Remove the oldest rows of a stretch of the tree that are before a time, at most `most` of them."""
    if most <= 0:
        return 0
    where = f"series = ? {'AND width_us = ?' if len(key) > 1 else ''} AND {bound} < ?"
    cut = db.execute(
        f"SELECT {bound} FROM {table} WHERE {where} ORDER BY {bound} LIMIT 1 OFFSET ?",  # noqa: S608 - own names
        (*key, before_us, most),
    ).fetchone()
    end = before_us if cut is None else cut[0]
    return db.execute(f"DELETE FROM {table} WHERE {where}", (*key, end)).rowcount  # noqa: S608 - own names


def _aggregates(db: sqlite3.Connection) -> Iterator[tuple[int, int]]:
    """The (series, width) that have aggregates, by one step down the tree each."""
    step = "SELECT min(width_us) FROM aggregates WHERE series = ? AND width_us > ?"
    for (series,) in db.execute(_KEPT.format("series")).fetchall():
        width_us = 0
        while (width_us := db.execute(step, (series, width_us)).fetchone()[0] or 0) > 0:
            yield series, width_us
