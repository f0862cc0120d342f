"""An outbox under load, thinned and drained, that is killed, finds its disk full, and has bytes flipped in its file.

It is killed anywhere, in a checkpoint of its journal, and in a step of thinning, by turns.

After each fault: no committed row is lost, none is doubled downstream, and it is back within 5 s.
"""

import contextlib
import itertools
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.outbox_file import OutboxFile
from shared.clock import ManualClock
from shared.frame_codec import decode, decode_body
from shared.frames import Aggregates, Body, Readings
from shared.ranges import RangeSet
from shared.settings import child_environment
from tests.faults.outbox_load import MAX_BYTES, ROWS
from tests.faults.rounds import rounds

ROOT = Path(__file__).parents[2]
LANES = 3
AIMS = ("-", "limit", "checkpoint", "thin")
ENOUGH = 2000
"""Lines after which a child that came nowhere near its aim is killed where it is."""
BACK_SECONDS = 5.0


def load(
    path: Path, log: Path, seed: int, starts: list[int], *, lines: int, limit: int = 0, aim: str = "-"
) -> list[list[str]]:
    """Let it work until it said so many lines or came to where it aimed, then it is killed; what it said."""
    words = [str(path), str(log), str(seed), str(limit), aim, *map(str, starts)]
    command = [sys.executable, "-m", "tests.faults.outbox_load", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=child_environment()
    ) as child:
        assert child.stdout is not None
        said = list(itertools.islice(child.stdout, lines))
        child.send_signal(signal.SIGKILL)
        said += child.stdout.readlines()
        assert child.wait() == -signal.SIGKILL, said[-5:]
    return [line.split() for line in said if line.endswith("\n")]


def logged(log: Path) -> Iterator[bytes]:
    """The frames in the log; one that was being written at the kill was not confirmed."""
    data = log.read_bytes() if log.exists() else b""
    at = 0
    while at + 4 <= len(data) and at + 4 + (size := int.from_bytes(data[at : at + 4], "little")) <= len(data):
        yield data[at + 4 : at + 4 + size]
        at += 4 + size
    with contextlib.suppress(FileNotFoundError), log.open("r+b") as file:
        file.truncate(at)


class Books:
    """What was promised, and what outbox and log hold of it."""

    def __init__(self) -> None:
        self.promised = [0] * LANES
        self.uncertain = 0
        """Rows that damage may have taken: they are reported, each."""

    def note(self, said: list[list[str]]) -> None:
        for word, *rest in said:
            if word == "kept":
                lane = int(rest[0][1:])
                self.promised[lane] = max(self.promised[lane], int(rest[1]) + int(rest[2]) - 1)
            elif word in {"open", "back"}:
                assert float(rest[0]) < BACK_SECONDS

    def check(self, path: Path, log: Path) -> list[int]:
        """Every row is raw once or in one aggregate; returns where each machine goes on."""
        frames: dict[tuple[bytes, int], bytes] = {}
        for data in logged(log):
            header = decode(data)[0]
            assert frames.setdefault((header.epoch, header.first), data) == data, "a resend differs"
        begun = time.monotonic()
        file = OutboxFile(path, site="s1", edge="e1", max_bytes=MAX_BYTES, clock=ManualClock())
        assert time.monotonic() - begun < BACK_SECONDS
        with contextlib.closing(file):
            assert file.set_aside is None
            for ref in file.frames():
                found = file._frames.data(ref.first)
                assert found is not None
                assert frames.setdefault((file.epoch, ref.first), found[1]) == found[1]
            report = file.report()
            waiting = [(piece.machine, decode_body(piece.kind, piece.body)) for piece in file.waiting()]
        return self._count(frames, waiting, RangeSet((a, b) for a, b in report["degraded"]), report)

    def _count(
        self,
        frames: dict[tuple[bytes, int], bytes],
        waiting: list[tuple[str, Body]],
        degraded: RangeSet,
        report: dict[str, object],
    ) -> list[int]:
        raw: dict[str, list[int]] = {f"m{lane}": [] for lane in range(LANES)}
        thinned = dict.fromkeys(raw, 0)
        rows = RangeSet(degraded)
        for data in frames.values():
            header, body = decode(data)
            assert rows.add(header.first, header.last) == header.count, "a row number twice"
            if isinstance(body, Readings):
                raw[header.machine] += [int(value) for value in body.value]
            elif isinstance(body, Aggregates):
                thinned[header.machine] += int(body.rows.sum())
        assert rows.gaps(1, int(str(report["produced"]))) == [], "a row number is nowhere"
        for machine, kept in waiting:
            if isinstance(kept, Readings):
                raw[machine] += [int(value) for value in kept.value]
        starts = []
        for lane, (machine, found) in enumerate(raw.items()):
            assert len(set(found)) == len(found), "a row twice"
            newest = max(found, default=0)
            assert newest >= self.promised[lane], "a durable row is gone"
            assert newest - self.promised[lane] <= ROWS
            assert len(found) + thinned[machine] == newest, "rows are gone, or counted twice"
            self.promised[lane] = newest
            starts.append(newest + 1)
        return starts


