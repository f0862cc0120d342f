"""Spans of a machine's time that thinning minds: windows around anomalies, and buckets that were sent already.

Windows keep their readings raw longest. Of buckets that were sent nothing more may be made: the same machine, sensor,
start and width a second time would replace the first in the store, and what that stood for with it.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.event import to_us
from shared.frames import Records, Scores, ScoreState
from shared.packing import Item

ANOMALY: Final = 0
"""The width under which windows around anomalies are kept; the others are widths of buckets in µs."""
MOST: Final = 20_000
"""Spans kept; beyond, the oldest are forgotten."""
_TYPES: Final = ("anomaly.", "limit.")

SCHEMA: Final = (
    """CREATE TABLE spans (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, machine TEXT NOT NULL, width_us INTEGER NOT NULL,
        from_us INTEGER NOT NULL, to_us INTEGER NOT NULL)""",
    "CREATE INDEX spans_time ON spans (machine, width_us, to_us)",
)


@dataclass(frozen=True, slots=True)
class Span:
    """From and to, both included, in µs of event time."""

    machine: str
    from_us: int
    to_us: int


def anomaly_windows(items: Iterable[Item], margin_us: int) -> list[Span]:
    """What to keep raw longest: `margin_us` before and after each score above its limit, and each anomaly or limit event."""
    found: list[Span] = []
    for item in items:
        match item.body:
            case Scores(time_us=time_us, state=state):
                times = time_us[state == ScoreState.ALARM]
                groups = np.split(times, np.flatnonzero(np.diff(times) > 2 * margin_us) + 1)
                moments = [(int(group.min()), int(group.max())) for group in groups if len(group)]
            case Records(record=records) if item.urgent:
                moments = [(at, at) for at in map(_moment, records) if at is not None]
            case _:
                continue
        found += [Span(item.machine, low - margin_us, high + margin_us) for low, high in moments]
    return found


def _moment(record: bytes) -> int | None:
    """When an anomaly or a limit's crossing was, None for other events."""
    try:
        event: dict[str, Any] = orjson.loads(record)
        if not str(event.get("type", "")).startswith(_TYPES):
            return None
        return to_us(datetime.fromisoformat(event["time"]))
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
        return None


class Spans:
    """The table `spans`. Overlapping ones of a machine and width are one. Call inside the outbox's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add(self, span: Span, width_us: int) -> None:
        """Keep a span."""
        key = (span.machine, width_us)
        old = self._db.execute(
            "SELECT seq, from_us, to_us FROM spans"
            " WHERE machine = ? AND width_us = ? AND to_us >= ? AND from_us <= ?",
            (*key, span.from_us - 1, span.to_us + 1),
        ).fetchall()
        if not old:
            seq = self._db.execute(
                "INSERT INTO spans (machine, width_us, from_us, to_us) VALUES (?, ?, ?, ?)",
                (*key, span.from_us, span.to_us),
            ).lastrowid
            self._db.execute("DELETE FROM spans WHERE seq <= ?", ((seq or 0) - MOST,))
            return
        low = min([span.from_us, *(low for _, low, _ in old)])
        high = max([span.to_us, *(high for _, _, high in old)])
        (kept, *bounds), *others = old
        if [low, high] != bounds:
            self._db.execute("UPDATE spans SET from_us = ?, to_us = ? WHERE seq = ?", (low, high, kept))
        self._db.executemany("DELETE FROM spans WHERE seq = ?", [(seq,) for seq, _, _ in others])

    def inside(self, machine: str, width_us: int, time_us: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the times are in a span."""
        mask = np.zeros(len(time_us), np.bool_)
        if len(time_us):
            for low, high in self._db.execute(
                "SELECT from_us, to_us FROM spans WHERE machine = ? AND width_us = ? AND to_us >= ? AND from_us <= ?",
                (machine, width_us, int(time_us.min()), int(time_us.max())),
            ):
                mask |= (time_us >= low) & (time_us <= high)
        return mask
