"""`industrialmind up`: what it refuses to start with, what it adds to a plant, and how it ends."""

import asyncio
import platform
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from industrialmind import up
from industrialmind.children import Ports
from industrialmind.plant import DEMO_PLANT, DataDir, Plant, write_private
from industrialmind.up import (
    UpOptions,
    check_ports,
    choose_plant,
    command_given,
    has_history,
    history_marker,
    replay_machine,
    run_up,
)
from shared.clock import SystemClock
from shared.errors import Misconfigured
from shared.supervise import free_ports
from tests.models import SENSORS, healthy
from tests.unit.front_door import PLANT, Command, commanding

START = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


@pytest.fixture
def ports() -> tuple[str, ...]:
    flags = ("--nats-port", "--mqtt-port", "--api-port", "--ui-port", "--inference-port")
    return tuple(part for pair in zip(flags, map(str, free_ports(5)), strict=True) for part in pair)


def recording(path: Path, rows: int) -> Path:
    lines = [",".join(["time", *SENSORS, "label"])]
    for row, values in enumerate(healthy(rows).tolist()):
        moment = (START + timedelta(seconds=row)).isoformat()
        lines.append(",".join([moment, *(repr(value) for value in values), "0"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def test_each_taken_port_is_named_with_the_flags_that_move_it(command: Command, tmp_path: Path) -> None:
    nats, mqtt, api, ui, inference = free_ports(5)
    moved = {"nats": nats, "mqtt": mqtt, "api": api, "ui": ui, "inference": inference}
    flags = [part for name, port in moved.items() for part in (f"--{name}-port", str(port))]
    with socket.create_server(("127.0.0.1", nats)), socket.create_server(("127.0.0.1", api)):
        outcome = command("up", "--data", tmp_path / "data", *flags)
    assert outcome.code == 2
    assert f"{nats} (NATS), {api} (data API)" in outcome.err
    assert str(mqtt) not in outcome.err.split("hint")[0]
    assert "--nats-port" in outcome.err
    check_ports(Ports(nats, mqtt, api, ui, inference))


def test_a_folder_in_use_is_said_to_be(command: Command, tmp_path: Path, ports: tuple[str, ...]) -> None:
    with DataDir(tmp_path).locked():
        outcome = command("up", "--data", tmp_path, *ports)
    assert outcome.code == 2
    assert "is in use by another industrialmind up" in outcome.err
    assert "--data" in outcome.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no recording at"),
        ("time,a\n2024-01-01,much\n", "no numeric column"),
        ("n,a\n1,2\n2,3\n", "--interval"),
        ("time,a\n2024-01-01T00:00:00,1\n2024-01-01T00:00:00,2\n", "line 3"),
    ],
)
def test_a_recording_that_can_not_be_replayed_starts_nothing(
    command: Command, tmp_path: Path, ports: tuple[str, ...], text: str | None, said: str
) -> None:
    path = tmp_path / "rows.csv"
    if text is not None:
        path.write_text(text)
    outcome = command("up", "--data", tmp_path / "data", "--replay", path, *ports)
    assert outcome.code == 2
    assert said in outcome.err
    assert not (tmp_path / "data" / "plant.json").exists()
    assert not (tmp_path / "data" / "run.json").exists()


def test_a_damaged_plant_file_starts_nothing(
    command: Command, tmp_path: Path, ports: tuple[str, ...]
) -> None:
    (tmp_path / "plant.json").write_text("{half")
    outcome = command("up", "--data", tmp_path, *ports)
    assert outcome.code == 2
    assert "plant.json can't be read" in outcome.err


def test_a_replay_adds_its_machine_to_the_plant_that_is_there(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    plant, active = choose_plant(data, None)
    assert (plant, active) == (DEMO_PLANT, DEMO_PLANT.machines)
    write_private(data.plant_file, PLANT.to_json().decode())
    path = recording(tmp_path / "Valve 1" / "0.csv", 3)
    plant, active = choose_plant(data, path)
    assert [m.id for m in plant.machines] == ["pump-1", "fan-1", "replay-valve-1-0"]
    assert [m.id for m in active] == ["replay-valve-1-0"]
    assert plant.site == "s1"
    write_private(data.plant_file, plant.to_json().decode())
    assert choose_plant(data, path) == (plant, active)


def test_a_long_name_still_makes_an_id(tmp_path: Path) -> None:
    machine = replay_machine(recording(tmp_path / ("x" * 60) / "y.csv", 3))
    assert len(machine.edge) <= 40
    assert Plant.from_json(Plant("s", (machine,)).to_json()).machines == (machine,)
    with pytest.raises(Misconfigured, match="no recording"):
        replay_machine(tmp_path)


def test_history_is_made_once(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert not has_history(data)
    history_marker(data).touch()
    assert has_history(data)


@pytest.mark.parametrize("system", ["Linux", "Other"])
def test_the_wait_counts_from_the_process_own_start(monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    clock = SystemClock()
    waited = clock.monotonic() - command_given(clock)
    assert time.process_time() / 8 < waited < 7200
    assert abs(clock.monotonic() - command_given(clock) - waited) < 1.5


async def test_stop_during_the_start_ends_what_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before the first edge listens: the children end, and nothing says that the plant runs."""
    said: list[str] = []
    monkeypatch.setattr(up, "say", said.append)
    monkeypatch.setattr(up, "DEMO_PLANT", Plant("s1", ()))
    stop = asyncio.Event()
    stop.set()
    data = DataDir(tmp_path / "data")
    await run_up(UpOptions(data.root, Ports(*free_ports(5))), stop)
    assert said == ["draining ...", "stopped; everything is on disk"]
    assert not data.run_file.exists()


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    up.say("half way")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "half way\n")


def test_a_plant_goes_on_with_the_event_log_it_began_with(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    plant, _ = choose_plant(data, None, "kafka://a:9092")
    assert plant.log == "kafka://a:9092"
    write_private(data.plant_file, plant.to_json().decode())
    assert choose_plant(data, None)[0] == choose_plant(data, None, "kafka://a:9092")[0] == plant
    with pytest.raises(Misconfigured, match="belongs to"):
        choose_plant(data, None, "kafka://b:9092")
