"""Single parts as real processes, `python -m industrialmind PART run --config FILE`: started and killed at will."""

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.settings import child_environment
from shared.supervise import free_ports
from tests.servers import NatsServer

ROOT = Path(__file__).parents[1]
READY_S = 60.0


class Part:
    """One part with its settings; its log is kept beside them."""

    def __init__(self, folder: Path, command: str, section: str, settings: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        [self._port] = free_ports(1)
        self._command = (sys.executable, "-m", "industrialmind", *command.split(), "--config")
        self._config, self._log = folder / f"{section}.toml", folder / f"{section}.log"
        lines = [f"{key} = {json.dumps(value)}" for key, value in _flat(settings | {"port": self._port})]  # type: ignore[operator]
        self._config.write_text("\n".join([f"[{section}]", *lines]))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Part":
        """Start it; it may not be ready yet."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, str(self._config)], cwd=ROOT, env=child_environment(), stdout=log, stderr=log
            )
        return self

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def wait(self, *, ready: bool = True) -> None:
        """Return once it says that it is ready (or, alive, that it is not)."""
        deadline = time.monotonic() + READY_S
        while self.get("/readyz")[0] != (200 if ready else 503):
            assert self._process is not None
            assert self._process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)  # between two looks

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def ended(self) -> int | None:
        """Its exit code if it ended by itself."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int:
        """Its process's id."""
        assert self._process is not None
        return self._process.pid

    def pause(self) -> None:
        """Freeze it, as a machine that hangs does."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def figures(self, token: str) -> dict[str, float]:
        """Its metrics by name and labels, as /metrics writes them; none while nobody answers."""
        status, body = self.get("/metrics", token)
        if status != 200:
            return {}
        lines = (line.rsplit(" ", 1) for line in body.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def said(self, tail: int | None = 4000) -> str:
        """The end of its log, or all of it."""
        text = self._log.read_text() if self._log.exists() else ""
        return text if tail is None else text[-tail:]

    def get(self, path: str, token: str = "") -> tuple[int, str]:
        """Status and body of one request to its health endpoint; 0 if nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(READY_S)
            self._process = None

    def _signal(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)


def gateway_part(server: NatsServer, folder: Path, **more: Any) -> Part:  # noqa: ANN401 - settings
    """A gateway on the server."""
    mqtt = {
        "mqtt_url": f"mqtt://127.0.0.1:{server.mqtt_port}",
        "mqtt_username": "admin",
        "mqtt_password": "secret",
    }
    log = {"nats_url": server.url, "credentials": server.credentials}
    return Part(folder, "gateway run", "gateway", mqtt | log | {"direct": False} | more)


def edge_part(server: NatsServer, folder: Path, **more: Any) -> Part:  # noqa: ANN401 - settings
    """The agent `e1` of site `s1` and machine `m1` on the server."""
    mqtt = {"url": f"mqtt://127.0.0.1:{server.mqtt_port}", "username": "admin", "password": "secret"}
    settings = {
        "site": "s1",
        "edge": "e1",
        "machines": ["m1"],
        "folder": str(folder / "e1"),
        "devices": mqtt | {"client_id": "e1-devices"},
        "uplink": mqtt | {"client_id": "e1-uplink"},
        "nats_url": server.url,
        "credentials": server.credentials,
        "report_seconds": 0.1,
    }
    return Part(folder, "edge run", "edge", settings | more)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
