"""The outbox file against a plain list: append, cut, ack, roll back and reopen in any order."""

import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.outbox_file import OutboxFile
from shared import checksum
from shared.clock import ManualClock
from shared.frame_codec import decode
from shared.frames import MAX_BYTES, MAX_ROWS, Kind, Readings, Records, Scores
from shared.packing import Item, pieces
from shared.ranges import RangeSet

machines = st.sampled_from(["pump", "fan", "mill"])


def readings(first: int, count: int, sensors: int) -> Readings:
    at = np.arange(first, first + count)
    return Readings(
        tuple(f"s{n}" for n in range(sensors)),
        ("bar",) * sensors,
        at % sensors,
        at * 1_000_000,
        at * 1_000_000 + 7,
        at.astype(np.float64),
        (at % 3).astype(np.uint8),
    )


def scores(first: int, count: int, model: str, width: int) -> Scores:
    at = np.arange(first, first + count)
    return Scores(
        model,
        "f" * 64,
        1.5,
        tuple(f"s{n}" for n in range(width)),
        at * 1_000_000,
        at.astype(np.float32),
        np.zeros(count, np.uint8),
        np.ones((count, width), np.float32),
        np.ones((count, width)),
    )


class OutboxMachine(RuleBasedStateMachine):
    """The model: labels of rows in the order in which they must come out of each (machine, kind)."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "outbox.db"
        self.serial = 0
        self.expected: dict[tuple[str, Kind], list[str]] = {}
        self.bytes: dict[int, bytes] = {}
        self.acked = RangeSet()  # since the file was opened: a restart forgets acks of frames it still keeps
        self.ever_acked = RangeSet()
        self.file = self.reopened()
        self.epoch = self.file.epoch

    def reopened(self) -> OutboxFile:
        return OutboxFile(self.path, site="s1", edge="e1", max_bytes=10**9, clock=ManualClock())

    def keep(self, item: Item, labels: list[str]) -> None:
        with self.file.transaction():
            self.file.append(pieces([item]))
        self.expected.setdefault((item.machine, item.kind), []).extend(labels)

    def next(self, count: int) -> int:
        self.serial += count
        return self.serial - count

    @rule(machine=machines, count=st.sampled_from([1, 2, 400, 999, 1000, 2500]), sensors=st.integers(1, 200))
    def append_readings(self, machine: str, count: int, sensors: int) -> None:
        first = self.next(count)
        labels = [str(float(n)) for n in range(first, first + count)]
        self.keep(Item(machine, Kind.READINGS, readings(first, count, sensors)), labels)

    @rule(machine=machines, model=st.sampled_from(["a", "b"]), count=st.integers(1, 300))
    def append_scores(self, machine: str, model: str, count: int) -> None:
        first = self.next(count)
        body = scores(first, count, model, 100)
        self.keep(Item(machine, Kind.SCORES, body), [str(float(n)) for n in body.score])

    @rule(machine=machines, size=st.sampled_from([10, 60_000, 200_000]), urgent=st.booleans())
    def append_records(self, machine: str, size: int, *, urgent: bool) -> None:
        kind = Kind.EVENT if urgent else Kind.REJECT
        label = str(self.next(1))
        self.keep(Item(machine, kind, Records((label.encode().ljust(size),)), urgent=urgent), [label])

    @rule(partial=st.booleans())
    def cut(self, *, partial: bool) -> None:
        with self.file.transaction():
            self.file.cut(partial=partial)
        if partial:
            assert self.file.waiting_rows == 0

    @rule(partial=st.booleans())
    def cut_and_roll_back(self, *, partial: bool) -> None:
        with suppress(ZeroDivisionError), self.file.transaction():
            self.file.cut(partial=partial)
            raise ZeroDivisionError

    @precondition(lambda self: self.file.produced)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(1, self.file.produced))
        last = data.draw(st.integers(first, self.file.produced + 50))
        with self.file.transaction():
            self.file.free([(first, last)])
        for acked in (self.acked, self.ever_acked):
            acked.add(first, min(last, self.file.produced))

    @rule()
    def reopen(self) -> None:
        self.file.close()
        self.file = self.reopened()
        self.acked = RangeSet()

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "file"):
            return
        assert self.file.epoch == self.epoch
        for ref in self.file.frames():
            data = self.file.data(ref.first)
            assert data is not None
            assert self.bytes.setdefault(ref.first, data) == data
            assert len(data) <= MAX_BYTES
            assert ref.last - ref.first < MAX_ROWS
            assert not self.acked.covers(ref.first, ref.last)
        report = self.file.report()
        assert report["produced"] + report["waiting"] == self.serial
        buffered = RangeSet((first, last) for first, last in report["buffered"])
        freed = buffered.gaps(1, self.file.produced)
        assert all(self.ever_acked.covers(first, last) for first, last in freed)

    def teardown(self) -> None:
        if not hasattr(self, "file"):
            return
        with self.file.transaction():
            self.file.cut(partial=True)
        self.holds()
        found: dict[tuple[str, Kind], list[str]] = {}
        tally: dict[str, dict[str, list[int]]] = {}
        number = 1
        for first in sorted(self.bytes):
            header, body = decode(self.bytes[first])
            assert header.first == number
            number = header.last + 1
            rows = found.setdefault((header.machine, header.kind), [])
            if isinstance(body, Readings):
                rows += [str(value) for value in body.value]
                for hour, (count, total) in checksum.tally(
                    body.time_us, checksum.readings_hashes(header.machine, body)
                ).items():
                    entry = tally.setdefault(header.machine, {}).setdefault(str(hour), [0, 0])
                    entry[0] += count
                    entry[1] = checksum.add(entry[1], total)
            elif isinstance(body, Scores):
                rows += [str(float(score)) for score in body.score]
            elif isinstance(body, Records):
                rows += [record.decode().strip() for record in body.record]
        assert found == self.expected
        assert self.file.report()["tally"] == tally
        self.file.close()
        self.folder.cleanup()


class TestOutbox(OutboxMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
