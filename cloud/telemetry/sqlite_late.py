"""Counting delays on the way into the embedded store: columns of one write together, totals kept in memory and saved with it."""

import sqlite3
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from cloud.telemetry.lateness import Ints, LateBounds, Lateness, Stage, measure

_BLOB: Final = "<i8"
Key = tuple[str, bytes]
"""Edge and epoch."""


class LateRows:
    """Totals by (edge, epoch); what `add` took is counted by `save`, inside the write's transaction."""

    def __init__(self, connection: sqlite3.Connection, bounds: LateBounds) -> None:
        self._db = connection
        self._bounds = bounds
        self._totals: dict[Key, dict[Stage, Lateness]] = {}
        self._added: dict[Key, list[tuple[Ints, Ints, int]]] = {}

    def forget(self) -> None:
        """Drop what was not saved, and everything read."""
        self._totals.clear()
        self._added.clear()

    def add(self, key: Key, time_us: Ints, arrival_us: Ints, logged_us: int) -> None:
        """Readings of one record: their own times, their arrivals, and when the log took it."""
        self._added.setdefault(key, []).append((time_us, arrival_us, logged_us))

    def save(self, now_us: int | None) -> None:
        """Count and write the totals. `now_us` None: how long the way into the store took is not known."""
        if not self._added:
            return
        parts = [part for parts in self._added.values() for part in parts]
        records = np.array([len(parts) for parts in self._added.values()], np.int64)
        rows = np.array([len(part[0]) for part in parts], np.int64)
        first_record = np.cumsum(records) - records
        first_row = (np.cumsum(rows) - rows)[first_record]
        time_us = np.concatenate([part[0] for part in parts])
        arrival_us = np.concatenate([part[1] for part in parts])
        logged_us = np.array([part[2] for part in parts], np.int64)
        self._count("device", arrival_us - time_us, first_row)
        self._count("uplink", np.repeat(logged_us, rows) - arrival_us, first_row)
        if now_us is not None:
            self._count("store", now_us - logged_us, first_record, rows)
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
                for key in self._added
                for stage, one in self._totals[key].items()
            ],
        )
        self._added.clear()

    def _count(self, stage: Stage, delay_us: Ints, starts: Ints, times: Ints | None = None) -> None:
        bound_us = self._bounds.of(stage)
        for key, found in zip(self._added, measure(delay_us, starts, bound_us, times), strict=True):
            total = self._of(key).setdefault(stage, Lateness(bound_us))
            total.bound_us = bound_us
            total.add(*found)

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
