"""The outbox's table `frames`, and what is known of each frame without reading it."""

import sqlite3
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from edge.outbox_damage import kind_of
from shared.frames import Kind

ADDED: Final = (
    "ALTER TABLE frames ADD COLUMN level INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE frames ADD COLUMN width_us INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE frames ADD COLUMN from_us INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE frames ADD COLUMN to_us INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX frames_level ON frames (level, first, machine) WHERE level > 0",
)
"""What the table has had since schema 2: what thinning may do with a frame, and of aggregates the time they cover."""


class Level(IntEnum):
    """What thinning may make of a frame."""

    KEPT = 0  # nothing: it was sent, it is no reading, or nothing would be gained
    RAW = 1  # readings outside of anomalies
    FINE = 2  # their 10 s aggregates
    HELD = 3  # readings around anomalies
    HELD_FINE = 4  # their 10 s aggregates
    COARSE = 5  # 1 min aggregates: the last step; only more of the same minutes may join them


@dataclass(frozen=True, slots=True)
class FrameRef:
    """A frame that the outbox keeps; its bytes stay in the file. Aggregates cover `from_us` to `to_us`, both included."""

    first: int
    last: int
    machine: str
    urgent: bool
    kind: Kind = Kind.READINGS
    level: Level = Level.KEPT
    size: int = 0
    width_us: int = 0
    from_us: int = 0
    to_us: int = 0

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.last - self.first + 1

    @property
    def history(self) -> bool:
        """Whether it stands for old rows, whatever its row numbers say."""
        return self.kind is Kind.AGGREGATE


class Frames:
    """Every frame that is kept, in order of rows. Call what writes inside the outbox's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.load()

    def load(self) -> None:
        """Read the table anew."""
        found = self._db.execute(
            "SELECT first, last, machine, urgent, kind, level, length(data), width_us, from_us, to_us"
            " FROM frames ORDER BY first"
        )
        self._refs = {
            first: FrameRef(first, last, machine, bool(urgent), kind_of(kind), Level(level), *rest)
            for first, last, machine, urgent, kind, level, *rest in found
        }
        self._firsts = list(self._refs)
        self.bytes = dict.fromkeys(Level, 0)
        self.rows = 0
        self._made: dict[tuple[str, int], dict[int, FrameRef]] = {}
        for ref in self._refs.values():
            self._note(ref)

    def _note(self, ref: FrameRef) -> None:
        self.bytes[ref.level] += ref.size
        self.rows += ref.rows
        if ref.width_us and ref.level is not Level.KEPT:
            self._made.setdefault((ref.machine, ref.width_us), {})[ref.first] = ref

    def _unnote(self, ref: FrameRef) -> None:
        self.bytes[ref.level] -= ref.size
        self.rows -= ref.rows
        self._made.get((ref.machine, ref.width_us), {}).pop(ref.first, None)

    def __iter__(self) -> Iterator[FrameRef]:
        return (self._refs[first] for first in self._firsts)

    def get(self, first: int) -> FrameRef | None:
        """The frame that begins at this row."""
        return self._refs.get(first)

    def between(self, first: int, last: int) -> list[FrameRef]:
        """The frames that hold some of these rows."""
        low = max(0, bisect_right(self._firsts, first) - 1)
        return [self._refs[at] for at in self._firsts[low : bisect_right(self._firsts, last)]]

    def add(self, ref: FrameRef, data: bytes) -> None:
        """Keep a frame."""
        self._db.execute(
            "INSERT INTO frames (first, last, machine, kind, urgent, data, level, width_us, from_us, to_us)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                ref.first,
                ref.last,
                ref.machine,
                int(ref.kind),
                ref.urgent,
                data,
                int(ref.level),
                ref.width_us,
                ref.from_us,
                ref.to_us,
            ),
        )
        self._refs[ref.first] = ref
        insort(self._firsts, ref.first)
        self._note(ref)

    def drop(self, first: int) -> None:
        """Forget a frame."""
        self._unnote(self._refs.pop(first))
        del self._firsts[bisect_left(self._firsts, first)]
        self._db.execute("DELETE FROM frames WHERE first = ?", (first,))

    def put_at(self, ref: FrameRef, level: Level) -> None:
        """Say what thinning may make of it from now on."""
        self._unnote(ref)
        self._refs[ref.first] = replace(ref, level=level)
        self._note(self._refs[ref.first])
        self._db.execute("UPDATE frames SET level = ? WHERE first = ?", (int(level), ref.first))

    def oldest(self, level: Level, most: int) -> list[FrameRef]:
        """The oldest frame at this level and those of the same machine after it, at most `most` in all."""
        at_level = "FROM frames WHERE level > 0 AND level = ?"
        found = self._db.execute(
            f"SELECT first {at_level} AND machine = (SELECT machine {at_level} ORDER BY first LIMIT 1)"
            " ORDER BY first LIMIT ?",
            (int(level), int(level), most),
        )
        return [self._refs[first] for (first,) in found]

    def aggregates(self, machine: str, width_us: int, from_us: int, to_us: int) -> list[FrameRef]:
        """Frames of aggregates that were not sent and cover some of this time."""
        made = self._made.get((machine, width_us), {})
        return [ref for ref in made.values() if ref.to_us >= from_us and ref.from_us <= to_us]

    def data(self, first: int) -> tuple[object, bytes] | None:
        """Kind and bytes as they stand in the file."""
        found = self._db.execute(
            "SELECT kind, CAST(data AS BLOB) FROM frames WHERE first = ?", (first,)
        ).fetchone()
        return None if found is None else (found[0], bytes(found[1]))
