"""What somebody far away needs to see of an agent, without a secret in it: a status, and a bundle for a ticket."""

import io
import os
import platform
import re
import shutil
import ssl
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import BaseModel, SecretStr

from edge.heartbeat import FILE, STALE_SECONDS
from edge.renewal import read_file
from edge.settings import EdgeSettings
from shared.errors import Misconfigured, Unavailable
from shared.settings import Loaded

HIDDEN: Final = b"********"
LOG_BYTES: Final = 1 << 20
_URL_PASSWORD: Final = re.compile(r"://[^/@\s]*:([^@\s]+)@")
_KEY: Final = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_SHORTEST: Final = 4
"""A shorter secret is no secret, and hiding it would hide half of the text."""


def read_status(folder: Path, now_us: int) -> dict[str, Any]:
    """What the agent last said of itself, with `age_seconds` and whether it is `alive`. Raises Unavailable."""
    path = folder / FILE
    try:
        status: dict[str, Any] = orjson.loads(path.read_bytes())
        age = (now_us - int(status["at_us"])) / 1e6
    except FileNotFoundError as error:
        raise Unavailable(f"no agent has said anything in {folder}: is edge.folder right?") from error
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise Unavailable(f"{path} can't be read: {error}") from error
    status["age_seconds"] = round(age, 1)
    status["alive"] = age <= STALE_SECONDS and _lives(int(status.get("pid", 0)))
    return status


def _lives(pid: int) -> bool:
    """Whether there is such a process; in another container or as another user it may be hidden, so: yes."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def bundle(loaded: Loaded[EdgeSettings], log: Path | None, now_us: int) -> bytes:
    """The bundle as a tar.gz. Every secret of the settings, and every private key, is hidden in all of it."""
    settings = loaded.settings
    hidden = sorted(secrets(settings), key=len, reverse=True)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in _parts(loaded, log, now_us).items():
            clean = _clean(content, hidden)
            entry = tarfile.TarInfo(f"diag-{settings.edge}/{name}")
            entry.size, entry.mtime, entry.mode = len(clean), now_us // 1_000_000, 0o600
            tar.addfile(entry, io.BytesIO(clean))
    return out.getvalue()


def secrets(model: BaseModel) -> set[str]:
    """Every secret text in settings: passwords, tokens, and what follows `user:` in credentials and URLs."""
    found: set[str] = set()
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            found |= secrets(value)
        elif isinstance(value, SecretStr):
            text = value.get_secret_value()
            found |= {text, text.partition(":")[2]}
        elif isinstance(value, str):
            found |= set(_URL_PASSWORD.findall(value))
    return {text for text in found if len(text) >= _SHORTEST}


def _parts(loaded: Loaded[EdgeSettings], log: Path | None, now_us: int) -> Mapping[str, bytes]:
    settings = loaded.settings
    try:
        status = read_status(settings.folder, now_us)
    except Unavailable as error:
        status = {"problem": str(error)}
    parts = {
        "status.json": status,
        "settings.json": [dict(zip(("key", "value", "origin"), row, strict=True)) for row in loaded.rows()],
        "machine.json": _machine(settings.folder),
        "files.json": list(_files(settings.folder)),
        "certificates.json": _certificates(settings),
    }
    made = {name: orjson.dumps(part, option=orjson.OPT_INDENT_2, default=str) for name, part in parts.items()}
    if log is not None:
        made["log.txt"] = _tail(log)
    return made


def _clean(content: bytes, hidden: list[str]) -> bytes:
    content = _KEY.sub(HIDDEN, content)
    for text in hidden:
        # As it is, and as JSON spells it.
        for spelled in {text.encode(), orjson.dumps(text)[1:-1]}:
            content = content.replace(spelled, HIDDEN)
    return content


def _machine(folder: Path) -> dict[str, Any]:
    disk = shutil.disk_usage(folder if folder.exists() else folder.anchor or "/")
    names = ("industrialmind", "numpy", "onnxruntime", "paho-mqtt", "nats-py", "protobuf", "pydantic")
    return {
        "platform": platform.platform(),
        "python": sys.version,
        "openssl": ssl.OPENSSL_VERSION,
        "libraries": {name: _version(name) for name in names},
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "disk": {"total": disk.total, "free": disk.free},
        "uptime_seconds": round(time.monotonic()),
        "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _files(folder: Path) -> Iterator[dict[str, Any]]:
    """Names and sizes in the agent's folder, nothing of what is in them."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found = path.stat()
            yield {
                "name": str(path.relative_to(folder)),
                "bytes": found.st_size,
                "changed": int(found.st_mtime),
            }


def _certificates(settings: EdgeSettings) -> list[dict[str, Any]]:
    found = []
    for where, files in (
        ("edge", settings.tls),
        ("devices", settings.devices.tls),
        ("uplink", settings.uplink.tls),
    ):
        one = None if files is None else read_file(files.cert)
        if one is not None:
            found.append(
                {
                    "where": where,
                    "name": one.name,
                    "serial": f"{one.serial:x}",
                    "not_after": one.not_after.isoformat(),
                }
            )
    return found


def _tail(path: Path) -> bytes:
    """The end of a log. Raises Misconfigured."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            return file.read()
    except OSError as error:
        raise Misconfigured(f"{path} can't be read: {error.strerror}", hint="check --log") from error
