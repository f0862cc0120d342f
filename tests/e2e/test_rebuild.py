"""The store of a living plant is damaged, found out, and made anew, while rebuild and ingest are killed."""

import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.telemetry.rebuild import waiting
from tests.e2e.plant_process import PlantProcess, command, running_plant

pytestmark = [pytest.mark.e2e, pytest.mark.nightly]


def damage(path: Path) -> None:
    """Delete a reading, alter one, add one: of a sensor's first three, which lie in the log's first frames."""
    db = sqlite3.connect(path, timeout=30)
    with db:
        first, second = db.execute("SELECT series, time_us FROM readings ORDER BY 1, 2 LIMIT 2").fetchall()
        db.execute("DELETE FROM readings WHERE series = ? AND time_us = ?", first)
        db.execute("UPDATE readings SET value = value + 1 WHERE series = ? AND time_us = ?", second)
        db.execute(
            "INSERT INTO readings SELECT series, time_us + 1, 1.5, quality, unit, arrival_us, source, row FROM readings"
            " WHERE series = ? AND time_us = ?",
            second,
        )
    db.close()


def rebuild(plant: PlantProcess, kill_after: float) -> None:
    """Begin a rebuild and kill it after a while."""
    words = ("rebuild", "telemetry", "--data", str(plant.data.root))
    with subprocess.Popen(
        [sys.executable, "-m", "industrialmind", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        try:
            child.wait(kill_after)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)


def audit(plant: PlantProcess) -> tuple[int, str]:
    done = command(plant.data.root, "ledger", "--audit")
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("seed", range(3))
def test_damage_is_mended_over_kills_while_the_machines_go_on(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with running_plant(tmp_path / "data", "--backfill-hours", "0.5", "--no-demo-fault") as plant:
        plant.wait_ready()
        plant.wait_said("history stored", 300)
        damage(plant.data.telemetry)
        code, said = audit(plant)
        assert code == 1, said
        assert all(f"{what} at stage store" in said for what in ("missing", "altered", "doubled"))
        for _ in range(3):
            rebuild(plant, rng.uniform(2, 6))
            plant.kill("ingest")
        done = command(plant.data.root, "rebuild", "telemetry", seconds=400)
        assert done.returncode == 0, done.stderr
        assert waiting(plant.data.telemetry_url) is None
        code, said = audit(plant)
        assert code == 0, said
        assert command(plant.data.root, "replay", "--from", "10m ago", "--speed", "0").returncode == 0
        assert command(plant.data.root, "rebuild", "ledger").returncode == 0
        code, said = audit(plant)
        assert code == 0, said
