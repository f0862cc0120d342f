"""Opening an outbox's file: its schema, its pragmas, and what happens to a damaged one."""

import os
import secrets
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import TypeAdapter, ValidationError

from edge.outbox_frames import ADDED, Level
from edge.outbox_spans import SCHEMA as SPANS
from shared.clock import Clock
from shared.errors import Misconfigured
from shared.events import at
from shared.frames import EPOCH_BYTES, Kind

log = structlog.get_logger()

SCHEMA_VERSION: Final = 2
AWAY: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""The last one: a column or table that the statements of opening name is not there, so the schema's own text rotted."""
_FILES: Final = ("", "-wal", "-journal")
_DAMAGED_ROWS: Final = """CREATE TABLE damaged (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, first INTEGER NOT NULL, last INTEGER NOT NULL, machine TEXT NOT NULL,
    kind INTEGER NOT NULL, urgent INTEGER NOT NULL, place TEXT NOT NULL, reason TEXT NOT NULL,
    found_us INTEGER NOT NULL, data BLOB NOT NULL)"""
_SCHEMA: Final = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    """CREATE TABLE waiting (
        arrival INTEGER PRIMARY KEY AUTOINCREMENT, machine TEXT NOT NULL, kind INTEGER NOT NULL,
        urgent INTEGER NOT NULL, rows INTEGER NOT NULL, body BLOB NOT NULL, crc INTEGER)""",
    """CREATE TABLE frames (
        first INTEGER PRIMARY KEY, last INTEGER NOT NULL, machine TEXT NOT NULL, kind INTEGER NOT NULL,
        urgent INTEGER NOT NULL, data BLOB NOT NULL)""",
    """CREATE TABLE tally (
        machine TEXT NOT NULL, hour INTEGER NOT NULL, count INTEGER NOT NULL, sum TEXT NOT NULL,
        PRIMARY KEY (machine, hour)) WITHOUT ROWID""",
    _DAMAGED_ROWS,
    *ADDED,
    *SPANS,
)


class DamagedError(Exception):
    """The file is not a whole outbox."""


def code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, 0 if the error did not come from SQLite itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def open_database(path: Path, clock: Clock) -> tuple[sqlite3.Connection, Path | None]:
    """The database, and where a damaged file was set aside (its rows can still be looked for there).

    Raises:
        Misconfigured: The folder can't be written, another process has the file, or a newer release wrote it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _connect(path), None
        except DamagedError as error:
            damage = str(error)
        aside = _set_aside(path, clock)
        log.error(
            "the outbox is damaged: set aside, a new epoch begins; rows that only it held are missing",
            file=str(path),
            kept_as=str(aside),
            damage=damage,
        )
        return _connect(path), aside
    except OSError as error:
        raise Misconfigured(
            f"the outbox {path} can't be made: {error}", hint="set edge.outbox.path to a writable place"
        ) from error


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    db.text_factory = lambda raw: raw.decode(
        errors="replace"
    )  # a damaged name is one row's trouble, not the file's
    try:
        # One process a file; with the exclusive lock there is no shared memory that a crash could leave behind.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")
        _check(db, path)
    except sqlite3.DatabaseError as error:
        db.close()
        if code(error) in _DAMAGED:
            raise DamagedError(str(error)) from error
        raise Misconfigured(
            f"the outbox {path} can't be opened: {error}",
            hint="another edge may be running on it, or the folder is not writable",
        ) from error
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection, path: Path) -> None:
    # Taking the lock also rolls back or recovers what a killed writer left.
    db.execute("BEGIN IMMEDIATE")
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        for statement in _SCHEMA:
            db.execute(statement)
        db.executemany(
            "INSERT INTO meta VALUES (?, ?)",
            [("schema", SCHEMA_VERSION), ("epoch", secrets.token_bytes(EPOCH_BYTES)), ("next_row", 1)],
        )
    db.execute("COMMIT")
    _sync_folder(path.parent)
    verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise DamagedError(str(verdict))
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"meta", "waiting", "frames", "tally"} <= tables:
        raise DamagedError("it is a database, but not an outbox")
    meta = dict(db.execute("SELECT key, value FROM meta WHERE key NOT LIKE 'state:%'"))
    _check_meta(meta)
    if meta["schema"] not in {1, SCHEMA_VERSION}:
        raise Misconfigured(
            f"the outbox {path} has schema {meta['schema']}, this release writes {SCHEMA_VERSION}",
            hint="let the release that wrote it deliver its rows, or upgrade",
        )
    if meta["schema"] == 1:
        _migrate(db, with_sums="damaged" in tables)


def _check_meta(meta: Mapping[str, object]) -> None:
    """SQLite's check sees no bit that flips in a value. Raises DamagedError for values that nobody can have written."""
    epoch, row = meta.get("epoch"), meta.get("next_row")
    if not isinstance(meta.get("schema"), int) or not isinstance(epoch, bytes) or len(epoch) != EPOCH_BYTES:
        raise DamagedError("its schema or epoch is missing")
    if not isinstance(row, int) or row < 1:
        raise DamagedError(f"its next row, {row!r}, is none that can follow")
    shapes: dict[str, Any] = {
        "freed": list[tuple[int, int]],
        "degraded": list[tuple[int, int]],
        "thinned": tuple[int, int],
    }
    for name in shapes.keys() & meta.keys():
        try:
            TypeAdapter(shapes[name]).validate_json(meta[name])  # type: ignore[arg-type]
        except ValidationError as error:
            raise DamagedError(f"its {name} rows can't be read") from error


def _migrate(db: sqlite3.Connection, *, with_sums: bool) -> None:
    """From schema 1, in one transaction."""
    db.execute("BEGIN IMMEDIATE")
    if not with_sums:  # made before rows had sums: those that wait stay unchecked
        db.execute("ALTER TABLE waiting ADD COLUMN crc INTEGER")
        db.execute(_DAMAGED_ROWS)
    for statement in (*ADDED, *SPANS):
        db.execute(statement)
    # Which frames were sent is not known of them. One that was and is thinned now may reach the log raw, too: then
    # the store has its readings beside the aggregate, and raw rows outrank it.
    db.execute("UPDATE frames SET level = ? WHERE kind = ?", (int(Level.RAW), int(Kind.READINGS)))
    db.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (SCHEMA_VERSION,))
    db.execute("COMMIT")


def _sync_folder(folder: Path) -> None:
    """Make the file's name itself durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _set_aside(path: Path, clock: Clock) -> Path:
    stamp = at(clock.now_us()).strftime("%Y%m%dT%H%M%S%fZ")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in _FILES:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    _sync_folder(path.parent)
    return aside
