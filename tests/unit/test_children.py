"""The processes of `up`: TOML that means what was put in, settings that each process takes, secrets in 0600."""

import stat
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from industrialmind.children import Ports, Processes, ReplayOptions, to_toml
from industrialmind.embedded import EmbeddedNats
from industrialmind.plant import DEMO_PLANT, DataDir
from industrialmind.sections import given_sections, settings_class
from industrialmind.trainer_job import Job
from shared.settings import load
from shared.supervise import Child

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
VALUES = SCALARS | st.lists(TEXT, max_size=3)
TABLES = st.recursive(
    st.dictionaries(NAMES, VALUES, max_size=4),
    lambda inner: st.dictionaries(NAMES, VALUES | inner, max_size=3),
)


@given(st.dictionaries(NAMES, TABLES, max_size=3))
def test_toml_is_read_back_as_it_was_put_in(sections: dict[str, dict[str, Any]]) -> None:
    assert tomllib.loads(to_toml(sections)) == sections


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    root = tmp_path / 'a "strange" folder\\ü'
    nats = EmbeddedNats(root, DEMO_PLANT.edges(), nats_port=4000, mqtt_port=4001)
    nats.write_config()
    return Processes(DataDir(root), DEMO_PLANT, nats, Ports(4000, 4001, 4002, 4003, 4005))


def settings(processes: Processes, child: Child) -> dict[str, Any]:
    """Every section of the child's TOML, through its settings class."""
    path = Path(child.command[-1])
    assert child.command[-2] == "--config"
    assert path == processes.data.config(child.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    sections = given_sections(path)
    return {name: load(settings_class(name), toml=path, environ={}).settings for name in sections}


def test_every_service_takes_the_settings_it_is_given(processes: Processes) -> None:
    machine = DEMO_PLANT.machines[0]
    gateway = settings(processes, processes.gateway())["gateway"]
    ingest = settings(processes, processes.ingest())["ingest"]
    cloud = settings(processes, processes.cloud())
    edge = settings(processes, processes.edge(machine))["edge"]
    inference = settings(processes, processes.inference())["inference"]
    sim = settings(processes, processes.simulator(1.5, print))["sim"]
    assert (
        gateway.nats_url
        == ingest.nats_url
        == cloud["api"].nats_url
        == edge.nats_url
        == "nats://127.0.0.1:4000"
    )
    assert gateway.mqtt_url == edge.devices.url == edge.uplink.url == sim.mqtt_url == "mqtt://127.0.0.1:4001"
    assert cloud["api"].port == 4002
    assert cloud["api"].token.get_secret_value() == processes.data.token("cli")
    assert inference.port == 4005
    assert inference.nats_url == edge.nats_url
    assert inference.credentials.get_secret_value() == processes.nats.credentials("inference").userinfo
    assert cloud["ledger"].path == processes.data.root / "ledger.json"
    assert edge.machines == (machine.id,)
    assert edge.operating[machine.id].sensor == "speed"
    assert edge.folder == processes.data.edge(machine.edge)
    assert edge.devices.client_id != edge.uplink.client_id
    assert edge.devices.password.get_secret_value() == processes.nats.credentials(machine.edge).password
    assert sim.backfill_hours == 1.5
    assert sim.machines[0] == "pump-01:centrifugal-pump"


def test_waveforms_are_made_and_judged_only_when_asked_for(processes: Processes) -> None:
    assert settings(processes, processes.simulator(0.0, print))["sim"].wave_s == 0
    assert settings(processes, processes.edge(DEMO_PLANT.machines[0]))["edge"].vibration.points == {}
    asked = replace(processes, waves_s=10.0)
    assert settings(asked, asked.simulator(0.0, print))["sim"].wave_s == 10
    for machine in DEMO_PLANT.machines:
        points = settings(asked, asked.edge(machine))["edge"].vibration.points
        assert points[machine.id]["bearing"].bearing.elements == 9
        assert points[machine.id]["bearing"].machine_class == ""


def test_a_replay_is_told_what_was_asked(processes: Processes, tmp_path: Path) -> None:
    machine = DEMO_PLANT.machines[0]
    plain = settings(processes, processes.replay(machine, ReplayOptions(Path("a.csv")), print))["replay"]
    assert plain.file == Path("a.csv").resolve()
    assert (plain.fit_rows, plain.speed, plain.mapping, plain.interval_s, plain.keep_columns) == (
        400,
        20,
        None,
        None,
        (),
    )
    options = ReplayOptions(tmp_path / "a.csv", tmp_path / "m.yaml", 50, 0.0, 0.5, ("label", "a b"))
    child = processes.replay(machine, options, print)
    full = settings(processes, child)["replay"]
    assert (full.fit_rows, full.speed, full.mapping) == (50, 0, tmp_path / "m.yaml")
    assert (full.interval_s, full.keep_columns) == (0.5, ("label", "a b"))
    assert child.restart == "on-failure"
    assert child.on_line is print


def test_the_trainer_lives_once_and_gives_way_to_others(processes: Processes) -> None:
    child = processes.trainer(Job(["pump-01", "fan-01"]), print)
    assert (child.restart, child.nice) == ("never", 10)
    assert child.command[-4:] == ("--machine", "pump-01", "--machine", "fan-01")
    assert "--data" in child.command
    assert child.on_line is print
    assert processes.trainer(Job(missing=True), print).command[-1] == "--missing"
    assert processes.trainer(Job(reconcile=True), print).command[-1] == "--reconcile"


def test_mlflow_s_server_takes_the_settings_it_is_given(processes: Processes) -> None:
    mlflow = settings(processes, processes.mlflow(4004))["mlflow"]
    assert (mlflow.host, mlflow.port) == ("127.0.0.1", 4004)
    assert mlflow.store_url == processes.data.mlflow_url
    assert mlflow.artifacts == processes.data.mlflow_artifacts
    assert mlflow.password.get_secret_value() == processes.data.token("mlflow")


def test_the_broker_is_the_embedded_server(processes: Processes) -> None:
    assert processes.broker().command == tuple(processes.nats.command())
