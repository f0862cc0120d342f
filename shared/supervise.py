"""Supervision: child processes that are restarted with backoff, die with their parent, and log within a bound."""

import asyncio
import contextlib
import ctypes
import os
import random
import secrets
import signal
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import structlog

from shared.clock import Clock, SystemClock
from shared.settings import child_environment

log = structlog.get_logger()

_PR_SET_PDEATHSIG: Final = 1
_LOG_BYTES: Final = 4 * 1024 * 1024
_LINE_BYTES: Final = 1024 * 1024
_BACKOFF_FIRST: Final = 0.25
_BACKOFF_CAP: Final = 10.0
_STEADY_AFTER: Final = 30.0
_REAP_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep running. `on_line` gets each line of its standard output; stderr goes to `log_file`.

    `restart`: always, after a failure only (exit code 0 is the end), or never.
    """

    name: str
    command: tuple[str, ...]
    log_file: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    on_line: Callable[[str], None] | None = None
    nice: int = 0
    restart: Literal["always", "on-failure", "never"] = "always"


class _Running:
    def __init__(self, child: Child) -> None:
        self.child = child
        self.process: asyncio.subprocess.Process | None = None
        self.restarts = 0
        self.exit_code: int | None = None
        self.sent: list[str] = []
        self.task: asyncio.Task[None] | None = None


class Supervisor:
    """Starts children and restarts those that end; `stop` ends them in the reverse order of their start."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._running: dict[str, _Running] = {}
        self._stopping: set[str] = set()

    async def start(self, child: Child) -> None:
        """Start `child` and keep it running. Returns once the first process exists."""
        self._stopping.discard(child.name)
        running = self._running[child.name] = _Running(child)
        await self._spawn(running)
        running.task = asyncio.create_task(self._keep(running), name=f"child {child.name}")

    def pid(self, name: str) -> int | None:
        """The child's process id now, None between two lives."""
        running = self._running.get(name)
        process = running.process if running else None
        return process.pid if process and process.returncode is None else None

    def restarts(self) -> dict[str, int]:
        """How often each child was restarted."""
        return {name: running.restarts for name, running in self._running.items()}

    def send(self, name: str, line: str) -> None:
        """Write a line to the child's standard input; a restarted child is told all lines again."""
        running = self._running[name]
        running.sent.append(line)
        self._write(running, line)

    async def wait(self, name: str) -> int:
        """Wait for a child that is not restarted and return its exit code."""
        running = self._running[name]
        if running.task is not None:
            await asyncio.shield(running.task)
        return running.exit_code if running.exit_code is not None else -1

    async def stop(self, *, grace: float = 10.0) -> None:
        """SIGTERM each child, the latest first, wait up to `grace` seconds for each, then SIGKILL."""
        for name in reversed(list(self._running)):
            await self.stop_one(name, grace=grace)

    async def stop_one(self, name: str, *, grace: float = 10.0) -> None:
        """End one child for good."""
        self._stopping.add(name)
        running = self._running[name]
        process = running.process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(grace):
                    await process.wait()
            except TimeoutError:
                log.warning("child did not end in time and is killed", child=name, seconds=grace)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # with what it started: that would hold the pipes
        if running.task is not None:
            _, late = await asyncio.wait({running.task}, timeout=_REAP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _keep(self, running: _Running) -> None:
        backoff = _BACKOFF_FIRST
        while True:
            process = running.process
            if process is None:
                raise RuntimeError(f"child {running.child.name} was never started")
            began = self._clock.monotonic()
            running.exit_code = await self._drain(running, process)
            if running.child.name in self._stopping or not self._again(running):
                return
            if self._clock.monotonic() - began > _STEADY_AFTER:
                backoff = _BACKOFF_FIRST
            log.warning(
                "child ended and is restarted",
                child=running.child.name,
                code=running.exit_code,
                log=str(running.child.log_file),
            )
            await self._clock.sleep(backoff * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
            backoff = min(backoff * 2, _BACKOFF_CAP)
            if running.child.name in self._stopping:
                return
            running.restarts += 1
            await self._spawn(running)
            for line in running.sent:
                self._write(running, line)

    @staticmethod
    def _again(running: _Running) -> bool:
        """Whether a child that ended is to live once more."""
        match running.child.restart:
            case "always":
                return True
            case "on-failure":
                return running.exit_code != 0
            case "never":
                return False

    async def _spawn(self, running: _Running) -> None:
        child = running.child

        def in_child() -> None:  # pragma: no cover - runs between fork and exec, where nothing measures
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os.setpgid(0, 0)  # a terminal's Ctrl-C reaches the supervisor alone, which then drains in order
            if child.nice:
                os.nice(child.nice)

        running.process = await asyncio.create_subprocess_exec(
            *child.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=child_environment(**child.environment),
            limit=_LINE_BYTES,
            preexec_fn=in_child,
        )

    async def _drain(self, running: _Running, process: asyncio.subprocess.Process) -> int:
        """Read both pipes to their end, then return the exit code."""
        child = running.child
        sink = BoundedLog(child.log_file)

        async def out() -> None:
            async for line in _lines(process.stdout):
                if child.on_line is not None:
                    child.on_line(line.decode(errors="replace").rstrip("\n"))
                else:
                    sink.write(line)

        async def err() -> None:
            async for line in _lines(process.stderr):
                sink.write(line)

        try:
            await asyncio.gather(out(), err())
            return await process.wait()
        finally:
            sink.close()

    @staticmethod
    def _write(running: _Running, line: str) -> None:
        process = running.process
        if process is not None and process.stdin is not None and process.returncode is None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                process.stdin.write(line.encode() + b"\n")


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[bytes]:
    if stream is None:
        return
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue  # a line over the bound: readline dropped it
        if not line:
            return
        yield line


LOWEST_PORT: Final = 20_000
PORTS: Final = 12_000


_GIVEN: Final[deque[int]] = deque(maxlen=64)


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now, below those that systems give to outgoing connections.

    None of the last ones given comes again: whoever asked for these may not listen there yet.
    """
    opened: list[socket.socket] = []
    while len(opened) < count:
        port = LOWEST_PORT + secrets.randbelow(PORTS)
        if port in _GIVEN:
            continue
        with contextlib.suppress(OSError):
            opened.append(socket.create_server(("127.0.0.1", port)))
            _GIVEN.append(port)
    ports = [int(one.getsockname()[1]) for one in opened]
    for one in opened:
        one.close()
    return ports


class BoundedLog:
    """A log file that keeps at most two files of 4 MiB: the present one and `.1`."""

    def __init__(self, path: Path, *, limit: int = _LOG_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._limit = limit
        self._file = path.open("ab", buffering=0)

    def write(self, line: bytes) -> None:
        """Append a line; a full disk loses the line, never the process."""
        try:
            if self._file.tell() + len(line) > self._limit:
                self._file.close()
                self._path.replace(self._path.with_suffix(self._path.suffix + ".1"))
                self._file = self._path.open("ab", buffering=0)
            self._file.write(line)
        except OSError as error:
            log.warning("log line lost", file=str(self._path), error=str(error))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
