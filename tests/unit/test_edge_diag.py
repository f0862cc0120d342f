"""What is shown of an agent: its status, and a bundle in which every secret is looked for."""

import io
import os
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from edge.diag import HIDDEN, bundle, secrets
from edge.settings import EdgeSettings
from industrialmind.children import to_toml
from industrialmind.pki import Pki
from shared.clock import SystemClock
from shared.settings import load
from tests.unit.front_door import Command, commanding

SECRETS = {
    "devices": 'dev-Pa55 "quoted" wörd',
    "uplink": "up-Pa55word",
    "credentials": "nats-Pa55word",
    "token": "metrics-t0ken",
    "url": "url-Pa55word",
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    pki = Pki.init(tmp_path / "pki", datetime.now(UTC))
    pki.issue("e1", "field", datetime.now(UTC))
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "outbox.db").write_bytes(b"x" * 100)
    for suffix in (".crt", ".key"):
        (folder / f"e1{suffix}").write_bytes(pki.certificate_file("e1", suffix).read_bytes())
    status = {
        "at_us": SystemClock().now_us(),
        "pid": os.getpid(),
        "ready": True,
        "problems": {},
        "settings_refused": "",
        "certificate": {"name": "e1", "not_after": "2026-03-08T12:00:00+00:00"},
        "state": {
            "edge": "e1",
            "version": "1.2.3",
            "outbox": {"rows": 7},
            "machines": {"pump": {"state": "normal", "note": f"password {SECRETS['uplink']}"}},
        },
    }
    (folder / "status.json").write_bytes(orjson.dumps(status))
    settings = {
        "site": "s1",
        "edge": "e1",
        "machines": ["pump"],
        "folder": str(folder),
        "nats_url": f"nats://e1:{SECRETS['url']}@127.0.0.1:4222",
        "credentials": f"e1:{SECRETS['credentials']}",
        "token": SECRETS["token"],
        "devices": {"url": "mqtt://h:1", "client_id": "d", "username": "e1", "password": SECRETS["devices"]},
        "uplink": {"url": "mqtt://h:1", "client_id": "u", "username": "e1", "password": SECRETS["uplink"]},
        "tls": {"cert": str(folder / "e1.crt"), "key": str(folder / "e1.key")},
    }
    path = tmp_path / "edge.toml"
    path.write_text(to_toml({"edge": settings}))
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name.partition("/")[2]: f.read() for m in tar.getmembers() if (f := tar.extractfile(m))}


def test_no_secret_is_in_the_bundle(config: Path, tmp_path: Path) -> None:
    loaded = load(EdgeSettings, toml=config)
    key = (loaded.settings.folder / "e1.key").read_text()
    log = tmp_path / "log"
    log.write_text("\n".join(["it began", *(f"leaked {one}" for one in SECRETS.values()), key, "it ended"]))
    found = unpacked(bundle(loaded, log, SystemClock().now_us()))
    whole = b"\n".join(found.values())
    assert set(SECRETS.values()) <= secrets(loaded.settings)
    for name, secret in SECRETS.items():
        for spelled in (secret.encode(), orjson.dumps(secret)[1:-1]):
            assert spelled not in whole, name
    body = "".join(key.splitlines()[1:-1])
    assert body[:40].encode() not in whole
    assert b"PRIVATE KEY" not in whole
    # And yet it says what is needed.
    assert b"it began" in found["log.txt"]
    assert b"it ended" in found["log.txt"]
    assert found["log.txt"].count(HIDDEN) == len(SECRETS) + 1
    assert orjson.loads(found["status.json"])["state"]["outbox"]["rows"] == 7
    settings = {row["key"]: row["value"] for row in orjson.loads(found["settings.json"])}
    assert settings["edge"] == "e1"
    assert settings["uplink.password"] == HIDDEN.decode()
    assert {one["name"]: one["bytes"] for one in orjson.loads(found["files.json"])}["outbox.db"] == 100
    assert orjson.loads(found["certificates.json"])[0]["name"] == "e1"
    assert orjson.loads(found["machine.json"])["libraries"]["numpy"]


def test_half_a_key_in_a_log_is_hidden_too(config: Path, tmp_path: Path) -> None:
    loaded = load(EdgeSettings, toml=config)
    log = tmp_path / "log"
    log.write_text("before\n" + (loaded.settings.folder / "e1.key").read_text()[:90])
    found = unpacked(bundle(loaded, log, 0))
    assert found["log.txt"] == b"before\n" + HIDDEN


def test_the_commands(config: Path, command: Command, tmp_path: Path) -> None:
    fine = command("edge", "status", "--config", config)
    assert fine.code == 0
    assert "e1 1.2.3: ready" in fine.out
    assert "7 rows wait" in fine.out
    assert "certificate of e1" in fine.out
    out = tmp_path / "bundle.tar.gz"
    assert command("edge", "diag", out, "--config", config).code == 0
    assert out.stat().st_mode & 0o777 == 0o600
    assert "status.json" in unpacked(out.read_bytes())
    assert command("edge", "diag", out, "--log", tmp_path / "none", "--config", config).code == 2
    status = tmp_path / "agent" / "status.json"
    old = orjson.loads(status.read_bytes())
    trouble = {**old, "ready": False, "problems": {"devices": "not connected yet"}, "settings_refused": "no"}
    status.write_bytes(orjson.dumps(trouble))
    found = command("edge", "status", "--config", config)
    assert (found.code, "devices: not connected yet" in found.out) == (1, True)
    status.write_bytes(orjson.dumps({**old, "at_us": old["at_us"] - 60_000_000}))
    assert command("edge", "status", "--config", config).code == 1
    assert not command("edge", "status", "--config", config, "--json").json["alive"]
    status.write_bytes(b"{")
    assert command("edge", "status", "--config", config).code == 3
    status.unlink()
    assert command("edge", "status", "--config", config).code == 3
    assert "problem" in unpacked(bundle(load(EdgeSettings, toml=config), None, 0))["status.json"].decode()
