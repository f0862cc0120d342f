"""The outbox's byte cap: what of it is used, and for whom there is room left."""

import sqlite3
from pathlib import Path
from typing import Final

from shared.errors import Unavailable

WAL_SHARE: Final = 4
MAX_WAL: Final = 8 * 1024 * 1024
"""Of the cap, what is left to SQLite's journal: a fourth, at most this. It is written back from a fourth of that on: one
transaction, and what thinning takes along with it, must fit into the rest."""
SIXTEENTHS: Final = 16
_SHORT, _AMPLE, _ORDINARY = 14, 13, 15


class Room:
    """File and journal together stay below `max_bytes`. SQLite itself refuses pages beyond the file's part.

    Of that part the last sixteenth is for urgent rows. Above 14 sixteenths the outbox is thinned, down to 13.
    """

    def __init__(self, db: sqlite3.Connection, max_bytes: int, path: Path) -> None:
        journal = min(max_bytes // WAL_SHARE, MAX_WAL)
        self._journal = path.with_name(f"{path.name}-wal")
        self._most_journal = journal // 4
        self.bytes = max_bytes - journal
        self._db = db
        self._page = self._pragma("page_size")
        self._short = False
        db.execute(f"PRAGMA wal_autocheckpoint = {max(16, journal // 4 // self._page)}")
        db.execute(f"PRAGMA journal_size_limit = {journal // 4}")
        db.execute(f"PRAGMA max_page_count = {max(1, (self.bytes + journal // 8) // self._page)}")

    def check_journal(self) -> None:
        """Outside of a transaction: raises Unavailable if the journal is at its bound and can't be written back."""
        if self._journal_size() <= self._most_journal:
            return
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError as error:
            raise Unavailable(f"the outbox's journal can't be written back: {error}") from error
        if self._journal_size() > self._most_journal:
            raise Unavailable("the outbox's journal can't be written back")

    def _journal_size(self) -> int:
        try:
            return self._journal.stat().st_size
        except OSError:
            return 0

    def used(self) -> int:
        """Bytes of the file that hold something; SQLite reuses the others."""
        return (self._pragma("page_count") - self._pragma("freelist_count")) * self._page

    def has(self, size: int, *, urgent: bool) -> bool:
        """Whether rows of `size` bytes fit."""
        most = self.bytes if urgent else self.bytes * _ORDINARY // SIXTEENTHS
        return self.used() + size <= most

    def is_short(self) -> bool:
        """Whether it should be thinned: from the upper mark down to the lower one."""
        mark = _AMPLE if self._short else _SHORT
        self._short = self.used() > self.bytes * mark // SIXTEENTHS
        return self._short

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
