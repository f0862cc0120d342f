"""The embedded store's copy: what it takes over from the file that it is to replace, and how it replaces it.

Content goes from file to file inside SQLite: taking over is one statement a series with the identity rule in it,
replacing is SQLite's own backup into the live file. That is one transaction, so that readers see the old content
until they see all of the new, and a process killed in it leaves the old one.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from cloud.telemetry.port import HOUR_US, Source, StoredRanges, Told
from cloud.telemetry.sqlite_ranges import RowRanges
from cloud.telemetry.sqlite_read import stored_ranges
from cloud.telemetry.sqlite_rollup import fill
from cloud.telemetry.sqlite_schema import REJECTED, STORED, check
from cloud.telemetry.sqlite_write import transaction
from shared.errors import Unavailable
from shared.names import REPLAYED
from shared.ranges import RangeSet

_BACKUP_PAGES: Final = 4096
_WITH_LATENESS: Final = 2
_WITH_ROLLUPS: Final = 3

# The rows to take over, by the old file's ids, and its ids beside those here.
_PREPARE: Final = """
DROP TABLE IF EXISTS temp.lacking;
DROP TABLE IF EXISTS temp.source_of;
DROP TABLE IF EXISTS temp.unit_of;
CREATE TEMP TABLE lacking (source INTEGER, first INTEGER, last INTEGER, outcome INTEGER, PRIMARY KEY (source, first));
INSERT OR IGNORE INTO main.sources (edge, epoch) SELECT edge, epoch FROM old.sources ORDER BY id;
INSERT OR IGNORE INTO main.units (unit) SELECT unit FROM old.units ORDER BY id;
INSERT OR IGNORE INTO main.score_series (machine, version_hash) SELECT machine, version_hash FROM old.score_series ORDER BY id;
INSERT OR IGNORE INTO main.score_layouts (model, alarm_limit, sensors)
    SELECT model, alarm_limit, sensors FROM old.score_layouts ORDER BY id;
CREATE TEMP TABLE source_of AS SELECT o.id AS old, n.id AS new, n.epoch AS epoch
    FROM old.sources o JOIN main.sources n USING (edge, epoch);
