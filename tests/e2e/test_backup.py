"""A plant is backed up under load, lost, and restored: every reading that was committed by then is there, and no gap."""

import json
import sqlite3
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from industrialmind.plant import DataDir
from tests.e2e.plant_process import PlantProcess, command, running_plant

pytestmark = [pytest.mark.e2e, pytest.mark.real, pytest.mark.timeout(600)]

QUERY = "SELECT s.machine, s.sensor, r.time_us, r.value FROM readings r JOIN series s ON s.id = r.series"
ARGUMENTS = ("--backfill-hours", "0.5", "--no-demo-fault")


def stored(data: DataDir) -> set[tuple[str, str, int, float]]:
    """Every reading of the store."""
    db = sqlite3.connect(f"file:{data.telemetry}?mode=ro", uri=True, timeout=30)
    try:
        return set(db.execute(QUERY))
    finally:
        db.close()


def audited(root: Path) -> dict[str, int]:
    """The audit's report, which must be clean; readings in log and store."""
    done = command(root, "ledger", "--audit", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    return {key: report[key] for key in ("rows_in_log", "rows_in_store")}


def backed_up_under_load(plant: PlantProcess, file: Path) -> set[tuple[str, str, int, float]]:
    """Back up while half an hour of history runs through every stage; what the store had before."""
    plant.wait_ready()
    plant.until(lambda: len(stored(plant.data)) > 5_000, what="no history came")
    before = stored(plant.data)
    done = command(plant.data.root, "backup", str(file))
    assert done.returncode == 0, done.stderr
    after = stored(plant.data)
    assert len(after) > len(before), "nothing moved: it was no backup under load"
    assert before < after
    return before


def test_a_plant_backed_up_under_load_comes_back_whole(tmp_path: Path) -> None:
    file, fresh = tmp_path / "plant.tar", tmp_path / "fresh"
    with running_plant(tmp_path / "data", *ARGUMENTS) as plant:
        before = backed_up_under_load(plant, file)
        plant.wait_said("history stored", 300)
        whole = audited(plant.data.root)  # nothing was lost for being written meanwhile
        assert whole["rows_in_store"] > len(before)

    done = command(fresh, "restore", str(file))
    assert done.returncode == 0, done.stderr
    audited(fresh)
    assert before <= stored(DataDir(fresh))
    with running_plant(fresh, *ARGUMENTS) as again:
        again.wait_ready()
        held = stored(again.data)
        again.until(lambda: len(stored(again.data)) > len(held) + 500, what="no new reading came")
        counted = audited(fresh)
        assert before <= stored(again.data)
        assert counted["rows_in_log"] >= counted["rows_in_store"] > len(before)
        out = tmp_path / "out"
        done = command(fresh, "export", "--from", "2h ago", str(out))
        assert done.returncode == 0, done.stderr
        assert ds.dataset(out, partitioning="hive").count_rows() > len(before)
