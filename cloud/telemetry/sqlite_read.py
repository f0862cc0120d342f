"""The embedded store's queries: plain functions of a connection, run in the store's thread."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson

from cloud.telemetry.lateness import Lateness, Stage
from cloud.telemetry.port import (
    Columns,
    ConflictFact,
    Counters,
    EventFact,
    Latest,
    Series,
    Source,
    StoredEvent,
    StoredRanges,
)
from cloud.telemetry.sqlite_late import parsed
from cloud.telemetry.sqlite_rollup_read import newest_unit
from cloud.telemetry.sqlite_schema import STORED
from shared.frames import Aggregates, Scores

_READING: Final = "time_us, value, quality, unit, arrival_us, source, row"

Rows = list[tuple[Any, ...]]


def series(db: sqlite3.Connection, machine: str | None) -> list[Series]:
    """Sensors with the unit of their newest reading ("" where only aggregates are left)."""
    found = db.execute(
        f"SELECT s.machine, s.sensor, {newest_unit(db)} FROM series s"  # noqa: S608 - own names
        " WHERE ?1 IS NULL OR s.machine = ?1 ORDER BY s.machine, s.sensor",
        (machine,),
    )
    return [Series(*row) for row in found]


def count(db: sqlite3.Connection, machine: str) -> int:
    """Readings of a machine: the length of its series' stretch of the tree."""
    query = "SELECT count(*) FROM readings WHERE series IN (SELECT id FROM series WHERE machine = ?)"
    found: int = db.execute(query, (machine,)).fetchone()[0]
    return found


def latest(db: sqlite3.Connection, machine: str) -> list[Latest]:
    """The newest reading of each sensor: one step down each series' end of the tree."""
    found = db.execute(
        "SELECT s.sensor, u.unit, r.time_us, r.value, r.quality, r.arrival_us FROM series s"
        " JOIN readings r ON r.series = s.id AND r.time_us ="
        " (SELECT max(time_us) FROM readings WHERE series = s.id) JOIN units u ON u.id = r.unit"
        " WHERE s.machine = ? ORDER BY s.sensor",
        (machine,),
    )
    return [Latest(*row) for row in found]


def sensor_ids(db: sqlite3.Connection, machine: str, sensors: Sequence[str] | None) -> list[tuple[int, str]]:
    """(series id, sensor) of the machine, those asked for and present, by name."""
    found = db.execute(
        "SELECT id, sensor FROM series WHERE machine = ? ORDER BY sensor", (machine,)
    ).fetchall()
    return [(key, name) for key, name in found if sensors is None or name in sensors]


def readings(
    db: sqlite3.Connection, machine: str, sensor: str, from_us: int, to_us: int, limit: int, *, newest: bool
) -> Columns:
    """The first or last `limit` rows of a range, in order of time."""
    ids = sensor_ids(db, machine, [sensor])
    rows: Rows = []
    if ids:
        order = "DESC" if newest else "ASC"
        rows = db.execute(
            f"SELECT {_READING} FROM readings WHERE series = ? AND time_us >= ? AND time_us < ?"  # noqa: S608 - own names
            f" ORDER BY time_us {order} LIMIT ?",
            (ids[0][0], from_us, to_us, limit),
        ).fetchall()
    if newest:
        rows.reverse()
    return _columns(db, (sensor,), [(0, row) for row in rows])


