"""The tables of the embedded telemetry store, and what SQLite's errors mean to a caller."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cloud.telemetry.facts import BEGIN_US, END_US
from cloud.telemetry.sqlite_rollup import fill
from shared.errors import Misconfigured, Unavailable

SCHEMA_VERSION: Final = 3
_OLDEST: Final = 1
"""Older files are brought up by their writer; readers read them as they are."""
STORED: Final = 0
REJECTED: Final = 1
CONFLICTS_KEPT: Final = 10_000
_BUSY_MS: Final = 5_000
_JOURNAL_BYTES: Final = 64 * 1024 * 1024

# `readings` is clustered on (series, time): a range of one sensor is one walk of the tree. `source` and `row` say
# which edge's row is kept. Names, units and sources are interned, so that a reading takes about 40 bytes.
# `rollups` keeps minutes and hours of `readings`, of each series in order; `last`, `last_us` and `unit` are its
# newest reading's. `expired` says before which event time rows of a kind may have been removed.
_ROLLUPS: Final = """
CREATE TABLE rollups (series INTEGER NOT NULL, width_us INTEGER NOT NULL, start_us INTEGER NOT NULL,
    rows INTEGER NOT NULL, minimum REAL NOT NULL, maximum REAL NOT NULL, mean REAL NOT NULL, last REAL NOT NULL,
    last_us INTEGER NOT NULL, unit INTEGER NOT NULL, quality INTEGER NOT NULL,
    PRIMARY KEY (series, width_us, start_us)) STRICT, WITHOUT ROWID;
CREATE TABLE expired (what TEXT PRIMARY KEY, before_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
SCHEMA: Final = (
    """
CREATE TABLE series (id INTEGER PRIMARY KEY, machine TEXT NOT NULL, sensor TEXT NOT NULL,
    UNIQUE (machine, sensor)) STRICT;
CREATE TABLE units (id INTEGER PRIMARY KEY, unit TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE sources (id INTEGER PRIMARY KEY, edge TEXT NOT NULL, epoch BLOB NOT NULL, UNIQUE (edge, epoch)) STRICT;
CREATE TABLE readings (series INTEGER NOT NULL, time_us INTEGER NOT NULL, value REAL NOT NULL,
    quality INTEGER NOT NULL, unit INTEGER NOT NULL, arrival_us INTEGER NOT NULL,
    source INTEGER NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (series, time_us)) STRICT, WITHOUT ROWID;
CREATE TABLE aggregates (series INTEGER NOT NULL, width_us INTEGER NOT NULL, start_us INTEGER NOT NULL,
    unit INTEGER NOT NULL, rows INTEGER NOT NULL, minimum REAL NOT NULL, maximum REAL NOT NULL, mean REAL NOT NULL,
    source INTEGER NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (series, width_us, start_us)) STRICT, WITHOUT ROWID;
CREATE TABLE score_series (id INTEGER PRIMARY KEY, machine TEXT NOT NULL, version_hash TEXT NOT NULL,
    UNIQUE (machine, version_hash)) STRICT;
CREATE TABLE score_layouts (id INTEGER PRIMARY KEY, model TEXT NOT NULL, alarm_limit REAL NOT NULL,
    sensors TEXT NOT NULL, UNIQUE (model, alarm_limit, sensors)) STRICT;
CREATE TABLE scores (series INTEGER NOT NULL, time_us INTEGER NOT NULL, layout INTEGER NOT NULL, score REAL,
    state INTEGER NOT NULL, contribution BLOB NOT NULL, expected BLOB NOT NULL,
    source INTEGER NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (series, time_us)) STRICT, WITHOUT ROWID;
CREATE TABLE events (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, machine TEXT NOT NULL,
    occurred_us INTEGER NOT NULL, json BLOB NOT NULL) STRICT;
CREATE INDEX events_by_machine ON events (machine, occurred_us);
CREATE INDEX events_by_time ON events (occurred_us);
CREATE TABLE conflicts (seq INTEGER PRIMARY KEY, series INTEGER NOT NULL, time_us INTEGER NOT NULL,
    kept_source INTEGER NOT NULL, kept_row INTEGER NOT NULL, kept_value REAL NOT NULL,
    lost_source INTEGER NOT NULL, lost_row INTEGER NOT NULL, lost_value REAL NOT NULL) STRICT;
CREATE TABLE row_ranges (source INTEGER NOT NULL, outcome INTEGER NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL, PRIMARY KEY (source, outcome, first)) STRICT, WITHOUT ROWID;
CREATE TABLE counters (edge TEXT NOT NULL, epoch BLOB NOT NULL, duplicates INTEGER NOT NULL,
    conflicts INTEGER NOT NULL, redelivered INTEGER NOT NULL, PRIMARY KEY (edge, epoch)) STRICT, WITHOUT ROWID;
CREATE TABLE lateness (edge TEXT NOT NULL, epoch BLOB NOT NULL, stage TEXT NOT NULL, bound_us INTEGER NOT NULL,
    rows INTEGER NOT NULL, late INTEGER NOT NULL, longest_us INTEGER NOT NULL, counts BLOB NOT NULL,
    PRIMARY KEY (edge, epoch, stage)) STRICT, WITHOUT ROWID;
CREATE TABLE positions (topic TEXT NOT NULL, partition TEXT NOT NULL, offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)) STRICT, WITHOUT ROWID;
"""
    + _ROLLUPS
)

# Version 1 counted an edge's epochs together: they go to its newest one.
_TO_VERSION_2: Final = """
ALTER TABLE counters RENAME TO counters_1;
CREATE TABLE counters (edge TEXT NOT NULL, epoch BLOB NOT NULL, duplicates INTEGER NOT NULL,
    conflicts INTEGER NOT NULL, redelivered INTEGER NOT NULL, PRIMARY KEY (edge, epoch)) STRICT, WITHOUT ROWID;
INSERT INTO counters SELECT edge, coalesce((SELECT s.epoch FROM sources s WHERE s.edge = c.edge
    ORDER BY s.id DESC LIMIT 1), x''), duplicates, conflicts, redelivered FROM counters_1 c;
DROP TABLE counters_1;
CREATE TABLE lateness (edge TEXT NOT NULL, epoch BLOB NOT NULL, stage TEXT NOT NULL, bound_us INTEGER NOT NULL,
    rows INTEGER NOT NULL, late INTEGER NOT NULL, longest_us INTEGER NOT NULL, counts BLOB NOT NULL,
    PRIMARY KEY (edge, epoch, stage)) STRICT, WITHOUT ROWID;
"""

_AWAY: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
}


