"""Which rows of which source the store holds: merged ranges in memory, saved with the content they stand for."""

import sqlite3

from cloud.telemetry.held import Held, outside
from cloud.telemetry.sqlite_schema import REJECTED, STORED
from shared.ranges import Range, RangeSet


class RowRanges:
    """Ranges by source, read once and then kept; `save` writes what was added since, inside the transaction.

    Content outranks a refusal: rows that were refused, sent again and accepted are held as content from then on,
    whichever came first.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._held: dict[int, Held] = {}
        self._added: dict[tuple[int, int], RangeSet] = {}
        self._accepted: dict[int, RangeSet] = {}

    def forget(self) -> None:
        """Drop what was not saved, and everything read."""
        self._held.clear()
        self._added.clear()
        self._accepted.clear()

    def fresh(self, source: int, first: int, last: int, *, refused: bool = True) -> list[Range]:
        """The parts of a range that the store does not hold: of `refused` rows in no way, of others as content."""
        held = self._held.get(source)
        if held is None:
            held = self._held[source] = self._read(source)
        return held.fresh(first, last, refused=refused)

    def add(self, source: int, outcome: int, first: int, last: int) -> None:
        """Hold a range from now on."""
        if self._held[source].add(first, last, refused=outcome == REJECTED):
            self._accepted.setdefault(source, RangeSet()).add(first, last)
        added = self._added.get((source, outcome))
        if added is None:
            added = self._added[source, outcome] = RangeSet()
        added.add(first, last)

    def save(self) -> None:
        """Merge what was added into the table."""
        for (source, outcome), ranges in self._added.items():
            for first, last in ranges:
                self._merge(source, outcome, first, last)
        self._added.clear()
        for source, ranges in self._accepted.items():
            for first, last in ranges:
                self._cut(source, first, last)
        self._accepted.clear()

    def _read(self, source: int) -> Held:
        held = Held()
        for outcome, first, last in self._db.execute(
            "SELECT outcome, first, last FROM row_ranges WHERE source = ? ORDER BY first", (source,)
        ):
            (held.stored if outcome == STORED else held.rejected).add(first, last)
        return held

    def _merge(self, source: int, outcome: int, first: int, last: int) -> None:
        # The range that begins at or before `first` may reach it; all others to merge begin inside or just after.
        touching = self._db.execute(
            "SELECT first, last FROM row_ranges WHERE source = ?1 AND outcome = ?2 AND first <= ?4 + 1"
            " AND last >= ?3 - 1 AND first >= coalesce((SELECT max(first) FROM row_ranges"
            " WHERE source = ?1 AND outcome = ?2 AND first <= ?3), 0)",
            (source, outcome, first, last),
        ).fetchall()
        low = min([first, *(old for old, _ in touching)])
        high = max([last, *(old for _, old in touching)])
        self._db.execute(
            "DELETE FROM row_ranges WHERE source = ? AND outcome = ? AND first BETWEEN ? AND ?",
            (source, outcome, low, high),
        )
        self._db.execute("INSERT INTO row_ranges VALUES (?, ?, ?, ?)", (source, outcome, low, high))

    def _cut(self, source: int, first: int, last: int) -> None:
        """Take a range out of the rejected ones."""
        found = self._db.execute(
            "SELECT first, last FROM row_ranges WHERE source = ? AND outcome = ? AND first <= ? AND last >= ?",
            (source, REJECTED, last, first),
        ).fetchall()
        for old in found:
            self._db.execute(
                "DELETE FROM row_ranges WHERE source = ? AND outcome = ? AND first = ?",
                (source, REJECTED, old[0]),
            )
            self._db.executemany(
                "INSERT INTO row_ranges VALUES (?, ?, ?, ?)",
                [(source, REJECTED, *part) for part in outside(old, first, last)],
            )