def chunk(
    db: sqlite3.Connection, machine: str, sensors: Sequence[str], from_us: int, to_us: int, limit: int
) -> tuple[Columns, int | None]:
    """The next rows of all series up to a time that all of them reached, and where to go on (None: the end).

    Each series gives at most its share of `limit`; the chunk ends at the earliest time at which one of them was
    cut short, so that no time is split.
    """
    ids = sensor_ids(db, machine, sensors)
    share = max(1, limit // max(1, len(ids)))
    parts: list[tuple[int, Rows]] = []
    horizon: int | None = None
    for index, (key, _) in enumerate(ids):
        rows = db.execute(
            f"SELECT {_READING} FROM readings WHERE series = ? AND time_us >= ? AND time_us < ?"  # noqa: S608 - own names
            " ORDER BY time_us LIMIT ?",
            (key, from_us, to_us, share),
        ).fetchall()
        if len(rows) == share:
            horizon = rows[-1][0] if horizon is None else min(horizon, rows[-1][0])
        parts.append((index, rows))
    kept = [(index, row) for index, rows in parts for row in rows if horizon is None or row[0] <= horizon]
    kept.sort(key=lambda item: item[1][0])
    columns = _columns(db, tuple(name for _, name in ids), kept)
    return columns, None if horizon is None else horizon + 1


def _columns(db: sqlite3.Connection, sensors: tuple[str, ...], rows: Sequence[tuple[int, Any]]) -> Columns:
    units = [unit for (unit,) in db.execute("SELECT unit FROM units ORDER BY id")]
    sources = [Source(*row) for row in db.execute("SELECT edge, epoch FROM sources ORDER BY id")]
    table: Any = list(zip(*(row for _, row in rows), strict=True)) if rows else [()] * 7
    time_us, value, quality, unit, arrival_us, source, row = table
    # Interned ids are handed out from 1 without gaps: nothing is ever deleted from these tables.
    return Columns(
        sensors,
        tuple(units),
        tuple(sources),
        np.array([index for index, _ in rows], np.int64),
        np.array(time_us, np.int64),
        np.array(value, np.float64),
        np.array(quality, np.uint8),
        np.array(unit, np.int64) - 1,
        np.array(arrival_us, np.int64),
        np.array(source, np.int64) - 1,
        np.array(row, np.int64),
    )


def aggregates(
    db: sqlite3.Connection, machine: str, sensor: str, from_us: int, to_us: int
) -> list[Aggregates]:
    """Buckets that start in the range, one item a (unit, width)."""
    found = db.execute(
        "SELECT u.unit, a.width_us, a.start_us, a.rows, a.minimum, a.maximum, a.mean FROM aggregates a"
        " JOIN series s ON s.id = a.series JOIN units u ON u.id = a.unit"
        " WHERE s.machine = ? AND s.sensor = ? AND a.start_us >= ? AND a.start_us < ? ORDER BY a.start_us",
        (machine, sensor, from_us, to_us),
    )
    groups: dict[tuple[str, int], Rows] = {}
    for unit, width_us, *rest in found:
        groups.setdefault((unit, width_us), []).append(tuple(rest))
    made = []
    for (unit, width_us), rows in groups.items():
        start_us, count, minimum, maximum, mean = zip(*rows, strict=True)
        made.append(
            Aggregates(
                (sensor,),
                (unit,),
                width_us,
                np.zeros(len(rows), np.int64),
                np.array(start_us, np.int64),
                np.array(count, np.int64),
                np.array(minimum, np.float64),
                np.array(maximum, np.float64),
                np.array(mean, np.float64),
            )
        )
    return made


def scores(
    db: sqlite3.Connection, machine: str, from_us: int, to_us: int, limit: int, *, newest: bool
) -> list[Scores]:
    """Scored windows, one item a (version, layout), each in order of time."""
    order = "DESC" if newest else "ASC"
    found = db.execute(
        "SELECT l.model, s.version_hash, l.alarm_limit, l.sensors, r.time_us, r.score, r.state, r.contribution,"  # noqa: S608 - own names
        " r.expected FROM scores r JOIN score_series s ON s.id = r.series JOIN score_layouts l ON l.id = r.layout"
        f" WHERE s.machine = ? AND r.time_us >= ? AND r.time_us < ? ORDER BY r.time_us {order} LIMIT ?",
        (machine, from_us, to_us, limit),
    ).fetchall()
    if newest:
        found.reverse()
    groups: dict[tuple[str, str, float, str], Rows] = {}
    for model, version, alarm_limit, sensors, *rest in found:
        groups.setdefault((model, version, alarm_limit, sensors), []).append(tuple(rest))
    made = []
    for (model, version, alarm_limit, sensors), rows in groups.items():
        names = tuple(orjson.loads(sensors))
        time_us, score, state, contribution, expected = zip(*rows, strict=True)
        shape = (len(rows), len(names))
        made.append(
            Scores(
                model,
                version,
                alarm_limit,
                names,
                np.array(time_us, np.int64),
                np.array([np.nan if one is None else one for one in score], np.float32),
                np.array(state, np.uint8),
                np.frombuffer(b"".join(contribution), "<f4").astype(np.float32).reshape(shape),
                np.frombuffer(b"".join(expected), "<f8").astype(np.float64).reshape(shape),
            )
        )
    return made


def events(
    db: sqlite3.Connection,
    machine: str | None,
    types: Sequence[str],
    since_us: int,
    limit: int,
    *,
    after_seq: int | None,
    before: tuple[int, int] | None,
) -> list[StoredEvent]:
    """Newest first by time, or after `after_seq` in the order in which they were stored."""
    conditions = ["occurred_us >= ?"]
    wanted: list[object] = [since_us]
    if machine is not None:
        conditions.append("machine = ?")
        wanted.append(machine)
    if types:
        conditions.append(f"type IN ({', '.join('?' * len(types))})")
        wanted.extend(types)
    if before is not None:
        conditions.append("(occurred_us, seq) < (?, ?)")
        wanted.extend(before)
    order = "occurred_us DESC, seq DESC"
    if after_seq is not None:
        conditions.append("seq > ?")
        wanted.append(after_seq)
        order = "seq"
    found = db.execute(
        "SELECT seq, id, type, machine, occurred_us, json FROM events"  # noqa: S608 - own names
        f" WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT ?",
        (*wanted, limit),
    )
    return [StoredEvent(seq, EventFact(*rest)) for seq, *rest in found]


def stored_ranges(db: sqlite3.Connection, edge: str | None) -> dict[Source, StoredRanges]:
    """Merged row ranges of each source."""
    found: dict[Source, StoredRanges] = {}
    for name, epoch, outcome, first, last in db.execute(
        "SELECT s.edge, s.epoch, r.outcome, r.first, r.last FROM row_ranges r JOIN sources s ON s.id = r.source"
        " WHERE ?1 IS NULL OR s.edge = ?1 ORDER BY r.source, r.outcome, r.first",
        (edge,),
    ):
        ranges = found.setdefault(Source(name, epoch), StoredRanges())
        (ranges.stored if outcome == STORED else ranges.rejected).add(first, last)
    return found


def counters(db: sqlite3.Connection) -> dict[Source, Counters]:
    """Counters of each source. A file that its writer has not brought up yet has one an edge."""
    epoch = "epoch" if _since_version_2(db) else "x''"
    query = f"SELECT edge, {epoch}, duplicates, conflicts, redelivered FROM counters"  # noqa: S608 - own names
    return {Source(edge, epoch): Counters(*rest) for edge, epoch, *rest in db.execute(query)}


def lateness(db: sqlite3.Connection) -> dict[Source, dict[Stage, Lateness]]:
    """Delays of each source at each stage."""
    found: dict[Source, dict[Stage, Lateness]] = {}
    if _since_version_2(db):
        for key, stage, one in parsed(db.execute("SELECT * FROM lateness")):
            found.setdefault(Source(*key), {})[stage] = one
    return found


def _since_version_2(db: sqlite3.Connection) -> bool:
    return bool(db.execute("PRAGMA user_version").fetchone()[0] > 1)


def conflicts(db: sqlite3.Connection, limit: int) -> list[ConflictFact]:
    """The newest conflicts."""
    found = db.execute(
        "SELECT s.machine, s.sensor, c.time_us, k.edge, k.epoch, c.kept_row, c.kept_value, l.edge, l.epoch,"
        " c.lost_row, c.lost_value FROM conflicts c JOIN series s ON s.id = c.series"
        " JOIN sources k ON k.id = c.kept_source JOIN sources l ON l.id = c.lost_source"
        " ORDER BY c.seq DESC LIMIT ?",
        (limit,),
    )
    return [
        ConflictFact(
            row[0],
            row[1],
            row[2],
            (Source(row[3], row[4]), row[5]),
            row[6],
            (Source(row[7], row[8]), row[9]),
            row[10],
        )
        for row in found
    ]


def positions(db: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """Topic to partition to offset."""
    found: dict[str, dict[str, int]] = {}
    for topic, partition, offset in db.execute("SELECT topic, partition, offset FROM positions"):
        found.setdefault(topic, {})[partition] = offset
    return found
