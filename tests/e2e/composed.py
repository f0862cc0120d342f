"""A plant by docker-compose.yml, its services as processes of this machine: commands and environment are the file's own."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self, cast

import httpx
import yaml

from deploy.servers.process import HOST, Server
from industrialmind.servers import DEMO_EDGES, expanded, read_environment, write_servers_config
from shared.settings import child_environment
from shared.supervise import free_ports
from tests.e2e.compose_servers import ROOT, SERVERS

READY_S: Final = 90.0
_LOOK_S: Final = 0.1
_PORT: Final = re.compile(r"^IM_[A-Z]+__PORT$")


class Service:
    """One of our services: what the compose file runs, with addresses and folders of this machine."""

    def __init__(
        self, folder: Path, name: str, command: list[str], environment: Mapping[str, str], port: int
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.port = name, port
        self.folder, self.environment = folder, dict(environment)
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "industrialmind", *self._command],
                cwd=self.folder,
                env=child_environment(PYTHONPATH=str(ROOT), **self.environment),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        return self

    def run(self, seconds: float) -> None:
        """Start it and wait for its end, which must be a good one."""
        try:
            assert self.start()._running().wait(seconds) == 0, self.said()
        finally:
            self.stop()

    def tell(self, line: str) -> None:
        """Write a line to it."""
        words = cast("IO[bytes]", self._running().stdin)
        words.write(line.encode() + b"\n")
        words.flush()

    def ready(self) -> bool:
        """Whether it says so. Fails if it ended: Compose would start it again, and hide why."""
        assert self._running().poll() is None, (
            f"{self.name} ended with {self._running().poll()}:\n{self.said()}"
        )
        try:
            return (
                httpx.get(f"http://{HOST}:{self.port}/readyz", trust_env=False).status_code == httpx.codes.OK
            )
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """End it as Compose does, with SIGTERM. It must end by itself."""
        if self._process is None:
            return
        process, self._process = self._process, None
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=20)  # its `stop_grace_period`
        finally:
            process.kill()

    def said(self, tail: int = 4000) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-tail:] if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def _running(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, f"{self.name} was not started"
        return self._process


class Composed:
    """The compose file's servers while the block runs, and its services to be started by name.

    `more` are variables over those of a service, as `docker compose run -e` gives them.
    """

    def __init__(self, folder: Path, more: Mapping[str, Mapping[str, str]] | None = None) -> None:
        write_servers_config(folder, DEMO_EDGES)
        self.variables = expanded(read_environment((folder / ".env").read_text()))
        self._file: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        self._folder = folder
        self._more = dict(more or {})
        self.servers: dict[str, Server] = {
            name: make(folder / name, self._environment(name)) for name, make in SERVERS.items()
        }
        ours = [name for name in self._file if name not in SERVERS]
        self._ports = {name: server.port for name, server in self.servers.items()}
        self._ports |= dict(zip(ours, free_ports(len(ours)), strict=True))
        self.services = {name: self._service(name) for name in ours}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            for server in self.servers.values():
                self._stack.callback(server.kill)
                server.start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            sys.stdout.write(
                "".join(f"--- {each.name}\n{each.said(2000)}\n" for each in self.services.values())
            )
        self._stack.close()

    def up(self, *names: str) -> None:
        """Start services and wait until they are ready, as `depends_on` lets the next ones wait."""
        for name in names:
            self._stack.callback(self.services[name].stop)
            self.services[name].start()
        self.until(lambda: all(self.services[name].ready() for name in names), READY_S, f"{names} ready")

    def start(self, name: str) -> None:
        """Start a service that says nothing of itself."""
        self._stack.callback(self.services[name].stop)
        self.services[name].start()

    def until(self, holds: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
            time.sleep(_LOOK_S)  # between two looks

    def url(self, name: str) -> str:
        """Where a service is."""
        return f"http://{HOST}:{self._ports[name]}"

    def here(self, value: str, folder: Path) -> str:
        """A value with what holds in containers turned into what holds on this machine."""
        value = re.sub(
            rf"(?<![\w.-])({'|'.join(map(re.escape, self._ports))}):\d+",
            lambda found: f"{HOST}:{self._ports[found[1]]}",
            value,
        )
        return re.sub(r"(^|(?<=sqlite:///))/data\b", str(folder), value)

    def _environment(self, name: str) -> dict[str, str]:
        given = self._file[name].get("environment", {}) | self._more.get(name, {})
        filled = (
            re.sub(r"\$\{(\w+)\}", lambda found: self.variables[found[1]], value) for value in given.values()
        )
        return dict(zip(given, (value.replace("$$", "$") for value in filled), strict=True))

    def _service(self, name: str) -> Service:
        folder, port = self._folder / name, self._ports[name]
        given = {key: self.here(value, folder) for key, value in self._environment(name).items()}
        for key, value in given.items():
            if _PORT.match(key):
                given[key] = str(port)
            elif value == "0.0.0.0":
                given[key] = HOST
        return Service(folder, name, list(self._file[name].get("command", [])), given, port)
