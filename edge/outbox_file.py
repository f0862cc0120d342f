"""The outbox's file: SQLite, WAL, `synchronous=FULL`. What is committed here is not lost (promise 1).

Tables: `waiting` holds what was committed and has no row number yet; `frames` holds encoded frames until the event
log confirmed them; `tally` counts readings a machine-hour for the audit; `damaged` keeps what bit rot made unfit to
send; `meta` holds the epoch, the next row, the rows that were freed and the states of scoring. Everything here is synchronous and belongs to one thread; `edge.outbox` owns that thread.
"""

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from edge.outbox_damage import Damaged, Waiting, check_frame, counted, kind_of, piece_sum, read_waiting
from edge.outbox_open import AWAY, code, open_database
from edge.outbox_tally import count_readings, told_tally
from shared.clock import Clock
from shared.errors import Rejected, Unavailable
from shared.frame_codec import encode
from shared.frames import MAX_ROWS, Body, Header, Kind, Readings
from shared.packing import ROOM, Piece, join, pack
from shared.ranges import Range, RangeSet

_SELECT_WAITING: Final = "SELECT machine, kind, urgent, rows, CAST(body AS BLOB), crc, arrival FROM waiting"
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
        self._clock = clock
        self._db, self.set_aside = open_database(path, clock)
        self._damaged = Damaged(self._db, clock)
        self._load()
        with self.transaction():
            self._sweep()
        self._load()

    def _load(self) -> None:
        meta = dict(
            self._db.execute("SELECT key, value FROM meta WHERE key IN ('epoch', 'next_row', 'freed')")
        )
        self.epoch: bytes = meta["epoch"]
        self._next_row: int = meta["next_row"]
        self._freed = RangeSet((first, last) for first, last in orjson.loads(meta.get("freed", "[]")))
        self._damaged.load()
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

    def _sweep(self) -> None:
        """Set aside what rotted while the file was closed, before anything looks for it by what it holds."""
        for *row, arrival in self._db.execute(_SELECT_WAITING).fetchall():
            self._whole(tuple(row), arrival)

    def copy(self, path: Path) -> None:
        """Outside a transaction: write all that is committed to a new file. Raises Unavailable."""
        path.unlink(missing_ok=True)
        try:
            self._db.execute("VACUUM INTO ?", (str(path),))
        except sqlite3.OperationalError as error:
            raise Unavailable(f"the outbox can't be copied: {error}") from error

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
            "INSERT INTO waiting (machine, kind, urgent, rows, body, crc) VALUES (?, ?, ?, ?, ?, ?)",
            ((p.machine, int(p.kind), p.urgent, p.rows, p.body, piece_sum(p)) for p in arriving),
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
        if not partial and not self._is_full(group):
            return []
        found = self._db.execute(
            f"{_SELECT_WAITING} WHERE machine = ? AND kind = ? AND urgent = ? ORDER BY arrival",
            group,
        ).fetchall()
        parts: list[tuple[Body, int]] = []
        arrivals: list[int] = []
        for *row, arrival in found:
            body = self._whole(tuple(row), arrival)
            if body is not None:
                parts.append((body, len(row[4])))
                arrivals.append(arrival)
        made, start = [], 0
        for end in pack(parts, partial=partial):
            made.append(self._seal(group, [body for body, _ in parts[start:end]]))
            start = end
        if start:
            self._db.execute(
                "DELETE FROM waiting WHERE machine = ? AND kind = ? AND urgent = ? AND arrival <= ?",
                (*group, arrivals[start - 1]),
            )
        left = parts[start:]
        if left:
            self._groups[group] = [sum(len(body) for body, _ in left), sum(size for _, size in left)]
        else:
            del self._groups[group]
        return made

    def _whole(self, row: Waiting, arrival: int) -> Body | None:
        """The columns of a waiting row; None if it was damaged: then it gets its numbers and is set aside."""
        try:
            return read_waiting(row)
        except Rejected as error:
            machine, kind, urgent, rows, body, _ = row
            header = self._header(machine, kind_of(kind), counted(rows))
            self._damaged.keep(header, body, urgent=bool(urgent), place="waiting", reason=error.reason)
            self._db.execute("DELETE FROM waiting WHERE arrival = ?", (arrival,))
            self._number(header.last + 1)
            return None

    def _header(self, machine: str, kind: Kind, count: int) -> Header:
        return Header(self._site, self._edge, machine, kind, self.epoch, self._next_row, count)

    def _number(self, next_row: int) -> None:
        self._next_row = next_row
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'next_row'", (next_row,))

    def _is_full(self, group: Group) -> bool:
        rows, size = self._groups[group]
        return rows >= MAX_ROWS or size >= ROOM

    def _seal(self, group: Group, bodies: list[Body]) -> FrameRef:
        machine, kind, urgent = group
        body = join(bodies)
        header = self._header(machine, Kind(kind), len(body))
        data = encode(header, body)
        ref = FrameRef(header.first, header.last, machine, urgent)
        self._db.execute(
            "INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?)",
            (ref.first, ref.last, machine, kind, urgent, data),
        )
        self._number(header.last + 1)
        if isinstance(body, Readings):
            count_readings(self._db, machine, body)
        self._frames[ref.first] = ref
        self._firsts.append(ref.first)
        return ref

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
                    self._freed.add(at, self._frames[at].last)
                    self._forget(at)
        if freed:
            # Normally one range: with it the ledger can tell what the gateway confirmed from what the edge lost.
            self._db.execute(
                "INSERT OR REPLACE INTO meta VALUES ('freed', ?)", (orjson.dumps(list(self._freed)),)
            )
        return freed

    def _forget(self, first: int) -> None:
        del self._frames[first]
        del self._firsts[bisect_left(self._firsts, first)]
        self._db.execute("DELETE FROM frames WHERE first = ?", (first,))

    def data(self, first: int) -> bytes | None:
        """The bytes of the frame that begins at row `first`, to be sent; None if it was freed or is damaged.

        A damaged frame is set aside here and never offered again.
        """
        found = self._db.execute(
            "SELECT kind, CAST(data AS BLOB) FROM frames WHERE first = ?", (first,)
        ).fetchone()
        if found is None:
            return None
        ref, kind, data = self._frames[first], kind_of(found[0]), bytes(found[1])
        wanted = Header(self._site, self._edge, ref.machine, kind, self.epoch, first, ref.last - first + 1)
        try:
            check_frame(wanted, data)
        except Rejected as error:
            self._damaged.keep(wanted, data, urgent=ref.urgent, place="frames", reason=error.reason)
            self._forget(first)
            return None
        return data

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

    @property
    def damaged_rows(self) -> int:
        """Rows that were set aside because they were damaged."""
        return len(self._damaged.rows)

    def waiting(self) -> list[Piece]:
        """Everything that waits for its cut, in order of arrival."""
        found = self._db.execute("SELECT machine, kind, urgent, rows, body FROM waiting ORDER BY arrival")
        return [Piece(m, Kind(k), bool(u), rows, bytes(body)) for m, k, u, rows, body in found]

    def report(self) -> dict[str, Any]:
        """What the ledger is told: what became of each row number, and the tally a machine-hour.

        Rows 1 to `produced` are cut, `waiting` more have no number yet. `buffered`, `acked` and `damaged` are merged
        ranges of them: still in a frame, freed because the log confirmed them, and set aside. `tally` covers at most
        the newest `tally_hours` of each machine (31 days; fewer where an edge has many machines). `taken_us` is read
        before the rest: whatever was numbered by then is in the report.
        """
        taken_us = self._clock.now_us()
        tally, hours = told_tally(self._db)
        buffered = RangeSet((ref.first, ref.last) for ref in self.frames())
        return {
            "epoch": self.epoch.hex(),
            "taken_us": taken_us,
            "produced": self.produced,
            "waiting": self.waiting_rows,
            "buffered": [list(pair) for pair in buffered],
            "acked": [list(pair) for pair in self._freed],
            "damaged": [list(pair) for pair in self._damaged.rows],
            "tally": tally,
            "tally_hours": hours,
            "set_aside": "" if self.set_aside is None else self.set_aside.name,
        }

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
