"""The real outbox file and the real flight control, in the reference model's world, with crashes."""

import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import settings

from edge.flight import Flight
from edge.outbox_file import OutboxFile
from edge.outbox_frames import FrameRef
from shared.clock import ManualClock
from shared.frame_codec import decode, decode_body
from shared.frames import Kind, Readings
from shared.packing import Item, pieces
from shared.ranges import Range
from tests.property.test_uplink_model import LIMIT, UplinkMachine
from tests.property.uplink_model import Edge, Frame


class SteppedClock(ManualClock):
    """Moves without an event loop."""

    def step(self, seconds: float) -> None:
        self._elapsed += seconds


def readings(rows: Sequence[int]) -> Readings:
    """Device rows as readings whose value is the row."""
    count = len(rows)
    return Readings(
        ("level",),
        ("m",),
        np.zeros(count, np.int64),
        np.asarray(rows, np.int64) * 1000,
        np.full(count, 5, np.int64),
        np.asarray(rows, np.float64),
        np.zeros(count, np.uint8),
    )


class RealEdge:
    """`OutboxFile` and `Flight` behind the model's port. A crash copies the file as the dead process left it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._clock = SteppedClock()
        self._folder = tempfile.TemporaryDirectory()
        self._lives = 0
        self._open()

    def _path(self) -> Path:
        return Path(self._folder.name) / str(self._lives) / "outbox.db"

    def _open(self) -> None:
        self._file = OutboxFile(self._path(), site="s1", edge="e1", max_bytes=10**8, clock=self._clock)
        self._flight = Flight(self._clock, random.Random(1), limit=self._limit, urgent_reserve=0)
        self._flight.add(self._file.frames())

    def commit(self, machine: str, rows: Sequence[int]) -> None:
        with self._file.transaction():
            self._file.append(pieces([Item(machine, Kind.READINGS, readings(rows))]))

    def cut(self) -> None:
        with self._file.transaction():
            self._flight.add(self._file.cut(partial=True))

    def send(self, *, resend: bool) -> list[Frame]:
        if resend:
            self._clock.step(120.0)
        return [self._frame(ref) for ref in self._flight.take()]

    def ack(self, ranges: Sequence[Range]) -> None:
        with self._file.transaction():
            self._flight.free(self._file.free(ranges))

    def crash(self) -> None:
        dead, old = self._file, self._path()
        self._lives += 1
        self._path().parent.mkdir()
        for part in old.parent.iterdir():
            shutil.copy(part, self._path().parent / part.name)
        dead.close()
        self._open()

    def waiting(self) -> list[int]:
        bodies = [decode_body(piece.kind, piece.body) for piece in self._file.waiting()]
        return [int(value) for body in bodies if isinstance(body, Readings) for value in body.value]

    def frames(self) -> list[Frame]:
        return [self._frame(ref) for ref in self._file.frames()]

    def _frame(self, ref: FrameRef) -> Frame:
        data = self._file.data(ref.first)
        assert data is not None
        header, body = decode(data)
        assert isinstance(body, Readings)
        assert (header.first, header.last, header.epoch) == (ref.first, ref.last, self._file.epoch)
        return Frame(ref.first, ref.last, data, tuple(int(value) for value in body.value))

    def produced(self) -> int:
        return self._file.produced

    def in_flight(self) -> int:
        return self._flight.in_flight

    def close(self) -> None:
        self._file.close()
        self._folder.cleanup()


class RealUplinkMachine(UplinkMachine):
    def make_edge(self) -> Edge:
        self.real = RealEdge(LIMIT)
        return self.real

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.real.close()


class TestRealUplink(RealUplinkMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=15, stateful_step_count=40)  # each example works on a real outbox
