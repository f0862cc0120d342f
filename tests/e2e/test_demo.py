"""The demonstration, as its user sees it: five machines live, models delivered, a fault found, access refused."""

import json
from pathlib import Path

import httpx
import pytest

from tests.e2e.plant_process import PlantProcess, command

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("demo"), pytest.mark.timeout(240)]

MACHINES = {"pump-01", "compressor-01", "spindle-01", "gearbox-01", "fan-01"}


def versions(plant: PlantProcess) -> dict[str, int]:
    return {m["machine"]: m["model"]["version"] for m in plant.get("/v1/machines")["machines"] if m["model"]}


def test_the_fault_is_found_with_a_right_sensor_first(plant: PlantProcess) -> None:
    plant.wait_said("fault injected", 120)
    plant.until(lambda: bool(plant.get("/v1/anomalies", machine="pump-01")["anomalies"]), 90, "no anomaly")
    anomaly = plant.get("/v1/anomalies", machine="pump-01")["anomalies"][0]
    right = next(line for line in plant.said.splitlines() if "it shows in" in line).split("it shows in ")[1]
    first = anomaly["sensors"][0]
    assert first["sensor"] in right.split(", ")
    assert first["seen"] != first["expected"]
    assert anomaly["score"] > anomaly["limit"]
    assert anomaly["version_hash"] == plant.machine("pump-01")["model"]["version_hash"]
    shown = command(plant.data.root, "status")
    assert shown.returncode == 0, shown.stderr
    assert "ANOMALOUS" in shown.stdout
    assert first["sensor"] in shown.stdout


def test_new_models_reach_five_running_edges_and_no_row_is_lost(plant: PlantProcess) -> None:
    plant.until(lambda: set(versions(plant)) == MACHINES, 120, "no first models")
    before = versions(plant)
    trained = command(plant.data.root, "train", "--json")
    assert trained.returncode == 0, trained.stderr
    wanted = {line["machine"]: line["version"] for line in map(json.loads, trained.stdout.splitlines())}
    assert set(wanted) == MACHINES
    assert all(wanted[machine] > before[machine] for machine in MACHINES)
    plant.until(lambda: versions(plant) == wanted, 60, "the versions shown do not change")
    audit = command(plant.data.root, "ledger", "--audit", "--json")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    listed = command(plant.data.root, "models", "list", "--json")
    assert {m["machine"] for m in json.loads(listed.stdout)} == MACHINES


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Host": "plant.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
    ],
)
def test_http_is_closed_to_strangers(plant: PlantProcess, headers: dict[str, str], status: int) -> None:
    token = (
        {}
        if "Authorization" in headers or not headers
        else {"Authorization": f"Bearer {plant.data.token('cli')}"}
    )
    url = f"http://127.0.0.1:{plant.ports[2]}/v1/machines"
    assert httpx.get(url, headers={**token, **headers}, trust_env=False).status_code == status


def test_probes_are_open_and_metrics_are_not(plant: PlantProcess) -> None:
    url = f"http://127.0.0.1:{plant.ports[2]}"
    plant.until(lambda: httpx.get(f"{url}/readyz", trust_env=False).status_code == 200, 30, "not ready")
    assert httpx.get(f"{url}/livez", trust_env=False).status_code == 200
    assert httpx.get(f"{url}/metrics", trust_env=False).status_code == 401


def test_a_second_up_on_the_same_data_is_told_so(plant: PlantProcess) -> None:
    second = command(plant.data.root, "up")
    assert second.returncode == 2
    assert "in use by another industrialmind up" in second.stderr


def test_taken_ports_are_named(plant: PlantProcess, tmp_path: Path) -> None:
    nats = str(plant.ports[0])
    second = command(tmp_path / "other", "up", *plant.flags)
    assert second.returncode == 2
    assert f"{nats} (NATS)" in second.stderr
    assert "--mqtt-port" in second.stderr


def test_doctor_finds_a_running_plant_well(plant: PlantProcess) -> None:
    plant.until(lambda: len(plant.get("/v1/machines")["machines"]) == 5)
    found = command(plant.data.root, "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(found.stdout)}
    assert checks["plant"]["ok"]
    assert checks["data API"]["found"] == "5 machines"
    assert all(check["ok"] or check["fix"] for check in checks.values())


def test_an_edge_stays_small(plant: PlantProcess) -> None:
    plant.until(lambda: set(versions(plant)) == MACHINES, 120, "no first models")
    sizes = {
        name: process.memory_info().rss / 1e6
        for name, process in plant.processes().items()
        if name.startswith("edge-")
    }
    assert len(sizes) == 5
    assert max(sizes.values()) < 130, sizes
