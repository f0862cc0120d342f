"""A process of the benchmark: told and heard line by line, and measured."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import orjson
import psutil

from shared.settings import child_environment

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Used:
    """What a process and its children have used: CPU seconds (user and system), and the sum of their peaks of RSS."""

    cpu_s: float
    peak_bytes: int


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module of this project."""
    return sys.executable, "-m", module, *arguments


def used(pid: int) -> Used:
    """What the process and its living children have used so far."""
    root = psutil.Process(pid)
    cpu, peak = 0.0, 0
    for process in (root, *root.children(recursive=True)):
        times = process.cpu_times()
        cpu += times.user + times.system
        peak += _peak(process.pid)
    return Used(cpu, peak)


def machine_cpu_s() -> float:
    """CPU seconds that anything at all has used on this machine."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _peak(pid: int) -> int:
    """VmHWM: the most memory it ever had resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


class Started:
    """A child that speaks JSON lines; ended by its pid. Its standard error goes to `log`, or with ours."""

    def __init__(self, command: tuple[str, ...], log: Path | None = None) -> None:
        self._command = command
        self._log = log

    def __enter__(self) -> Self:
        errors = self._log.open("ab") if self._log else None
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=child_environment() | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def why(self) -> str:
        """Its command and how it is."""
        how = "takes too long" if self.alive else f"ended with {self._process.returncode}"
        return f"{' '.join(self._command[:4])} {how}"

    def said(self) -> str:
        """The end of what it wrote to its log."""
        return self._log.read_text()[-2000:] if self._log else ""

    def used(self) -> Used:
        """What it has used so far."""
        return used(self.pid)

    def tell(self, line: str) -> None:
        """Write a line to it."""
        words = cast("IO[bytes]", self._process.stdin)
        words.write(line.encode() + b"\n")
        words.flush()

    def hear(self) -> dict[str, Any]:
        """The next line that it says."""
        line = cast("IO[bytes]", self._process.stdout).readline()
        if not line:
            self._process.wait()
            raise RuntimeError(f"{self.why}\n{self.said()}")
        told: dict[str, Any] = orjson.loads(line)
        return told

    def heard(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """`name` in the next line that has it."""
        while name not in (told := self.hear()):
            pass
        return told[name]
