"""kill -9 of a process that writes its outbox: what it said is durable is there, once, and numbers have no gap."""

import contextlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from edge.outbox_file import OutboxFile
from shared.clock import ManualClock
from shared.frame_codec import decode, decode_body
from shared.frames import Readings
from shared.settings import child_environment

ROOT = Path(__file__).parents[2]
LANES = 3
KILLS = 3


def run_and_kill(path: Path, starts: list[int], seconds: float) -> list[list[str]]:
    """What the writer said until it was killed `seconds` after its first commit."""
    command = [sys.executable, "-m", "tests.faults.outbox_writer", str(path), *map(str, starts)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=child_environment()
    ) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            lines.append(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
        assert child.wait() == -signal.SIGKILL
    return [line.split() for line in lines if line.endswith("\n")]


def test_what_was_durable_survives_kill_9(tmp_path: Path) -> None:
    path, rng = tmp_path / "outbox.db", random.Random(7)
    promised: dict[str, list[int]] = {f"m{lane}": [] for lane in range(LANES)}
    promised_cuts: set[tuple[int, int]] = set()
    starts = [1] * LANES
    kills = 0
    while kills < KILLS or sum(map(len, promised.values())) <= 100:  # a slow machine gets more turns
        kills += 1
        said = run_and_kill(path, starts, rng.uniform(0.05, 0.25))
        for words in said:
            if words[0] == "kept":
                first, count = int(words[2]), int(words[3])
                promised[words[1]] += range(first, first + count)
            else:
                promised_cuts.add((int(words[1]), int(words[2])))
        file = OutboxFile(path, site="s1", edge="e1", max_bytes=10**9, clock=ManualClock())
        with contextlib.closing(file):
            held: dict[str, list[int]] = {machine: [] for machine in promised}
            number = 1
            for ref in file.frames():
                header, body = decode(file.data(ref.first) or b"")
                assert isinstance(body, Readings)
                assert (header.first, header.epoch) == (number, file.epoch)
                number = header.last + 1
                held[header.machine] += [int(value) for value in body.value]
            assert number == file.produced + 1
            assert promised_cuts <= {(ref.first, ref.last) for ref in file.frames()}
            for piece in file.waiting():
                body = decode_body(piece.kind, piece.body)
                assert isinstance(body, Readings)
                held[piece.machine] += [int(value) for value in body.value]
            for machine, rows in held.items():
                assert rows == sorted(set(rows)), "a row twice or out of order"
                assert set(promised[machine]) <= set(rows), "a durable row is gone"
                # One commit more than was said may have reached the disk: the writer died before it could say so.
                assert len(rows) - len(promised[machine]) <= 7 * kills
            starts = [max(held[f"m{lane}"], default=0) + 1 for lane in range(LANES)]
