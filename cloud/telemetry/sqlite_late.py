"""Counting delays on the way into the embedded store: columns of one write together, totals kept in memory and saved with it."""

import sqlite3
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from cloud.telemetry.lateness import Delays, Ints, Key, LateBounds, Lateness, Stage

_BLOB: Final = "<i8"


class LateRows:
    """Totals by (edge, epoch); what `add` took is counted by `save`, inside the write's transaction."""

    def __init__(self, connection: sqlite3.Connection, bounds: LateBounds) -> None:
        self._db = connection
        self._bounds = bounds
        self._totals: dict[Key, dict[Stage, Lateness]] = {}
        self._added = Delays()

    def forget(self) -> None:
        """Drop what was not saved, and everything read."""
        self._totals.clear()
        self._added.clear()

    def add(self, key: Key, time_us: Ints, arrival_us: Ints, logged_us: int) -> None:
        """Readings of one record: their own times, their arrivals, and when the log took it."""
        self._added.add(key, time_us, arrival_us, logged_us)

    def save(self, now_us: int | None) -> None:
        """Count and write the totals. `now_us` None: how long the way into the store took is not known."""
        counted = self._added.counted(self._bounds, now_us)
        for key, stage, bound_us, found in counted:
            total = self._of(key).setdefault(stage, Lateness(bound_us))
            total.bound_us = bound_us
            total.add(*found)
        self._db.executemany(
            "INSERT OR REPLACE INTO lateness VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *key,
                    stage,
                    one.bound_us,
                    one.rows,
                    one.late,
                    one.longest_us,
                    one.counts.astype(_BLOB).tobytes(),
                )
                for key in dict.fromkeys(one[0] for one in counted)
                for stage, one in self._totals[key].items()
            ],
        )
        self._added.clear()

    def _of(self, key: Key) -> dict[Stage, Lateness]:
        if key not in self._totals:
            found = self._db.execute("SELECT * FROM lateness WHERE edge = ? AND epoch = ?", key)
            self._totals[key] = {stage: one for _, stage, one in parsed(found)}
        return self._totals[key]


def parsed(rows: Iterable[tuple[Any, ...]]) -> Iterable[tuple[Key, Stage, Lateness]]:
    """The table's rows."""
    for edge, epoch, stage, bound_us, count, late, longest_us, counts in rows:
        one = Lateness(bound_us, count, late, longest_us, np.frombuffer(counts, _BLOB).astype(np.int64))
        yield (edge, bytes(epoch)), stage, one
