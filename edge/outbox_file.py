"""The outbox's file: SQLite, WAL, `synchronous=FULL`. What is committed here is not lost (promise 1).

Tables: `waiting` holds what was committed and has no row number yet; `frames` holds encoded frames until the event
log confirmed them; `tally` counts readings a machine-hour for the audit; `meta` holds the epoch, the next row and
the states of scoring. Everything here is synchronous and belongs to one thread; `edge.outbox` owns that thread.
"""

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge.outbox_open import AWAY, code, open_database
from edge.packing import ROOM, Piece, join, pack
from shared import checksum
from shared.clock import Clock
from shared.errors import Unavailable
from shared.frame_codec import decode_body, encode
from shared.frames import MAX_ROWS, Body, Header, Kind, Readings
from shared.ranges import Range, RangeSet

REPORTED_HOURS: Final = 31 * 24  # the log keeps readings 30 days: older hours can't be audited
REPORTED_ENTRIES: Final = 4000  # a value of the control plane holds 256 KiB

Group = tuple[str, int, bool]


@dataclass(frozen=True, slots=True)
class FrameRef:
    """A frame that the outbox keeps; its bytes stay in the file."""

    first: int
    last: int
    machine: str
    urgent: bool


class OutboxFile:
    """One outbox. Opening makes the file, or sets a damaged one aside under its time and begins a new epoch."""

    def __init__(self, path: Path, *, site: str, edge: str, max_bytes: int, clock: Clock) -> None:
        self._site, self._edge, self._max_bytes = site, edge, max_bytes
        self._acked = RangeSet()
        self._db, self.set_aside = open_database(path, clock)
        self._load()

    def _load(self) -> None:
        meta = dict(self._db.execute("SELECT key, value FROM meta WHERE key IN ('epoch', 'next_row')"))
        self.epoch: bytes = meta["epoch"]
        self._next_row: int = meta["next_row"]
        self._frames = {
            ref.first: ref
            for ref in (
                FrameRef(first, last, machine, bool(urgent))
                for first, last, machine, urgent in self._db.execute(
                    "SELECT first, last, machine, urgent FROM frames ORDER BY first"
                )
            )
        }
        self._firsts = sorted(self._frames)
        waiting = self._db.execute(
            "SELECT machine, kind, urgent, sum(rows), sum(length(body)) FROM waiting GROUP BY 1, 2, 3"
        )
        self._groups: dict[Group, list[int]] = {
            (m, k, bool(u)): [rows, size] for m, k, u, rows, size in waiting
        }

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that happens inside is durable when the block ends, or did not happen. Raises Unavailable."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._load()
            if isinstance(error, sqlite3.OperationalError) and code(error) in AWAY:
                raise Unavailable(f"the outbox can't be written: {error}", retry_after=5.0) from error
            raise

    def used(self) -> int:
        """Bytes of the file that hold something; SQLite reuses the others."""
        pages = self._pragma("page_count") - self._pragma("freelist_count")
        return pages * self._pragma("page_size")

    def check_room(self, arriving: Sequence[Piece]) -> None:
        """Raises Unavailable if the byte cap leaves no room for what arrives."""
        used, size = self.used(), sum(len(piece.body) for piece in arriving)
        if used + size > self._max_bytes:
            raise Unavailable(
                f"the outbox is full: {used} of {self._max_bytes} bytes; devices wait until the gateway acks",
                retry_after=1.0,
            )

    def append(self, arriving: Sequence[Piece], state: Mapping[str, bytes] | None = None) -> list[FrameRef]:
        """Inside a transaction: keep pieces in order of arrival and `state`; urgent ones are cut at once."""
        self._db.executemany(
            "INSERT INTO waiting (machine, kind, urgent, rows, body) VALUES (?, ?, ?, ?, ?)",
            ((p.machine, int(p.kind), p.urgent, p.rows, p.body) for p in arriving),
        )
        for piece in arriving:
            group = self._groups.setdefault((piece.machine, int(piece.kind), piece.urgent), [0, 0])
            group[0] += piece.rows
            group[1] += len(piece.body)
        for key, value in (state or {}).items():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"state:{key}", value))
        urgent = dict.fromkeys((p.machine, int(p.kind), True) for p in arriving if p.urgent)
        return [ref for group in urgent for ref in self._cut(group, partial=True)]

    def cut(self, *, partial: bool) -> list[FrameRef]:
        """Inside a transaction: number and frame what waits; without `partial` only what fills a frame."""
        return [ref for group in list(self._groups) for ref in self._cut(group, partial=partial)]

    def _cut(self, group: Group, *, partial: bool) -> list[FrameRef]:
        machine, kind, urgent = group
        if not partial and not self._is_full(group):
            return []
        where = (machine, kind, urgent)
        rows = self._db.execute(
            "SELECT arrival, body FROM waiting WHERE machine = ? AND kind = ? AND urgent = ? ORDER BY arrival",
            where,
        ).fetchall()
        parts = [(decode_body(Kind(kind), body), len(body)) for _, body in rows]
        made, start = [], 0
        for end in pack(parts, partial=partial):
            made.append(self._seal(group, [body for body, _ in parts[start:end]]))
            start = end
        if start:
            self._db.execute(
                "DELETE FROM waiting WHERE machine = ? AND kind = ? AND urgent = ? AND arrival <= ?",
                (*where, rows[start - 1][0]),
            )
        left = parts[start:]
        if left:
            self._groups[group] = [sum(len(body) for body, _ in left), sum(size for _, size in left)]
        else:
            del self._groups[group]
        return made

    def _is_full(self, group: Group) -> bool:
        rows, size = self._groups[group]
        return rows >= MAX_ROWS or size >= ROOM

    def _seal(self, group: Group, bodies: list[Body]) -> FrameRef:
        machine, kind, urgent = group
        body = join(bodies)
        header = Header(self._site, self._edge, machine, Kind(kind), self.epoch, self._next_row, len(body))
        data = encode(header, body)
        ref = FrameRef(header.first, header.last, machine, urgent)
        self._db.execute(
            "INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?)",
            (ref.first, ref.last, machine, kind, urgent, data),
        )
        self._next_row = header.last + 1
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'next_row'", (self._next_row,))
        if isinstance(body, Readings):
            self._count(machine, body)
        self._frames[ref.first] = ref
        self._firsts.append(ref.first)
        return ref

    def _count(self, machine: str, readings: Readings) -> None:
        hashes = checksum.readings_hashes(machine, readings)
        for hour, (count, total) in checksum.tally(readings.time_us, hashes).items():
            key = (machine, hour)
            old = self._db.execute(
                "SELECT count, sum FROM tally WHERE machine = ? AND hour = ?", key
            ).fetchone()
            before, summed = (0, 0) if old is None else (old[0], int(old[1]))
            self._db.execute(
                "INSERT OR REPLACE INTO tally VALUES (?, ?, ?, ?)",
                (*key, before + count, str(checksum.add(summed, total))),
            )

    def free(self, ranges: Iterable[Range]) -> list[int]:
        """Inside a transaction: merge acknowledged ranges and drop frames that they cover; returns their first rows.

        Rows not yet produced can't be confirmed: they are ignored.
        """
        freed: list[int] = []
        for first, end in ranges:
            last = min(end, self._next_row - 1)
            if last < first:
                continue
            self._acked.add(first, last)
            low = max(0, bisect_right(self._firsts, first) - 1)
            high = bisect_right(self._firsts, last)
            for at in self._firsts[low:high]:
                if self._acked.covers(at, self._frames[at].last):
                    freed.append(at)
                    del self._frames[at]
                    del self._firsts[bisect_left(self._firsts, at)]
        self._db.executemany("DELETE FROM frames WHERE first = ?", ((first,) for first in freed))
        return freed

    def data(self, first: int) -> bytes | None:
        """The bytes of the frame that begins at row `first`, None if it was freed."""
        found = self._db.execute("SELECT data FROM frames WHERE first = ?", (first,)).fetchone()
        return None if found is None else bytes(found[0])

    def state(self, key: str) -> bytes | None:
        """A state that was saved by `append`."""
        found = self._db.execute("SELECT value FROM meta WHERE key = ?", (f"state:{key}",)).fetchone()
        return None if found is None else bytes(found[0])

    @property
    def produced(self) -> int:
        """The highest row number given out."""
        return self._next_row - 1

    @property
    def waiting_rows(self) -> int:
        """Rows that are committed and have no number yet."""
        return sum(rows for rows, _ in self._groups.values())

    def frames(self) -> list[FrameRef]:
        """Every frame that is kept, in order of rows."""
        return [self._frames[first] for first in self._firsts]

    @property
    def kept_rows(self) -> int:
        """Rows waiting and framed."""
        return self.waiting_rows + sum(ref.last - ref.first + 1 for ref in self._frames.values())

    def waiting(self) -> list[Piece]:
        """Everything that waits for its cut, in order of arrival."""
        found = self._db.execute("SELECT machine, kind, urgent, rows, body FROM waiting ORDER BY arrival")
        return [Piece(m, Kind(k), bool(u), rows, bytes(body)) for m, k, u, rows, body in found]

    def report(self) -> dict[str, Any]:
        """What the ledger is told: epoch, rows produced, waiting and buffered, and the tally a machine-hour.

        `tally` is {machine: {hour since 1970: [count, sum of fingerprints]}} of READINGS rows, counted at the cut,
        for at most the newest `tally_hours` of each machine (31 days; fewer where an edge has many machines).
        """
        tally: dict[str, dict[str, list[int]]] = {}
        machines = self._db.execute("SELECT count(DISTINCT machine) FROM tally").fetchone()[0]
        most = min(REPORTED_HOURS, REPORTED_ENTRIES // max(1, machines))
        for machine, hour, count, total in self._db.execute(
            "SELECT machine, hour, count, sum FROM tally ORDER BY machine, hour DESC"
        ):
            hours = tally.setdefault(machine, {})
            if len(hours) < most:
                hours[str(hour)] = [count, int(total)]
        buffered = RangeSet((ref.first, ref.last) for ref in self.frames())
        return {
            "epoch": self.epoch.hex(),
            "produced": self.produced,
            "waiting": self.waiting_rows,
            "buffered": [list(pair) for pair in buffered],
            "tally": tally,
            "tally_hours": most,
            "set_aside": "" if self.set_aside is None else self.set_aside.name,
        }

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
