"""kill -9 of a rebuild, at any moment of it: the store is the old one or the new one, and the next one ends it."""

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from cloud.ingest.logic import read_batch
from cloud.telemetry.port import open_store
from cloud.telemetry.rebuild import waiting
from industrialmind.plant import DataDir
from shared.settings import child_environment
from tests.faults.rebuilder import FRAMES, ROWS, record

ROOT = Path(__file__).parents[2]
AGED = 100
OLD = -1.0
PHASES = ("reading", "taking over", "replacing")


async def damaged(data: DataDir) -> None:
    """The store with all rows, of those that the log still has every value altered, and one row of each kind too many."""
    async with open_store(data.telemetry_url) as store:
        for first in range(1, FRAMES + 1, 200):
            await store.write(read_batch([record(n) for n in range(first, first + 200)])[0])
    db = sqlite3.connect(data.telemetry)
    with db:
        db.execute("UPDATE readings SET value = ? WHERE row > ?", (OLD, AGED * ROWS))
        db.execute(
            "INSERT INTO readings SELECT series, 7, 1, 0, unit, 0, source, ? FROM readings LIMIT 1",
            (FRAMES * ROWS,),
        )
    db.close()


def state(data: DataDir) -> tuple[int, int]:
    """Rows, and rows with a value that the log does not have."""
    with contextlib.closing(sqlite3.connect(data.telemetry)) as db:
        assert db.execute("PRAGMA quick_check").fetchone()[0] == "ok"
        rows, wrong = db.execute("SELECT count(*), sum(value < 0) FROM readings").fetchone()
        return rows, wrong


def run(data: DataDir, kill_at: str = "", delay: float = 0.0) -> bool:
    """Whether it got to its end. `kill_at` is a phase: it is killed `delay` seconds after its beginning."""
    command = [sys.executable, "-m", "tests.faults.rebuilder", str(data.root), str(AGED)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=child_environment()
    ) as child:
        assert child.stdout is not None
        said = ""
        for line in child.stdout:
            said += line
            if kill_at and f'"phase":"{kill_at}' in line:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(delay)
                child.send_signal(signal.SIGKILL)
        assert child.wait() in (0, -signal.SIGKILL)
    return '"event":"done"' in said


async def scenario(root: Path, kills: Sequence[tuple[str, float]]) -> None:
    data = DataDir(root)
    await damaged(data)
    old, new = (FRAMES * ROWS + 1, (FRAMES - AGED) * ROWS), (FRAMES * ROWS, 0)
    assert state(data) == old
    for phase, delay in kills:
        run(data, phase, delay)
        assert state(data) in (old, new), phase
    assert run(data)
    assert state(data) == new
    async with open_store(data.telemetry_url, read_only=True) as store:
        [ranges] = (await store.stored_ranges()).values()
        assert list(ranges.stored) == [(1, FRAMES * ROWS)]
    assert waiting(data.telemetry_url) is None


@pytest.mark.real
async def test_a_rebuild_may_be_killed_while_it_reads_and_while_it_replaces(tmp_path: Path) -> None:
    await scenario(tmp_path / "data", [("reading", 0.05), ("replacing", 0.02)])


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(20))
async def test_rebuilds_are_killed_at_many_moments(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    kills = [(rng.choice(PHASES), rng.choice((0, rng.uniform(0, 0.3)))) for _ in range(10)]
    await scenario(tmp_path / "data", kills)
