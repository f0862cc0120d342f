"""A recording through every tier, with real processes, under kill -9."""

import asyncio
import json
import os
from pathlib import Path

import numpy as np
import pytest

from cloud.telemetry.port import Columns, open_store
from firmware_sim.recording import Recording, read_recording
from industrialmind.up import replay_machine
from shared.settings import datasets_dir
from tests.e2e.plant_process import PlantProcess, command, running_plant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SKAB = datasets_dir() / "SKAB" / "valve1" / "0.csv"
VICTIMS = ("edge", "gateway", "ingest", "cloud", "nats-server")


def synthetic(path: Path, rows: int = 900, fault_at: int = 650) -> Path:
    """A recording of our own: three related sensors, a shift of one from `fault_at` on, a label column."""
    random = np.random.default_rng(7)
    load = 50 + 10 * np.sin(np.arange(rows) / 25)
    flow = load * 2 + random.normal(0, 0.5, rows)
    power = load * 0.1 + random.normal(0, 0.05, rows)
    temperature = 40 + load * 0.2 + random.normal(0, 0.1, rows)
    flow[fault_at:] -= 12
    label = (np.arange(rows) >= fault_at).astype(int)
    lines = ["time;Volume Flow;Power;Temperature;anomaly"]
    for i in range(rows):
        stamp = np.datetime64("2024-03-01T10:00:00") + np.timedelta64(i, "s")
        lines.append(f"{stamp};{flow[i]:.4f};{power[i]:.5f};{temperature[i]:.4f};{label[i]}")
    path.write_text("\n".join(lines) + "\n")
    return path


async def stored(url: str, machine: str) -> list[Columns]:
    async with open_store(url, read_only=True) as store:
        return [chunk async for chunk in store.columns(machine)]


def assert_every_row_once(plant: PlantProcess, machine: str, recording: Recording) -> None:
    """Each cell of the file is in the store once, with the file's value, and nothing else is."""
    found: dict[tuple[str, int], float] = {}
    total = 0
    for chunk in asyncio.run(stored(plant.data.telemetry_url, machine)):
        for sensor, time_us, value in zip(
            chunk.sensor.tolist(), chunk.time_us.tolist(), chunk.value.tolist(), strict=True
        ):
            found[(chunk.sensors[sensor], time_us)] = value
            total += 1
    wanted = {
        (sensor, int(time_us)): float(value)
        for column, sensor in enumerate(recording.sensors)
        for time_us, value in zip(recording.times_us, recording.values[:, column], strict=True)
        if np.isfinite(value)
    }
    assert total == len(found)
    assert found == wanted


def labelled_times(path: Path, separator: str = ";") -> tuple[int, int]:
    """First and last µs of the rows labelled anomalous, of a file with an `anomaly` column."""
    rows = [line.split(separator) for line in path.read_text().split("\n") if line]
    column = rows[0].index("anomaly")
    marked = [row[0].replace(" ", "T") for row in rows[1:] if float(row[column])]
    first, last = (np.datetime64(marked[i], "us").astype(np.int64).item() for i in (0, -1))
    return first, last


def assert_score_rises(plant: PlantProcess, machine: str, path: Path) -> None:
    """The median score inside the labelled window is above that before it."""
    first, last = labelled_times(path)

    async def read() -> tuple[np.ndarray, np.ndarray]:
        async with open_store(plant.data.telemetry_url, read_only=True) as store:
            parts = await store.scores(machine, 0, 2**62, 100_000)
        return np.concatenate([p.time_us for p in parts]), np.concatenate([p.score for p in parts])

    times, scores = asyncio.run(read())
    scored = np.isfinite(scores)
    inside = scored & (times >= first) & (times <= last)
    before = scored & (times < first)
    assert inside.sum() > 50
    assert before.sum() > 20
    assert np.median(scores[inside]) > np.median(scores[before])


@pytest.fixture
def recording_file(tmp_path: Path) -> Path:
    """A SKAB file where the data sets are at hand, else a recording of our own."""
    return SKAB if SKAB.exists() else synthetic(tmp_path / "rig.csv")


def kill_run(root: Path, file: Path, kills: int, seed: int) -> None:
    """Replay while processes are killed; every row is there once, the fault shows, log and store agree."""
    recording = read_recording(file)
    replayed = replay_machine(file)
    victims = [replayed.edge if name == "edge" else name for name in VICTIMS]
    with running_plant(root / "data", "--replay", str(file), "--speed", "30") as plant:
        plant.wait_ready()
        killed = plant.kill_at_random(victims, kills, seed, spread=2.0)
        plant.wait_said("are in the store", 180)
        plant.until(lambda: plant.machine(replayed.id)["model"] is not None)
        assert_every_row_once(plant, replayed.id, recording)
        assert_score_rises(plant, replayed.id, file)
        audit = command(plant.data.root, "ledger", "--audit", "--json")
        assert audit.returncode == 0, f"seed {seed} killed {killed}\n{audit.stdout}{audit.stderr}"
        assert json.loads(audit.stdout)["findings"] == []
        assert command(plant.data.root, "ledger").returncode == 0
    stopped = command(root / "data", "ledger", "--audit", "--json")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr


@pytest.mark.real
def test_a_recording_runs_through_every_tier_while_five_processes_are_killed(
    tmp_path: Path, recording_file: Path
) -> None:
    kill_run(tmp_path, recording_file, 5, seed=int.from_bytes(os.urandom(4)))


@pytest.mark.nightly
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_twenty_kills_lose_nothing(tmp_path: Path, seed: int) -> None:
    kill_run(tmp_path, synthetic(tmp_path / "rig.csv"), 5, seed)
