"""The outbox's file: SQLite, WAL, `synchronous=FULL`. What is committed here is not lost (promise 1).

Tables: `waiting` holds what was committed and has no row number yet; `frames` holds encoded frames until the event
log confirmed them; `spans` knows which times thinning minds; `tally` counts readings a machine-hour for the audit;
`damaged` keeps what bit rot made unfit to send; `meta` holds the epoch, the next row, the rows that were freed or
replaced and the states of scoring. Everything here is synchronous and belongs to one thread; `edge.outbox` owns it.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from edge.outbox_damage import Damaged, Waiting, check_frame, counted, kind_of, piece_sum, read_waiting
from edge.outbox_frames import FrameRef, Frames, Level
from edge.outbox_open import AWAY, code, open_database
from edge.outbox_room import Room
from edge.outbox_spans import ANOMALY, Span, Spans
from edge.outbox_tally import count_readings, drop_unreadable, told_tally
from edge.outbox_thin import Paper, Thinnable, Thinned, Thinner, next_stage
from shared.clock import Clock
from shared.errors import Rejected, Unavailable
from shared.frame_codec import decode_body, decode_header, encode
from shared.frames import MAX_ROWS, Aggregates, Body, Header, Kind, Readings
from shared.packing import ROOM, Piece, join, pack
from shared.ranges import Range, RangeSet

log = structlog.get_logger()

_SELECT_WAITING: Final = "SELECT machine, kind, urgent, rows, CAST(body AS BLOB), crc, arrival FROM waiting"
Group = tuple[str, int, bool]


class OutboxFile:
    """One outbox. Opening makes the file, or sets a damaged one aside under its time and begins a new epoch."""

    def __init__(self, path: Path, *, site: str, edge: str, max_bytes: int, clock: Clock) -> None:
        self._site, self._edge = site, edge
        self._acked = RangeSet()
        self._clock = clock
        self._db, self.set_aside = open_database(path, clock)
        self._room = Room(self._db, max_bytes, path)
        self._damaged = Damaged(self._db, clock)
        self._frames = Frames(self._db)
        self._spans = Spans(self._db)
        paper = Paper(self._rows_of, self._write, self._number_aggregates, self._uncount, self._degrade)
        self._thinner = Thinner(self._frames, self._spans, paper)
        self._load()
        with self.transaction():
            self._sweep()
        self._load()

    def _load(self) -> None:
        meta = dict(self._db.execute("SELECT key, value FROM meta WHERE key NOT LIKE 'state:%'"))
        self.epoch: bytes = meta["epoch"]
        self._next_row: int = meta["next_row"]
        self._freed = RangeSet((first, last) for first, last in orjson.loads(meta.get("freed", "[]")))
        self._degraded = RangeSet((first, last) for first, last in orjson.loads(meta.get("degraded", "[]")))
        self.thinned, self.thinned_held = orjson.loads(meta.get("thinned", "[0, 0]"))
        self._damaged.load()
        self._frames.load()
        self.changes = Thinned()
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
        if hours := drop_unreadable(self._db):
            log.error("hours of the edge's own count of readings are damaged and left out", hours=hours)

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
        self._room.check_journal()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._load()
            if isinstance(error, sqlite3.OperationalError) and code(error) in AWAY:
                raise Unavailable(f"the outbox can't be written: {error}", retry_after=1.0) from error
            raise

    def make_room(self, arriving: Sequence[Piece]) -> None:
        """Inside a transaction: thin until what arrives fits. Raises Unavailable if nothing is left to thin."""
        size = sum(len(piece.body) for piece in arriving)
        urgent = all(piece.urgent for piece in arriving)
        if self._room.has(size, urgent=urgent):
            return
        self.changes.made += self.cut(partial=False)
        while not self._room.has(size, urgent=urgent):
            if not self.thin():
                raise Unavailable(
                    f"the outbox is full: {self._room.used()} of {self._room.bytes} bytes, and nothing is left to thin;"
                    " devices wait until the gateway acks",
                    retry_after=1.0,
                )

    def thin(self) -> bool:
        """Inside a transaction: replace some of the oldest readings by aggregates; False if none are left."""
        stage = next_stage(self._frames.bytes, self._room.bytes)
        if stage is None:
            return False
        done = self._thinner.step(stage)
        self.changes.gone += done.gone
        self.changes.made += done.made
        if done.readings:
            self.thinned, self.thinned_held = self.thinned + done.readings, self.thinned_held + done.held
            self._put("thinned", [self.thinned, self.thinned_held])
        return done.looked

    def take_changes(self) -> Thinned:
        """What thinning did since this was last asked."""
        changes, self.changes = self.changes, Thinned()
        return changes

    def wants_thinning(self) -> bool:
        """Whether it is so full that it should be thinned beside its work."""
        return self._room.is_short() and next_stage(self._frames.bytes, self._room.bytes) is not None

    def protect(self, windows: Iterable[Span]) -> None:
        """Inside a transaction: keep the readings of these times raw as long as any others can be thinned."""
        for window in windows:
            self._spans.add(window, ANOMALY)

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
        ends = pack(parts, partial=partial)
        if ends:  # first, so that a full file has room for the frames
            self._db.execute(
                "DELETE FROM waiting WHERE machine = ? AND kind = ? AND urgent = ? AND arrival <= ?",
                (*group, arrivals[ends[-1] - 1]),
            )
        made, start = [], 0
        for end in ends:
            made.append(self._seal(group, [body for body, _ in parts[start:end]], sent=partial))
            start = end
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

    def _seal(self, group: Group, bodies: list[Body], *, sent: bool) -> FrameRef:
        machine, kind, urgent = group
        body = join(bodies)
        # What is cut with room left is on its way at once: it counts as sent, which saves a write when it is.
        level = Level.RAW if isinstance(body, Readings) and not (sent or urgent) else Level.KEPT
        last = self._next_row + len(body) - 1
        ref = self._write(FrameRef(self._next_row, last, machine, urgent, Kind(kind), level), body)
        self._number(last + 1)
        if isinstance(body, Readings):
            count_readings(self._db, machine, body)
        return ref

    def _write(self, ref: FrameRef, body: Body) -> FrameRef:
        """Keep a frame whose rows have their numbers."""
        header = Header(self._site, self._edge, ref.machine, ref.kind, self.epoch, ref.first, ref.rows)
        data = encode(header, body)
        if isinstance(body, Aggregates):
            span = int(body.start_us.min()), int(body.start_us.max())
            ref = replace(ref, width_us=body.width_us, from_us=span[0], to_us=span[1])
        ref = replace(ref, size=len(data))
        self._frames.add(ref, data)
        return ref

    def _number_aggregates(self, machine: str, body: Aggregates, level: Level) -> FrameRef:
        first, last = self._next_row, self._next_row + len(body) - 1
        self._number(last + 1)
        return self._write(
            FrameRef(first, last, machine, urgent=False, kind=Kind.AGGREGATE, level=level), body
        )

    def _rows_of(self, ref: FrameRef) -> Thinnable | None:
        """A frame's readings or aggregates; None if it was damaged: then it is set aside."""
        data = self._checked(ref)
        if data is None:
            self.changes.gone.append(ref.first)
            return None
        body = decode_body(ref.kind, decode_header(data)[1])
        return body if isinstance(body, Readings | Aggregates) else None

    def _uncount(self, machine: str, readings: Readings) -> None:
        count_readings(self._db, machine, readings, -1)

    def _degrade(self, rows: RangeSet) -> None:
        for first, last in rows:
            self._degraded.add(first, last)
        self._put("degraded", list(self._degraded))

    def _put(self, key: str, value: object) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, orjson.dumps(value)))

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
            for ref in self._frames.between(first, last):
                if self._acked.covers(ref.first, ref.last):
                    freed.append(ref.first)
                    self._freed.add(ref.first, ref.last)
                    self._frames.drop(ref.first)
        if freed:
            # Normally one range: with it the ledger can tell what the gateway confirmed from what the edge lost.
            self._put("freed", list(self._freed))
        return freed

    def data(self, first: int) -> bytes | None:
        """Inside a transaction: the bytes of the frame that begins at row `first`, to be sent; it is never thinned then.

        None if it was freed or thinned, or is damaged: a damaged frame is set aside here and never offered again.
        """
        ref = self._frames.get(first)
        data = None if ref is None else self._checked(ref)
        if ref is not None and data is not None and ref.level is not Level.KEPT:
            self._frames.put_at(ref, Level.KEPT)
            if ref.width_us:
                self._spans.add(Span(ref.machine, ref.from_us, ref.to_us), ref.width_us)
        return data

    def data_unnoted(self, first: int) -> bytes | None:
        """The same where the disk refuses writes: only of frames that thinning leaves alone as it is.

        Another one could be sent, forgotten by a crash, and thinned: then its readings would be downstream twice.
        """
        ref, found = self._frames.get(first), self._frames.data(first)
        if ref is None or found is None:
            return None
        if ref.level is not Level.KEPT:
            raise Unavailable("that this frame is sent can't be noted", retry_after=1.0)
        try:
            check_frame(self._header_of(ref, found[0]), found[1])
        except Rejected as error:
            raise Unavailable(f"a damaged frame can't be set aside: {error.reason}") from error
        return found[1]

    def _checked(self, ref: FrameRef) -> bytes | None:
        """The frame's bytes; None if it was damaged: then it is set aside."""
        found = self._frames.data(ref.first)
        if found is None:
            return None
        kind, data = found
        wanted = self._header_of(ref, kind)
        try:
            check_frame(wanted, data)
        except Rejected as error:
            self._damaged.keep(wanted, data, urgent=ref.urgent, place="frames", reason=error.reason)
            self._frames.drop(ref.first)
            return None
        return data

    def _header_of(self, ref: FrameRef, kind: object) -> Header:
        return Header(self._site, self._edge, ref.machine, kind_of(kind), self.epoch, ref.first, ref.rows)

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
        return list(self._frames)

    @property
    def kept_rows(self) -> int:
        """Rows waiting and framed."""
        return self.waiting_rows + self._frames.rows

    def used(self) -> int:
        """Bytes of the file that hold something; SQLite reuses the others."""
        return self._room.used()

    @property
    def written(self) -> int:
        """Rows of its tables that were written since it was opened."""
        return self._db.total_changes

    @property
    def sizes(self) -> dict[Level, int]:
        """Bytes of frames by what thinning may make of them."""
        return dict(self._frames.bytes)

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

        Rows 1 to `produced` are cut, `waiting` more have no number yet. `buffered`, `acked`, `degraded` and
        `damaged` are merged ranges of them: still in a frame, freed because the log confirmed them, replaced by
        aggregates, and set aside. `tally` covers at most
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
            "degraded": [list(pair) for pair in self._degraded],
            "damaged": [list(pair) for pair in self._damaged.rows],
            "tally": tally,
            "tally_hours": hours,
            "set_aside": "" if self.set_aside is None else self.set_aside.name,
        }
