import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from firmware_sim.machines import machine_type
from firmware_sim.model import Inputs
from industrialmind.plant import DEMO_PLANT, DataDir, Machine, Plant, write_private
from shared.errors import Misconfigured, NotFound


def test_a_plant_survives_its_file() -> None:
    assert Plant.from_json(DEMO_PLANT.to_json()) == DEMO_PLANT


@pytest.mark.parametrize("text", ["", "[]", '{"site": "x"}', '{"site": "x", "machines": [{"id": 1}]}'])
def test_a_damaged_plant_file_says_what_to_do(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"plant\.json"):
        Plant.from_json(text.encode())


def test_every_edge_id_is_an_id() -> None:
    assert len(Machine("a" * 40, "x").edge) <= 40


def test_secrets_are_private_and_stable(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    token = data.token("cli")
    assert token == data.token("cli") != data.token("metrics")
    assert stat.S_IMODE((data.secrets / "cli.token").stat().st_mode) == 0o600
    assert stat.S_IMODE(data.secrets.stat().st_mode) == 0o700


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.with_name(".f.new").write_text("left over by a crash")
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert [each.name for each in tmp_path.iterdir()] == ["f"]


def test_only_a_living_process_is_running(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert data.running() is None
    data.run_file.write_text(json.dumps({"pid": os.getpid(), "api": "http://x"}))
    running = data.running()
    assert running is not None
    assert running["api"] == "http://x"
    data.run_file.write_text(json.dumps({"pid": 2**22 + 1}))
    assert data.running() is None
    data.run_file.write_text("half writ")
    assert data.running() is None


def test_data_has_one_holder(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    with data.locked(), pytest.raises(Misconfigured, match="in use"), data.locked():
        pass
    with data.locked():
        pass


def test_an_empty_folder_holds_no_plant(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="industrialmind up"):
        DataDir(tmp_path).plant()


def test_the_demonstration_knows_each_machine_s_operating_point() -> None:
    for machine in DEMO_PLANT.machines:
        kind = machine_type(machine.type)
        assert machine.operating_sensor == kind.operating_sensor
        load = np.repeat([0.0, 1.0], 600)
        full = kind.physics(Inputs(1.0, load, load * 0 + 1, load * 0 + 20, load * 0))[kind.operating_sensor]
        assert machine.off == pytest.approx(0.05 * full[-1], rel=0.02)
        assert full[599] < machine.off
    assert Plant.from_json(DEMO_PLANT.to_json()) == DEMO_PLANT


def test_a_plant_remembers_its_event_log_and_hands_out_its_credentials_apart() -> None:
    embedded = Plant("hall", ())
    assert embedded.log_access("nats://h:1", "cli:x") == ("nats://h:1", "cli:x")
    plant = Plant.from_json(Plant("hall", (), "kafka://im:p%40ss@a:9092,b:9093").to_json())
    assert plant.log_access("nats://h:1", "cli:x") == ("kafka://a:9092,b:9093", "im:p@ss")
