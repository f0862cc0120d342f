"""A real `industrialmind up`, its processes, its files, and a hand to kill any of them."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from industrialmind.client import Client
from industrialmind.plant import DataDir
from shared.errors import IndustrialMindError
from shared.supervise import free_ports

START_SECONDS = 90.0
SILENT_SECONDS = 780.0
"""A machine that leaves the speeds of its history is not scored for ten minutes, by design, and its windows fill anew."""


class PlantProcess:
    """One run of `industrialmind up` on `root`."""

    def __init__(self, root: Path, arguments: Sequence[str], ports: Sequence[int]) -> None:
        self.data = DataDir(root)
        self.ports = tuple(ports)
        self._stderr: list[str] = []
        flags = ("--nats-port", "--mqtt-port", "--api-port", "--ui-port", "--inference-port")
        self.flags = tuple(part for pair in zip(flags, map(str, ports), strict=True) for part in pair)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "industrialmind", "up", "--json", "--data", str(root)),
                *self.flags,
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_stderr, daemon=True)
        self._reader.start()

    def _read_stderr(self) -> None:
        if self._process.stderr is not None:
            for line in self._process.stderr:
                self._stderr.append(line.rstrip())

    @property
    def said(self) -> str:
        """Everything it wrote to stderr."""
        return "\n".join(self._stderr)

    def wait_ready(self) -> dict[str, Any]:
        """The JSON line that says it is ready."""
        if self._process.stdout is None:
            raise AssertionError("no standard output")
        line = self._process.stdout.readline()
        assert line, f"up ended before it was ready:\n{self.said}"
        ready: dict[str, Any] = json.loads(line)
        return ready

    def wait_said(self, text: str, seconds: float = START_SECONDS) -> None:
        """Wait until it says `text`."""
        self.until(lambda: text in self.said, seconds, f"up never said {text!r}")

    def until(
        self, holds: Callable[[], bool], seconds: float = START_SECONDS, what: str = "never so"
    ) -> None:
        """Wait for a condition on the running plant."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if holds():
                    return
            except IndustrialMindError:
                pass  # the data API is between two lives
            assert self._process.poll() is None, f"up ended with {self._process.poll()}:\n{self.said}"
            time.sleep(0.1)
        raise AssertionError(f"{what} in {seconds} s:\n{self.said}\n{self.logs()}")

    def wait_anomaly(self, machine: str, seconds: float) -> None:
        """Wait for a machine's first anomaly, at most `seconds` of the time in which it is scored."""
        scored, last = 0.0, time.monotonic()

        def found() -> bool:
            nonlocal scored, last
            now = time.monotonic()
            scored += now - last if self.machine(machine)["score"] is not None else 0.0
            last = now
            assert scored <= seconds, f"{machine} was scored for {seconds} s and has no anomaly:\n{self.said}"
            return bool(self.get("/v1/anomalies", machine=machine)["anomalies"])

        self.until(found, seconds + SILENT_SECONDS, f"{machine} has no anomaly")

    def client(self) -> Client:
        """A client for its data API."""
        return Client.of(self.data)

    def get(self, path: str, **query: str | float) -> Any:  # noqa: ANN401 - JSON
        """One request."""
        with self.client() as client:
            return client.get(path, **query)

    def machine(self, name: str) -> dict[str, Any]:
        """A machine's status."""
        found: dict[str, Any] = next(m for m in self.get("/v1/machines")["machines"] if m["machine"] == name)
        return found

    def processes(self) -> dict[str, psutil.Process]:
        """Its children by name: nats-server, gateway, ingest, cloud, sim, and each edge by its id."""
        found = {}
        for child in psutil.Process(self._process.pid).children(recursive=True):
            try:
                command = child.cmdline()
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
            if command and command[0].endswith("nats-server"):
                found["nats-server"] = child
            elif "--config" in command:
                found[Path(command[command.index("--config") + 1]).stem] = child
        return found

    def kill(self, name: str) -> None:
        """`kill -9` one child; the plant restarts it."""
        victim = self.processes().get(name)
        if victim is not None:
            victim.kill()

    def kill_at_random(self, names: Sequence[str], kills: int, seed: int, spread: float) -> list[str]:
        """`kills` kills of random children, with random pauses of `spread` seconds in the mean."""
        random_ = random.Random(seed)
        killed = []
        for _ in range(kills):
            time.sleep(random_.expovariate(1 / spread))
            name = random_.choice(list(names))
            self.kill(name)
            killed.append(name)
        return killed

    def logs(self, tail: int = 25) -> str:
        """The end of each process's log."""
        parts = []
        for path in sorted(self.data.logs.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-tail:]
            parts.append("\n".join([f"--- {path.name}", *lines]))
        return "\n".join(parts)

    def stop(self) -> int:
        """Ctrl-C, and its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self._reader.join(5)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        return code


@contextmanager
def running_plant(root: Path, *arguments: str, ports: Sequence[int] | None = None) -> Iterator[PlantProcess]:
    """A plant for the length of the block."""
    plant = PlantProcess(root, arguments, ports or free_ports(5))
    try:
        yield plant
    finally:
        plant.stop()


def command(data: Path, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Run another command line on the same data, for at most `seconds`."""
    return subprocess.run(
        [sys.executable, "-m", "industrialmind", *arguments, "--data", str(data)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
