"""What the simulator is told on stdin and tells on stdout: one JSON object a line, both ways."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from firmware_sim.episodes import kind_of
from shared.errors import Rejected

Emit = Callable[[dict[str, Any]], None]
Control = AsyncIterator[bytes]

_LINE_MAX: Final = 65_536
_LINES_WAITING: Final = 100


@dataclass(frozen=True, slots=True)
class Inject:
    """Let a fault, a sensor fault or a look-alike begin now."""

    machine: str
    name: str
    severity: float = 4.0
    ramp_s: float = 20.0
    duration_s: float | None = None
    sensor: str | None = None


@dataclass(frozen=True, slots=True)
class Clear:
    """End all that a machine has."""

    machine: str


@dataclass(frozen=True, slots=True)
class Continue:
    """Let a replay go on after its fit part."""


def parse(line: bytes) -> Inject | Clear | Continue:
    """Read one control line. Raises Rejected with what is wrong about it."""
    try:
        told = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Rejected(f"not JSON: {error}") from error
    match told:
        case {"continue": True, **others} if not others:
            return Continue()
        case {"clear": str(machine), **others} if not others:
            return Clear(machine)
        case {"machine": str(machine), "fault": str(name), **others}:
            kind_of(name)
            return Inject(machine, name, **_options(others))
    raise Rejected('expected {"machine": ID, "fault": NAME, ...}, {"clear": ID} or {"continue": true}')


def _options(given: Mapping[object, Any]) -> dict[str, Any]:
    """Check the optional fields of an injection; null means the default."""
    options: dict[str, Any] = {}
    for key, value in given.items():
        if not isinstance(key, str) or key not in {"severity", "ramp_s", "duration_s", "sensor"}:
            raise Rejected(f"unknown field {str(key)[:60]!r}")
        if value is None:
            continue
        if key == "sensor" and not isinstance(value, str):
            raise Rejected("sensor is not a name")
        if key != "sensor" and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Rejected(f"{key} is not a number")
        options[key] = value
    return options


def emit_to_stdout(event: dict[str, Any]) -> None:
    """Write one notable moment as a JSON line."""
    sys.stdout.buffer.write(orjson.dumps(event) + b"\n")
    sys.stdout.buffer.flush()


async def stdin_lines(descriptor: int = 0) -> Control:
    """Lines from stdin (pipe, terminal or file) until it ends. A line over 64 KiB is cut there."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[bytes | None] = asyncio.Queue()
    room = threading.Semaphore(_LINES_WAITING)

    def tell(line: bytes | None) -> None:
        try:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        except RuntimeError:
            return  # the loop ended first: nobody listens any more

    def read() -> None:
        # os.read and not sys.stdin: a daemon thread inside a buffered reader aborts the interpreter's exit.
        pending = b""
        while chunk := os.read(descriptor, _LINE_MAX):
            *complete, pending = (pending + chunk).split(b"\n")
            if len(pending) >= _LINE_MAX:
                complete, pending = [*complete, pending[:_LINE_MAX]], b""
            for line in complete:
                room.acquire()
                tell(line)
        if pending:
            tell(pending)
        tell(None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await lines.get()) is not None:
        room.release()
        if line.strip():
            yield line
