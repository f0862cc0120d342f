"""The edge as systemd runs it: the unit by systemd's own tool, and the agent's word to it over a real socket."""

import configparser
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from industrialmind.children import to_toml
from shared.settings import child_environment, watchdog_seconds
from shared.supervise import free_ports
from shared.systemd import notify
from tests.servers import NatsServer

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "industrialmind-edge.service"
ANALYZE = shutil.which("systemd-analyze") or ""
WAIT_S = 30.0


def unit() -> configparser.ConfigParser:
    found = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(UNIT.read_text())
    return found


def test_the_unit_restarts_for_ever_and_may_write_nothing_but_its_state() -> None:
    service = unit()["Service"]
    wanted = {
        "Type": "notify",
        "Restart": "always",
        "DynamicUser": "yes",
        "ProtectSystem": "strict",
        "StateDirectory": "industrialmind-edge",
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
    }
    assert {key: service[key] for key in wanted} == wanted
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"
    assert float(service["WatchdogSec"]) > 0
    assert {"MemoryMax", "CPUQuota", "TasksMax"} <= set(service)
    assert "ReadWritePaths" not in service
    assert "edge run --config" in service["ExecStart"]


@pytest.mark.skipif(not ANALYZE, reason="no systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    units = [path for path in sorted(UNIT.parent.iterdir()) if path.suffix in {".service", ".timer"}]
    assert len(units) == 3
    for path in units:
        text = path.read_text().replace("/opt/industrialmind/bin/industrialmind", sys.executable)
        (tmp_path / path.name).write_text(text)
    found = subprocess.run(
        [ANALYZE, "verify", "--man=no", *(str(tmp_path / path.name) for path in units)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(WAIT_S)

    def until(self, word: str) -> list[str]:
        """Datagrams up to the one that has this line."""
        said = []
        while True:
            said.append(self.socket.recv(4096).decode())
            if word in said[-1].splitlines():
                return said


@contextmanager
def agent(folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "industrialmind", "edge", "run", "--config", str(folder / "edge.toml")],
            stderr=log,
            env=child_environment(**environment),
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait(10)


def write_settings(folder: Path, server: NatsServer, **more: object) -> None:
    link = {"url": server.mqtt_url, "username": "admin", "password": "secret"}
    settings = {
        "site": "s1",
        "edge": "e1",
        "machines": ["pump"],
        "folder": str(folder / "agent"),
        "devices": {**link, "client_id": "e1-devices"},
        "uplink": {**link, "client_id": "e1-uplink"},
        "port": free_ports(1)[0],
        **more,
    }
    (folder / "edge.toml").write_text(to_toml({"edge": settings}))


def test_the_agent_tells_systemd_that_it_is_ready_lives_and_ends_and_takes_new_settings(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    systemd = Systemd(tmp_path / "notify")
    write_settings(tmp_path, nats_server, port=0)
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
    with systemd.socket, agent(tmp_path, environment) as process:
        assert "STATUS=" in systemd.until("READY=1")[0]
        started = time.monotonic()
        systemd.until("WATCHDOG=1")
        systemd.until("WATCHDOG=1")
        assert time.monotonic() - started < WAIT_S
        status = tmp_path / "agent" / "status.json"
        until(status.exists)
        assert orjson.loads(status.read_bytes())["pid"] == process.pid
        log = tmp_path / "log"
        write_settings(tmp_path, nats_server, port=0, report_seconds=0.2)
        process.send_signal(signal.SIGHUP)
        until(lambda: "report_seconds" in log.read_text() and "read again" in log.read_text())
        write_settings(tmp_path, nats_server, port=0, report_seconds=0.3, machines=["pump", "fan"])
        process.send_signal(signal.SIGHUP)
        until(lambda: "edge.machines can't change" in log.read_text())
        write_settings(tmp_path, nats_server, port=0, nonsense=1)
        process.send_signal(signal.SIGHUP)
        until(lambda: "edge.nonsense" in log.read_text())
        process.send_signal(signal.SIGTERM)
        systemd.until("STOPPING=1")
        assert process.wait(WAIT_S) == 0


def until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_elsewhere_nothing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify("READY=1")  # systemd went away: that is logged, not raised
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert watchdog_seconds() == 30
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert watchdog_seconds() is None
