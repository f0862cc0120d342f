"""A restored outbox begins a new epoch: its old rows' numbers may have been given to other rows since it was copied."""

import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Unavailable
from shared.frames import EPOCH_BYTES


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copied outbox says of itself."""

    epoch: bytes
    produced: int
    """The highest row number that it gave out."""
    waiting: int
    """Rows that have no number yet."""


def read_copied(path: Path) -> Copied:
    """The epoch of a copy and how far it came. Raises Unavailable."""
    with _opened(path) as db:
        meta = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('epoch', 'next_row')"))
        waiting = db.execute("SELECT coalesce(sum(rows), 0) FROM waiting").fetchone()[0]
        return Copied(bytes(meta["epoch"]), int(meta["next_row"]) - 1, int(waiting))


def kept_frames(path: Path) -> Iterator[bytes]:
    """The frames of the copy, whose rows the log had not confirmed, in order. Raises Unavailable."""
    with _opened(path) as db:
        for (data,) in db.execute("SELECT CAST(data AS BLOB) FROM frames ORDER BY first"):
            yield bytes(data)


def renew(path: Path) -> Path | None:
    """Begin a new epoch: what was numbered is gone from the file, and what waits gets numbers of the new one.

    Call it once the log has the copy's frames. Rows that were set aside as damaged stay in a copy of the old file,
    which is returned. Raises Unavailable.
    """
    aside = None
    with _opened(path) as db:
        damaged = db.execute("SELECT count(*) FROM damaged").fetchone()[0]
    if damaged:
        aside = path.with_name(f"{path.name}.damaged-before-restore")
        shutil.copy2(path, aside)
    with _opened(path) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (secrets.token_bytes(EPOCH_BYTES),))
        db.execute("UPDATE meta SET value = 1 WHERE key = 'next_row'")
        db.execute("DELETE FROM meta WHERE key IN ('freed', 'degraded', 'thinned')")
        for table in ("frames", "tally", "damaged"):
            db.execute(f"DELETE FROM {table}")  # noqa: S608 - the names above
        db.execute("COMMIT")
    return aside


class _opened(closing["sqlite3.Connection"]):  # noqa: N801 - reads as a function
    """The file, its errors as ours."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            super().__init__(sqlite3.connect(path, isolation_level=None))
        except sqlite3.Error as error:
            raise Unavailable(f"the outbox {path} can't be opened: {error}") from error
