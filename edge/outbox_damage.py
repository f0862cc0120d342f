"""Bit rot: telling damaged rows from whole ones, and keeping the damaged where they can be examined.

SQLite's own check sees damage to its pages, not to what they hold. So a waiting row carries a sum of its own, and a
frame is compared with its header and its header's sum before it is sent. What fails goes to the table `damaged`, never
to the gateway: its row numbers are then missing, and the ledger names them.
"""

import sqlite3
import zlib

import structlog

from shared.clock import Clock
from shared.errors import Rejected
from shared.frame_codec import decode_body, decode_header
from shared.frames import MAX_ROWS, Body, Header, Kind
from shared.packing import Piece
from shared.ranges import RangeSet

log = structlog.get_logger()

Waiting = tuple[str, int, int, int, bytes, int | None]
"""machine, kind, urgent, rows, body, sum (None: written by a release that made none)."""


def piece_sum(piece: Piece) -> int:
    """The sum that a waiting row carries: of its body and of what stands beside it."""
    return _sum(piece.machine, int(piece.kind), int(piece.urgent), piece.rows, piece.body)


def read_waiting(row: Waiting) -> Body:
    """The columns of a waiting row. Raises Rejected if it is not what was committed."""
    machine, kind, urgent, rows, body, crc = row
    if crc is not None and _sum(machine, kind, urgent, rows, body) != crc:
        raise Rejected("the row does not match its checksum")
    try:
        columns = decode_body(Kind(kind), body)
    except ValueError as error:
        raise Rejected(str(error)) from error
    if len(columns) != rows:
        raise Rejected(f"the row should hold {rows} readings or records, and holds {len(columns)}")
    return columns


def check_frame(wanted: Header, data: bytes) -> None:
    """Raises Rejected if the bytes are not the frame that was cut under this header."""
    header, _ = decode_header(data)
    if header != wanted:
        raise Rejected("the frame's header is not the one that it was cut with")


class Damaged:
    """The table `damaged`. Nothing is ever deleted from it. Call inside the outbox's transaction."""

    def __init__(self, db: sqlite3.Connection, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self.load()

    def load(self) -> None:
        """Read the row numbers anew."""
        found = self._db.execute("SELECT first, last FROM damaged")
        self.rows = RangeSet((first, last) for first, last in found)

    def keep(self, header: Header, data: bytes, *, urgent: bool, place: str, reason: str) -> None:
        """Set aside what was found in the table `place`, under the row numbers of `header`."""
        self._db.execute(
            "INSERT INTO damaged (first, last, machine, kind, urgent, place, reason, found_us, data)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (header.first, header.last, header.machine, int(header.kind), urgent, place, reason,
             self._clock.now_us(), data),
        )  # fmt: skip
        self.rows.add(header.first, header.last)
        log.error(
            "rows in the outbox are damaged: set aside in its table `damaged`, not sent; check this device's disk",
            machine=header.machine,
            rows=[header.first, header.last],
            place=place,
            reason=reason,
        )


def counted(rows: object) -> int:
    """How many row numbers a damaged waiting row takes: its own word, within a frame's bounds."""
    return min(max(rows, 1), MAX_ROWS) if isinstance(rows, int) else 1


def kind_of(kind: object) -> Kind:
    """The kind to file damaged rows under: REJECT for one that is none."""
    return Kind(kind) if isinstance(kind, int) and kind in Kind._value2member_map_ else Kind.REJECT


def _sum(machine: str, kind: int, urgent: int, rows: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(f"{machine}/{kind}/{urgent}/{rows}".encode()))
