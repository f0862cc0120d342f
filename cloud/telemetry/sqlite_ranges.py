"""Which rows of which source the store holds: merged ranges in memory, saved with the content they stand for."""

import sqlite3

from shared.ranges import Range, RangeSet


class RowRanges:
    """Ranges by source, read once and then kept; `save` writes what was added since, inside the transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._held: dict[int, RangeSet] = {}
        self._added: dict[tuple[int, int], RangeSet] = {}

    def forget(self) -> None:
        """Drop what was not saved, and everything read."""
        self._held.clear()
        self._added.clear()

    def fresh(self, source: int, first: int, last: int) -> list[Range]:
        """The parts of a range that the store does not hold, neither as content nor as rejected."""
        if source not in self._held:
            self._held[source] = RangeSet(
                self._db.execute(
                    "SELECT first, last FROM row_ranges WHERE source = ? ORDER BY first", (source,)
                )
            )
        held = self._held[source]
        return [] if held.covers(first, last) else held.gaps(first, last)

    def add(self, source: int, outcome: int, first: int, last: int) -> None:
        """Hold a range from now on."""
        self._held[source].add(first, last)
        self._added.setdefault((source, outcome), RangeSet()).add(first, last)

    def save(self) -> None:
        """Merge what was added into the table."""
        for (source, outcome), ranges in self._added.items():
            for first, last in ranges:
                self._merge(source, outcome, first, last)
        self._added.clear()

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
