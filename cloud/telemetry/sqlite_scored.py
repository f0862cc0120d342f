"""A machine's score for a screen: a range in at most so many points, made inside SQLite."""

import sqlite3
from typing import Final

import numpy as np
import orjson

from cloud.telemetry.port import ScoreTrend
from shared.frames import ScoreState

_SCORED: Final = (
    "FROM scores WHERE series IN (SELECT id FROM score_series WHERE machine = ?)"  # noqa: S608 - own names
    f" AND time_us >= ? AND time_us < ? AND score IS NOT NULL AND state <> {ScoreState.SHADOW.value}"
)


def score_trend(db: sqlite3.Connection, machine: str, from_us: int, to_us: int, most: int) -> ScoreTrend:
    """The machine's score, whichever version made it but those on trial; of a bucket its largest, with that window's limit."""
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