CREATE TEMP TABLE unit_of AS SELECT o.id AS old, n.id AS new FROM old.units o JOIN main.units n USING (unit);
CREATE UNIQUE INDEX temp.by_source ON source_of (old);
CREATE UNIQUE INDEX temp.by_unit ON unit_of (old);
"""
_CHOSEN: Final = (
    "(SELECT c.last FROM temp.lacking c WHERE c.source = {0}.source AND c.first <= {0}.row"
    " ORDER BY c.first DESC LIMIT 1) >= {0}.row"
)
_EPOCH: Final = "(SELECT epoch FROM main.sources WHERE id = {}.source)"
_NEWER: Final = f"({_EPOCH.format('excluded')}, excluded.row) > ({_EPOCH.format('{table}')}, {{table}}.row)"
_READINGS: Final = (
    "INSERT INTO main.readings SELECT ?2, r.time_us, r.value, r.quality, u.new, r.arrival_us, s.new, r.row"  # noqa: S608 - own names
    " FROM old.readings r JOIN temp.source_of s ON s.old = r.source JOIN temp.unit_of u ON u.old = r.unit"
    f" WHERE r.series = ?1 AND {_CHOSEN.format('r')} ON CONFLICT (series, time_us) DO UPDATE SET"
    " value = excluded.value, quality = excluded.quality, unit = excluded.unit, arrival_us = excluded.arrival_us,"
    f" source = excluded.source, row = excluded.row WHERE (excluded.arrival_us, {_EPOCH.format('excluded')}, excluded.row)"
    f" > (readings.arrival_us, {_EPOCH.format('readings')}, readings.row)"
)
_SPAN: Final = (
    f"SELECT min(time_us), max(time_us) FROM old.readings r WHERE series = ?1 AND {_CHOSEN.format('r')}"  # noqa: S608 - own names
)
_AGGREGATES: Final = (
    "INSERT INTO main.aggregates SELECT ?2, a.width_us, a.start_us, u.new, a.rows, a.minimum, a.maximum, a.mean,"  # noqa: S608 - own names
    " s.new, a.row FROM old.aggregates a JOIN temp.source_of s ON s.old = a.source JOIN temp.unit_of u ON u.old = a.unit"
    f" WHERE a.series = ?1 AND {_CHOSEN.format('a')} ON CONFLICT (series, width_us, start_us) DO UPDATE SET"
    " unit = excluded.unit, rows = excluded.rows, minimum = excluded.minimum, maximum = excluded.maximum,"
    " mean = excluded.mean, source = excluded.source, row = excluded.row"
    f" WHERE {_NEWER.format(table='aggregates')}"
)
_SCORES: Final = (
    "INSERT INTO main.scores SELECT n.id, r.time_us, m.id, r.score, r.state, r.contribution, r.expected, s.new, r.row"  # noqa: S608 - own names
    " FROM old.scores r JOIN temp.source_of s ON s.old = r.source JOIN old.score_series o ON o.id = r.series"
    " JOIN main.score_series n USING (machine, version_hash) JOIN old.score_layouts l ON l.id = r.layout"
    " JOIN main.score_layouts m USING (model, alarm_limit, sensors)"
    f" WHERE {_CHOSEN.format('r')} ON CONFLICT (series, time_us) DO UPDATE SET layout = excluded.layout,"
    " score = excluded.score, state = excluded.state, contribution = excluded.contribution,"
    " expected = excluded.expected, source = excluded.source, row = excluded.row"
    f" WHERE {_NEWER.format(table='scores')}"
)
# Older than all that are there already, whose numbers begin at 1.
_CONFLICTS: Final = (
    "INSERT INTO main.conflicts SELECT c.seq - 1 - (SELECT max(seq) FROM old.conflicts), n.id, c.time_us, k.new,"
    " c.kept_row, c.kept_value, l.new, c.lost_row, c.lost_value FROM old.conflicts c"
    " JOIN old.series o ON o.id = c.series JOIN main.series n USING (machine, sensor)"
    " JOIN temp.source_of k ON k.old = c.kept_source JOIN temp.source_of l ON l.old = c.lost_source"
    " WHERE EXISTS (SELECT 1 FROM temp.lacking x WHERE x.source = c.kept_source AND c.kept_row BETWEEN x.first AND x.last)"
    " OR EXISTS (SELECT 1 FROM temp.lacking x WHERE x.source = c.lost_source AND c.lost_row BETWEEN x.first AND x.last)"
)
_EVENTS: Final = (
    "INSERT OR IGNORE INTO main.events (id, type, machine, occurred_us, json)"
    " SELECT id, type, machine, occurred_us, json FROM old.events ORDER BY seq"
)
_OF_LACKING: Final = (
    "(edge, epoch) IN (SELECT edge, epoch FROM old.sources WHERE id IN (SELECT source FROM temp.lacking))"
)
_COUNTERS: Final = (
    f"INSERT INTO main.counters SELECT * FROM old.counters WHERE {_OF_LACKING} ON CONFLICT (edge, epoch) DO UPDATE SET"  # noqa: S608 - own names
    " duplicates = max(duplicates, excluded.duplicates), conflicts = max(conflicts, excluded.conflicts),"
    " redelivered = max(redelivered, excluded.redelivered)"
)
# How long the way into the store took is told by no log: that is always the old file's word.
_LATENESS: Final = (
    f"INSERT OR REPLACE INTO main.lateness SELECT * FROM old.lateness AS o WHERE stage = 'store' OR ({_OF_LACKING}"  # noqa: S608 - own names
    " AND rows > coalesce((SELECT n.rows FROM main.lateness n WHERE n.edge = o.edge AND n.epoch = o.epoch"
    " AND n.stage = o.stage), 0))"
)
# Before the time until which the old file's readings have expired its minutes and hours alone are whole; those made
# here are of what the log has left. What is not older is made from readings, which are here by then.
_EXPIRED: Final = (
    "INSERT INTO main.expired SELECT what, before_us FROM old.expired WHERE true ON CONFLICT (what) DO UPDATE SET"
    " before_us = max(before_us, excluded.before_us)"
)
_OLD_BUCKETS: Final = (
    " WHERE r.start_us < (SELECT before_us FROM old.expired WHERE what = 'raw')"  # noqa: S608 - own names
    f" AND o.machine NOT LIKE '{REPLAYED}%'"
)
_OLD_SERIES: Final = (
    "INSERT OR IGNORE INTO main.series (machine, sensor) SELECT DISTINCT o.machine, o.sensor"  # noqa: S608 - own names
    f" FROM old.rollups r JOIN old.series o ON o.id = r.series{_OLD_BUCKETS}"
)
_ROLLUPS: Final = (
    "INSERT OR REPLACE INTO main.rollups SELECT n.id, r.width_us, r.start_us, r.rows, r.minimum, r.maximum, r.mean,"  # noqa: S608 - own names
    " r.last, r.last_us, u.new, r.quality FROM old.rollups r JOIN old.series o ON o.id = r.series"
    " JOIN main.series n ON n.machine = o.machine AND n.sensor = o.sensor JOIN temp.unit_of u ON u.old = r.unit"
    f"{_OLD_BUCKETS}"
)


def building(path: Path) -> Path:
    """The copy that is being made."""
    return path.with_name(path.name + ".rebuild")


def complete(path: Path) -> Path:
    """The copy that waits to replace the store."""
    return path.with_name(path.name + ".rebuilt")


def mark_complete(path: Path) -> None:
    """Give the finished copy its name. Raises Unavailable if another program has it open."""
    copy = building(path)
    if copy.with_name(copy.name + "-wal").exists():
        raise Unavailable(f"{copy} is open in another program")
    _sync(copy)
    copy.replace(complete(path))
    _sync(path.parent)


def remove(copy: Path) -> None:
    """Remove a copy with what SQLite put beside it."""
    for suffix in ("", "-wal", "-shm", ".lock"):
        copy.with_name(copy.name + suffix).unlink(missing_ok=True)


def set_aside(path: Path, mark: str) -> Path:
    """Rename a file that is no use, with what SQLite put beside it; returns its new place."""
    aside = path.with_name(f"{path.name}.{mark}")
    for suffix in ("-wal", "-shm", ""):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.replace(aside.with_name(aside.name + suffix))
    return aside


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def take_over(
    db: sqlite3.Connection, old: Path, held: Mapping[Source, StoredRanges], *, events: bool, told: Told
) -> int:
    """Copy the rows of `held` that are not here from the store at `old`; with `events` its other events too.

    Killed before its end, it is to be done again: the ranges that say that rows are here come last. Returns the rows.
    """
    with _attached(db, old):
        with transaction(db):
            for statement in filter(str.strip, _PREPARE.split(";")):
                db.execute(statement)
            lacking = list(_lacking(db, held))
            db.executemany("INSERT INTO temp.lacking VALUES (?, ?, ?, ?)", lacking)
        if lacking:
            _content(db, told)
        with transaction(db):
            if lacking:
                db.execute(_CONFLICTS)
            if events:
                db.execute(_EVENTS)
            version = db.execute("PRAGMA old.user_version").fetchone()[0]
            if version >= _WITH_ROLLUPS:
                for statement in (_EXPIRED, _OLD_SERIES, _ROLLUPS):
                    db.execute(statement)
            if version >= _WITH_LATENESS:
                db.execute(_COUNTERS)
                db.execute(_LATENESS)
            db.execute("INSERT OR IGNORE INTO main.positions SELECT * FROM old.positions")
            _hold(db)
    return sum(last - first + 1 for _, first, last, _ in lacking)


def replace(db: sqlite3.Connection, copy: Path, told: Told) -> None:
    """Make the content of `db` that of the store at `copy`, in one transaction."""
    with closing(sqlite3.connect(f"{copy.resolve().as_uri()}?mode=ro", uri=True)) as source:
        check(source, copy)
        source.backup(db, pages=_BACKUP_PAGES, progress=lambda _, left, total: told(total - left, total))


@contextmanager
def _attached(db: sqlite3.Connection, old: Path) -> Iterator[None]:
    db.execute("ATTACH ? AS old", (f"{old.resolve().as_uri()}?mode=ro",))
    try:
        yield
    finally:
        db.execute("DETACH old")


def _lacking(
    db: sqlite3.Connection, held: Mapping[Source, StoredRanges]
) -> Iterator[tuple[int, int, int, int]]:
    """(old source id, first, last, outcome) of what is held there and not here."""
    mine = stored_ranges(db, None)
    ids = {
        Source(edge, epoch): key for key, edge, epoch in db.execute("SELECT id, edge, epoch FROM old.sources")
    }
    for source, ranges in held.items():
        here = mine.get(source, StoredRanges())
        both = RangeSet([*here.stored, *here.rejected])
        for outcome, rows, known in ((STORED, ranges.stored, here.stored), (REJECTED, ranges.rejected, both)):
            for first, last in rows:
                for low, high in known.gaps(first, last):
                    yield ids[source], low, high, outcome


def _content(db: sqlite3.Connection, told: Told) -> None:
    series = db.execute("SELECT id, machine, sensor FROM old.series ORDER BY id").fetchall()
    for number, (old, machine, sensor) in enumerate(series):
        told(number, len(series) + 1)
        any_row = " UNION ALL ".join(
            f"SELECT 1 FROM (SELECT 1 FROM old.{table} t WHERE t.series = ?1 AND {_CHOSEN.format('t')} LIMIT 1)"  # noqa: S608 - own names
            for table in ("readings", "aggregates")
        )
        if db.execute(any_row, (old,)).fetchone() is None:
            continue
        with transaction(db):
            db.execute("INSERT OR IGNORE INTO main.series (machine, sensor) VALUES (?, ?)", (machine, sensor))
            [new] = db.execute(
                "SELECT id FROM main.series WHERE machine = ? AND sensor = ?", (machine, sensor)
            ).fetchone()
            db.execute(_READINGS, (old, new))
            low, high = db.execute(_SPAN, (old,)).fetchone()
            if low is not None:  # their minutes and hours, from what was here and what has come
                fill(db, new, low // HOUR_US * HOUR_US, (high // HOUR_US + 1) * HOUR_US)
            db.execute(_AGGREGATES, (old, new))
    with transaction(db):
        db.execute(_SCORES)


def _hold(db: sqlite3.Connection) -> None:
    ranges = RowRanges(db)
    for source, first, last, outcome in db.execute(
        "SELECT s.new, l.first, l.last, l.outcome FROM temp.lacking l JOIN temp.source_of s ON s.old = l.source"
    ).fetchall():
        ranges.fresh(source, first, last)  # reads what is held
        ranges.add(source, outcome, first, last)
    ranges.save()
