"""The outbox file against a plain list: append, cut, send, ack, degrade, roll back, crash and reopen in any order."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.outbox_file import OutboxFile
from edge.outbox_spans import Span
from edge.outbox_thin import FIRST, LAST, SECOND, THIRD, Stage
from shared import checksum
from shared.clock import ManualClock
from shared.frame_codec import decode, decode_body
from shared.frames import MAX_BYTES, MAX_ROWS, Aggregates, Kind, Readings, Records, Scores
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


def counted(tally: dict[str, dict[str, list[int]]], machine: str, body: Readings) -> None:
    """Add a frame's readings to the tally that is to be expected."""
    hashes = checksum.readings_hashes(machine, body)
    for hour, (count, total) in checksum.tally(body.time_us, hashes).items():
        entry = tally.setdefault(machine, {}).setdefault(str(hour), [0, 0])
        entry[0] += count
        entry[1] = checksum.add(entry[1], total)


class OutboxMachine(RuleBasedStateMachine):
    """The model: labels of rows in the order in which they must come out of each (machine, kind).

    Of readings, those that were degraded are missing from that order and counted in one aggregate.
    """

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "outbox.db"
        self.serial = 0
        self.expected: dict[tuple[str, Kind], list[str]] = {}
        self.bytes: dict[int, bytes] = {}  # of frames that were sent: they never change again
        self.protected: set[float] = set()
        self.lives = 0
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

    @rule(
        machine=machines,
        count=st.sampled_from([1, 2, 400, 999, 1000, 2500]),
        sensors=st.one_of(st.integers(1, 3), st.integers(1, 200)),
    )
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

    @rule(stage=st.sampled_from([FIRST, SECOND, THIRD, LAST]), times=st.integers(1, 3))
    def degrade(self, stage: Stage, times: int) -> None:
        if stage is THIRD:
            self.protected.clear()
        for _ in range(times):
            with self.file.transaction():
                self.file._thinner.step(stage)

    @rule(machine=machines, back=st.integers(0, 3000), length=st.integers(1, 500))
    def protect(self, machine: str, back: int, length: int) -> None:
        low = max(0, self.serial - back)
        with self.file.transaction():
            self.file.protect([Span(machine, low * 1_000_000, (low + length) * 1_000_000)])
        for body in self.raw(machine):
            inside = (body.time_us >= low * 1_000_000) & (body.time_us <= (low + length) * 1_000_000)
            self.protected |= set(body.value[inside].tolist())

    def raw(self, machine: str) -> list[Readings]:
        """Readings that are waiting or framed now."""
        found = [decode_body(p.kind, p.body) for p in self.file.waiting() if p.machine == machine]
        found += [decode(self.peek(ref.first))[1] for ref in self.file.frames() if ref.machine == machine]
        return [body for body in found if isinstance(body, Readings)]

    def peek(self, first: int) -> bytes:
        """The bytes of a frame, without sending it."""
        found = self.file._frames.data(first)
        assert found is not None
        return found[1]

    def send_frame(self, first: int) -> None:
        with self.file.transaction():
            data = self.file.data(first)
        assert data is not None
        assert self.bytes.setdefault(first, data) == data

    @precondition(lambda self: self.file.frames())
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        self.send_frame(data.draw(st.sampled_from(self.file.frames())).first)

    @precondition(lambda self: self.file.produced)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(1, self.file.produced))
        last = data.draw(st.integers(first, self.file.produced + 50))
        for ref in self.file.frames():
            if ref.first <= last and ref.last >= first:
                self.send_frame(ref.first)
        with self.file.transaction():
            self.file.free([(first, last)])
        for acked in (self.acked, self.ever_acked):
            acked.add(first, min(last, self.file.produced))

    @rule()
    def reopen(self) -> None:
        self.file.close()
        self.file = self.reopened()
        self.acked = RangeSet()

    @rule(stage=st.sampled_from([FIRST, SECOND]))
    def crash(self, stage: Stage) -> None:
        """Die within a transaction that was written to the disk, and was not committed."""
        self.lives += 1
        path = self.path.parent / str(self.lives) / self.path.name
        path.parent.mkdir()
        with suppress(ZeroDivisionError), self.file.transaction():
            self.file.cut(partial=True)
            self.file._thinner.step(stage)
            for part in self.path.parent.glob("outbox.db*"):
                shutil.copy(part, path.parent / part.name)
            raise ZeroDivisionError
        self.file.close()
        self.path = path
        self.reopen()

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "file"):
            return
        assert self.file.epoch == self.epoch
        for ref in self.file.frames():
            data = self.peek(ref.first)
            assert self.bytes.get(ref.first, data) == data
            assert len(data) <= MAX_BYTES
            assert ref.last - ref.first < MAX_ROWS
            assert not self.acked.covers(ref.first, ref.last)
        report = self.file.report()
        buffered = RangeSet((first, last) for first, last in report["buffered"])
        degraded = RangeSet((first, last) for first, last in report["degraded"])
        assert all(not degraded.overlap(first, last) for first, last in buffered)
        freed = RangeSet([*buffered, *degraded]).gaps(1, self.file.produced)
        assert all(self.ever_acked.covers(first, last) for first, last in freed)

    def teardown(self) -> None:
        if not hasattr(self, "file"):
            return
        with self.file.transaction():
            self.file.cut(partial=True)
        self.holds()
        for ref in self.file.frames():
            self.send_frame(ref.first)
        report = self.file.report()
        rows = RangeSet((first, last) for first, last in report["degraded"])
        found: dict[tuple[str, Kind], list[str]] = {}
        buckets: dict[str, list[Aggregates]] = {}
        tally: dict[str, dict[str, list[int]]] = {}
        named = RangeSet()
        for first in sorted(self.bytes):
            header, body = decode(self.bytes[first])
            assert not rows.overlap(header.first, header.last), "a row number twice"
            rows.add(header.first, header.last)
            if isinstance(body, Aggregates):
                buckets.setdefault(header.machine, []).append(body)
                for low, high in body.replaces:
                    named.add(low, high)
                continue
            mine = found.setdefault((header.machine, header.kind), [])
            if isinstance(body, Readings):
                mine += [str(value) for value in body.value]
                counted(tally, header.machine, body)
            elif isinstance(body, Scores):
                mine += [str(float(score)) for score in body.score]
            elif isinstance(body, Records):
                mine += [record.decode().strip() for record in body.record]
        assert rows.gaps(1, self.file.produced) == []
        assert list(named) == [tuple(pair) for pair in report["degraded"]]
        assert report["tally"] == tally
        for key, labels in self.expected.items():
            rest = self.degraded(buckets.get(key[0], []), key, found.get(key, []))
            assert [label for label in labels if label not in rest] == found.get(key, [])
        self.file.close()
        self.folder.cleanup()

    def degraded(self, buckets: list[Aggregates], key: tuple[str, Kind], found: list[str]) -> set[str]:
        """The labels that aggregates stand for, each in one bucket and none both there and raw."""
        if key[1] is not Kind.READINGS:
            return set()
        gone = set(self.expected[key]) - set(found)
        assert not {float(label) for label in gone} & self.protected
        assert sum(int(body.rows.sum()) for body in buckets) == len(gone)
        identities = [
            (body.width_us, body.sensor_names[sensor], start)
            for body in buckets
            for sensor, start in zip(body.sensor.tolist(), body.start_us.tolist(), strict=True)
        ]
        assert len(set(identities)) == len(identities), "a bucket twice"
        means = sum(float((body.mean * body.rows).sum()) for body in buckets)
        assert np.isclose(means, sum(float(label) for label in gone))
        return gone


class TestOutbox(OutboxMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