@pytest.mark.parametrize("faults", rounds(10, 200))
def test_kills_and_full_disks_lose_and_double_nothing(tmp_path: Path, faults: int, seed: int) -> None:
    path, log = tmp_path / "edge" / "outbox.db", tmp_path / "log"
    rng, books = random.Random(seed), Books()
    starts = [1] * LANES
    heard: Counter[str] = Counter()
    for fault in range(faults):
        aim = AIMS[fault % len(AIMS)]
        limit = rng.randrange(1 << 16, MAX_BYTES) if aim == "limit" else 0
        lines = ENOUGH if aim in {"checkpoint", "thin"} else rng.randrange(50, 300)
        said = load(path, log, seed + fault, starts, lines=lines, limit=limit, aim="-" if limit else aim)
        heard.update(" ".join(words) if words[0] == "aimed" else words[0] for words in said)
        books.note(said)
        sizes = {each.name: each.stat().st_size for each in path.parent.iterdir()}
        assert sum(sizes.values()) <= MAX_BYTES, sizes
        starts = books.check(path, log)
    file = OutboxFile(path, site="s1", edge="e1", max_bytes=MAX_BYTES, clock=ManualClock())
    thinned = file.thinned
    file.close()
    report = f"seed {seed}: {faults} faults, {dict(heard)}, thinned {thinned}"
    sys.stdout.write(report + "\n")
    assert heard["refused"] > 0, "no disk was full"
    assert heard["aimed at check_journal"] > 0, "no checkpoint was cut short"
    assert heard["aimed at thin"] > 0, "no thinning was cut short"
    assert thinned > 0, "nothing was thinned"


@pytest.mark.parametrize("faults", rounds(10, 200))
def test_flipped_bytes_are_reported_and_everything_else_is_there(
    tmp_path: Path, faults: int, seed: int
) -> None:
    log = tmp_path / "log"
    rng = random.Random(seed)
    source = tmp_path / "edge" / "outbox.db"
    said = load(source, log, seed, [1] * LANES, lines=600)
    Books().note(said)
    whole = OutboxFile(source, site="s1", edge="e1", max_bytes=MAX_BYTES, clock=ManualClock())
    with contextlib.closing(whole):
        before = {ref.first: whole._frames.data(ref.first) for ref in whole.frames()}
        held = RangeSet((ref.first, ref.last) for ref in whole.frames())
        produced, waiting, epoch = whole.produced, whole.waiting_rows, whole.epoch
    image = source.read_bytes()
    found = 0
    for fault in range(faults):
        path = tmp_path / f"flip-{fault}" / "outbox.db"
        path.parent.mkdir()
        spoiled = bytearray(image)
        for _ in range(rng.choice((1, 1, 16))):
            spoiled[rng.randrange(len(spoiled))] ^= 1 << rng.randrange(8)
        path.write_bytes(spoiled)
        begun = time.monotonic()
        file = OutboxFile(path, site="s1", edge="e1", max_bytes=MAX_BYTES, clock=ManualClock())
        assert time.monotonic() - begun < BACK_SECONDS
        with contextlib.closing(file):
            if file.set_aside is not None:
                assert file.set_aside.read_bytes() == bytes(spoiled), "it was not kept as it was"
                assert file.epoch != epoch
                found += 1
                continue
            with file.transaction():
                offered = {ref.first: file.data(ref.first) for ref in file.frames()}
            for first, data in offered.items():
                assert data is None or (before[first] or (0, b""))[1] == data, "damage is offered"
            damaged = RangeSet((a, b) for a, b in file.report()["damaged"])
            kept = RangeSet((ref.first, ref.last) for ref in file.frames())
            lost = [gap for first, last in held for gap in kept.gaps(first, last)]
            assert all(damaged.covers(first, last) for first, last in lost), "a row is gone and not reported"
            assert file.waiting_rows + file.damaged_rows >= waiting
            assert file.produced >= produced
            found += bool(damaged)
    assert found > 0, "no damage was found"