@contextmanager
def mapped(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about the place (locked, full, gone) into Unavailable; the others are bugs and pass."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _AWAY:
            raise Unavailable(f"telemetry store {path}: {error}") from error
        if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
            raise Misconfigured(
                f"telemetry store {path}: {error}",
                hint="move the file away, or give another path; the log still holds its rows",
            ) from error
        raise


def connect_writer(path: Path) -> sqlite3.Connection:
    """A connection that makes the tables if they are missing. WAL, and each commit is on the disk on return."""
    with mapped(path):
        connection = sqlite3.connect(  # as a URI, so that others can be attached by one
            path.resolve().as_uri(), uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
            connection.execute("PRAGMA cache_size = -32768")
            if _version(connection) == 0 and not _tables(connection):
                connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            _bring_up(connection)
            check(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _bring_up(connection: sqlite3.Connection) -> None:
    """An older file to this schema in one transaction: killed in it, the file is as it was and it is done again."""
    version = _version(connection)
    if not _OLDEST <= version < SCHEMA_VERSION:
        return
    steps = (_TO_VERSION_2 if version < 2 else "") + _ROLLUPS  # noqa: PLR2004 - a schema's number
    import structlog  # noqa: PLC0415 - readers, some of them processes of their own, need no log

    log = structlog.get_logger()
    log.info("the store's file is brought up: some two seconds a million readings", schema=SCHEMA_VERSION)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in filter(str.strip, steps.split(";")):
            connection.execute(statement)
        for (series,) in connection.execute("SELECT id FROM series").fetchall():
            fill(connection, series, BEGIN_US, END_US)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that can't write. Raises Unavailable while no writer has made the store."""
    if not path.exists():
        raise Unavailable(f"telemetry store {path} is not there yet: `ingest` makes it")
    with mapped(path):
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            check(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _tables(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raises Misconfigured if the file is no telemetry store of this release's, Unavailable if it is being made."""
    version = _version(connection)
    if _OLDEST <= version <= SCHEMA_VERSION:
        return
    if version == 0 and not _tables(connection):
        raise Unavailable(f"telemetry store {path} is still being made")
    raise Misconfigured(
        f"{path} is no telemetry store of schema {SCHEMA_VERSION} (it says {version})",
        hint="give the store its own file, use the release that wrote it, or rebuild it from the log",
    )
