"""Rows of the host's own: what came of Sparkplug messages, numbered as an edge numbers, so that the ledger counts it."""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np

from gateway.sparkplug.names import Home
from shared import names
from shared.eventlog import Record
from shared.events import Event
from shared.frame_codec import encode
from shared.frames import EPOCH_BYTES, MAX_ROWS, Header, Kind, Readings
from shared.sparkplug.translate import Row

_PERSON: Final = b"sparkplug"


class Numbering:
    """The next row of each machine, from 1 in an epoch of its own, which begins with the process.

    Rows are numbered when they are framed: what is numbered is appended before anything more is.
    """

    def __init__(self, edge: str, epoch: bytes) -> None:
        self.edge = edge
        self._epoch = epoch
        self._next: dict[Home, int] = {}

    def frames(self, home: Home, rows: Sequence[Row], now_us: int) -> list[Record]:
        """Readings of one machine as frames."""
        return [
            self._frame(home, rows[start : start + MAX_ROWS], now_us)
            for start in range(0, len(rows), MAX_ROWS)
        ]

    def events(self, home: Home, events: Sequence[Event]) -> list[Record]:
        """Events of one machine, one row each."""
        return [self._event(home, each) for each in events]

    def _frame(self, home: Home, rows: Sequence[Row], now_us: int) -> Record:
        index: dict[tuple[str, str], int] = {}
        sensor = [index.setdefault((row.sensor, row.unit), len(index)) for row in rows]
        body = Readings(
            tuple(name for name, _ in index),
            tuple(unit for _, unit in index),
            np.array(sensor, np.int64),
            np.array([row.time_us for row in rows], np.int64),
            np.full(len(rows), now_us, np.int64),
            np.array([row.value for row in rows], np.float64),
            np.array([row.quality for row in rows], np.uint8),
        )
        epoch, first = self._take(home, len(rows))
        header = Header(home.site, self.edge, home.machine, Kind.READINGS, epoch, first, len(rows))
        return Record(encode(header, body), id=self._id(home, epoch, first))

    def _event(self, home: Home, event: Event) -> Record:
        epoch, row = self._take(home, 1)
        origin = {
            names.HEADER_SITE: home.site,
            names.HEADER_EDGE: self.edge,
            names.HEADER_EPOCH: epoch.hex(),
            names.HEADER_ROW: str(row),
        }
        return Record(event.to_json(), origin, self._id(home, epoch, row))

    def _take(self, home: Home, count: int) -> tuple[bytes, int]:
        """The machine's epoch, and the first of its next `count` rows."""
        name = f"{home.site}/{home.machine}".encode()
        epoch = hashlib.blake2b(name, key=self._epoch, person=_PERSON, digest_size=EPOCH_BYTES).digest()
        first = self._next.get(home, 1)
        self._next[home] = first + count
        return epoch, first

    def _id(self, home: Home, epoch: bytes, row: int) -> str:
        return f"{home.site}/{self.edge}/{epoch.hex()}/{row}"
