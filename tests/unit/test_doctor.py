"""`industrialmind doctor`: each thing that can be wrong, named with its fix."""

import shutil
import socket
import sqlite3
import struct
import sys
import threading
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from industrialmind import doctor
from industrialmind.doctor import Check, examine, ntp_offset, render
from industrialmind.plant import DataDir
from shared.supervise import free_ports
from tests.unit.front_door import Command, commanding


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


FLAGS = {
    "NATS_PORT": "--nats-port",
    "MQTT_PORT": "--mqtt-port",
    "API_PORT": "--api-port",
    "UI_PORT": "--ui-port",
    "INFERENCE_PORT": "--inference-port",
}


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Default ports that nobody holds, whatever runs on this machine."""
    ports = dict(zip(FLAGS, free_ports(5), strict=True))
    for name, port in ports.items():
        monkeypatch.setattr(doctor, name, port)
    return ports


def failing(root: Path) -> dict[str, Check]:
    return {check.name: check for check in examine(root) if not check.ok}


@pytest.mark.usefixtures("free")
def test_a_machine_that_is_ready_fails_nothing(command: Command, tmp_path: Path) -> None:
    outcome = command("doctor", "--data", tmp_path / "none", "--json")
    assert outcome.code == 0, outcome.out
    names = {check["name"] for check in outcome.json}
    assert {"python", "nats-server", "sqlite", "disk", "clock", "plant", "onnxruntime"} <= names
    assert not (tmp_path / "none").exists()
    assert "not running" in command("doctor", "--data", tmp_path).out


def test_a_taken_port_is_named_with_the_flag_that_moves_it(
    command: Command, tmp_path: Path, free: dict[str, int]
) -> None:
    for name, port in free.items():
        with socket.create_server(("127.0.0.1", port)):
            assert FLAGS[name] in failing(tmp_path)[f"port {port}"].fix
            shown = command("doctor", "--data", tmp_path)
        assert shown.code == 1
        assert "FAILS" in shown.out
        assert FLAGS[name] in shown.out


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize(
    ("target", "name", "value", "check", "fix"),
    [
        (sys, "version_info", (3, 10), "python", "3.11"),
        (sqlite3, "sqlite_version_info", (3, 30), "sqlite", "newer"),
        (shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 30), "disk", "--data"),
        (time, "gmtime", lambda: SimpleNamespace(tm_year=1999), "clock", "set the clock"),
        (doctor, "ntp_offset", lambda _: 3.0, "clock", "NTP"),
        (doctor, "ntp_offset", lambda _: -3.0, "clock", "NTP"),
    ],
)
def test_what_this_machine_lacks_has_its_fix(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: object,
    name: str,
    value: object,
    check: str,
    fix: str,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(target, name, value)
        found = failing(tmp_path)
    assert set(found) == {check}
    assert fix in found[check].fix


@pytest.mark.usefixtures("free")
def test_what_is_not_installed_has_its_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    found = failing(tmp_path)
    assert {"nats-py", "numpy", "nats-server"} <= set(found)
    assert all("make setup" in check.fix for check in found.values())


def test_the_clock_is_compared_with_a_time_service() -> None:
    """SNTP over real packets: a server 100 s ahead, one that answers nonsense, one that is not there."""
    answers = [
        struct.pack("!40xII", int(time.time() + 100 + 2_208_988_800), 0),
        b"too short",
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]

        def serve() -> None:
            for answer in answers:
                _, client = server.recvfrom(48)
                server.sendto(answer, client)

        thread = threading.Thread(target=serve)
        thread.start()
        offset = ntp_offset("127.0.0.1", port=port, timeout=5)
        assert offset is not None
        assert 98 < offset < 101
        assert ntp_offset("127.0.0.1", port=port, timeout=5) is None
        thread.join()
        assert ntp_offset("127.0.0.1", port=port, timeout=0.01) is None


def test_a_plant_whose_api_is_away_names_the_log(tmp_path: Path) -> None:
    import os  # noqa: PLC0415

    [port] = free_ports(1)
    data = DataDir(tmp_path)
    data.run_file.write_bytes(orjson.dumps({"pid": os.getpid(), "api": f"http://127.0.0.1:{port}"}))
    found = failing(tmp_path)
    assert set(found) == {"data API"}
    assert "cloud.log" in found["data API"].fix


def test_a_fix_is_shown_only_where_it_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    render([Check("a", True, "[fine]", "mend a"), Check("b", False, "bad", "mend b")])
    out = capsys.readouterr().out
    assert "[fine]" in out
    assert "mend a" not in out
    assert "mend b" in out
