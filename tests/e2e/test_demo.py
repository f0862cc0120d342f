"""The demonstration, as its user sees it: five machines live, models delivered, a fault found, access refused."""

import json
from pathlib import Path

import httpx
import pytest

from tests.e2e.plant_process import PlantProcess, command

pytestmark = [pytest.mark.e2e, pytest.mark.demo, pytest.mark.timeout(240)]

MACHINES = {"pump-01", "compressor-01", "spindle-01", "gearbox-01", "fan-01"}


def versions(plant: PlantProcess) -> dict[str, int]:
    return {m["machine"]: m["model"]["version"] for m in plant.get("/v1/machines")["machines"] if m["model"]}


@pytest.mark.timeout(1200)
def test_the_fault_is_found_with_a_right_sensor_first(plant: PlantProcess) -> None:
    plant.wait_said("fault injected", 300)
    plant.wait_anomaly("pump-01", 90)
    anomaly = plant.get("/v1/anomalies", machine="pump-01")["anomalies"][0]
    right = next(line for line in plant.said.splitlines() if "it shows in" in line).split("it shows in ")[1]
    first = anomaly["sensors"][0]
    assert first["sensor"] in right.split(", ")
    assert first["seen"] != first["expected"]
    assert anomaly["score"] > anomaly["limit"]
    models = plant.get("/v1/models", machine="pump-01")["models"]
    assert anomaly["version_hash"] in {model["version_hash"] for model in models}
    plant.until(lambda: plant.machine("pump-01")["state"] == "anomalous", 60, "no anomaly now")
    shown = command(plant.data.root, "status")
    assert shown.returncode == 0, shown.stderr
    assert "ANOMALOUS" in shown.stdout
    assert first["sensor"] in shown.stdout


def assert_nothing_is_lost(plant: PlantProcess) -> None:
    audit = command(plant.data.root, "ledger", "--audit", "--json")
    assert audit.returncode == 0, audit.stdout + audit.stderr


def test_other_models_reach_five_running_edges_and_no_row_is_lost(plant: PlantProcess) -> None:
    plant.until(lambda: set(versions(plant)) == MACHINES, 180, "no first models")
    before = versions(plant)
    listed = json.loads(command(plant.data.root, "models", "list", "--json").stdout)
    rivals = {m["machine"]: m["version"] for m in listed if "challenger" in m["aliases"]}
    assert set(rivals) == MACHINES
    with plant.client() as client:
        for machine, version in rivals.items():
            wanted = {"machine": machine, "version": version}
            client.post("/v1/models/promotions", wanted, idempotency_key=f"swap-{machine}")
    plant.until(lambda: versions(plant) == rivals, 60, "the versions shown do not change")
    assert all(rivals[machine] != before[machine] for machine in MACHINES)
    models = plant.get("/v1/models")["models"]
    running = {edge: m["version_hash"] for m in models for edge in m["running_on"]}
    assert running == {
        f"edge-{m['machine']}": m["version_hash"] for m in models if "champion" in m["aliases"]
    }
    assert_nothing_is_lost(plant)


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_models_trained_again_reach_five_running_edges_and_no_row_is_lost(plant: PlantProcess) -> None:
    plant.until(lambda: set(versions(plant)) == MACHINES, 300, "no first models")
    before = versions(plant)
    trained = command(plant.data.root, "train", "--deliver", "--json", seconds=600)
    assert trained.returncode == 0, trained.stderr
    told = [json.loads(line) for line in trained.stdout.splitlines()]
    wanted = {line["machine"]: line["version"] for line in told if line["event"] == "delivered"}
    assert set(wanted) == MACHINES
    assert all(wanted[machine] > before[machine] for machine in MACHINES)
    plant.until(lambda: versions(plant) == wanted, 60, "the versions shown do not change")
    assert_nothing_is_lost(plant)


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
    plant.until(lambda: set(versions(plant)) == MACHINES, 180, "no first models")
    sizes = {
        name: process.memory_info().rss / 1e6
        for name, process in plant.processes().items()
        if name.startswith("edge-")
    }
    assert len(sizes) == 5
    assert max(sizes.values()) < 130, sizes
