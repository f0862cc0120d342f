"""The cloud process over a real server, and the commands that ask it."""

import asyncio
import io
import re
import socket
from collections.abc import Iterator

import httpx
import pytest

from cloud.api.settings import ApiSettings
from industrialmind.client import Client
from industrialmind.cloud import CloudSettings, run_cloud
from shared.access import RIGHTS, Right, Role
from shared.clock import SystemClock
from shared.errors import Misconfigured, Rejected, Unavailable
from shared.supervise import free_ports
from shared.uvicorn import listen
from tests.unit.front_door import Command, RunningPlant, commanding, reported, running_plant


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlant]:
    with running_plant(tmp_path_factory.mktemp("plant") / "data") as running:
        yield running


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


def tell(plant: RunningPlant) -> None:
    """The pump is anomalous; the fan has been silent for a minute."""
    now_us = SystemClock().now_us()
    pump = reported("anomalous", arrival_us=now_us, score=3.0)
    fan = reported("normal", arrival_us=now_us - 60_000_000)
    plant.tell("edge-pump-1", {"machines": {"pump-1": pump}, "listening": True})
    plant.tell("edge-fan-1", {"machines": {"fan-1": fan}, "listening": True})


def test_status_shows_what_the_edges_report(command: Command, plant: RunningPlant) -> None:
    tell(plant)
    shown = command("status", "--data", plant.data.root)
    for _ in range(200):
        if "ANOMALOUS" in shown.out and "stale" in shown.out:
            break
        shown = command("status", "--data", plant.data.root)
    assert shown.code == 0
    assert shown.out.index("▲ ANOMALOUS") < shown.out.index("▧ stale")
    assert "flow 100%: 1 l/min, expected 2" in shown.out
    told = command("status", "--data", plant.data.root, "--json").json
    assert {m["machine"]: m["state"] for m in told["machines"]} == {"pump-1": "anomalous", "fan-1": "stale"}
    assert told["anomalies"] == []


def test_doctor_asks_the_plant_for_its_machines(command: Command, plant: RunningPlant) -> None:
    tell(plant)
    outcome = command("doctor", "--data", plant.data.root, "--json")
    for _ in range(200):
        checks = {check["name"]: check for check in outcome.json}
        if checks["machine pump-1"]["ok"] and checks["machine fan-1"]["found"] == "stale":
            break
        outcome = command("doctor", "--data", plant.data.root, "--json")
    assert outcome.code == 1
    assert checks["data API"]["ok"]
    assert checks["machine pump-1"]["found"] == "anomalous"
    assert not checks["machine fan-1"]["ok"]
    assert "edge-fan-1.log" in checks["machine fan-1"]["fix"]
    assert "port" not in " ".join(checks)  # the plant's own ports are rightly taken


def test_models_are_listed_none_at_first(command: Command, plant: RunningPlant) -> None:
    assert command("models", "list", "--data", plant.data.root, "--json").json == []
    assert "wanted on" in command("models", "list", "--data", plant.data.root).out


def test_each_login_link_is_another_one(command: Command, plant: RunningPlant) -> None:
    links = {command("login-link", "--data", plant.data.root).out.strip() for _ in range(2)}
    links.add(command("login-link", "--data", plant.data.root, "--json").json["login_link"])
    assert len(links) == 3
    assert all(link.startswith(f"{plant.room}/login?code=") for link in links)
    with Client(plant.api, plant.data.token("ui")) as room:
        code = links.pop().partition("code=")[2]
        assert room.post("/v1/sessions", {"code": code})["role"] == "admin"
        with pytest.raises(Rejected, match="login-link"):
            room.post("/v1/sessions", {"code": code})


def typed(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{line}\n"))


def test_people_are_seen_to_by_commands(
    command: Command, plant: RunningPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ("--data", plant.data.root)
    typed(monkeypatch, "correct horse battery")
    made = command("users", "add", "eve", "engineer", "--display-name", "Eve E.", "--password", *here)
    assert made.out == "user eve made, engineer\n"
    assert command("users", "add", "eve", "viewer", *here).code == 2
    assert command("users", "role", "eve", "operator", *here).code == 0
    typed(monkeypatch, "short")
    assert "12 characters" in command("users", "password", "eve", *here).err
    typed(monkeypatch, "another long password")
    assert command("users", "password", "eve", *here).code == 0
    assert command("users", "role", "nobody", "viewer", *here).code == 1
    shown = command("users", "list", *here).out
    assert "eve" in shown
    assert "Eve E." in shown
    secret = command("tokens", "add", "eve", "--scope", "read", "--label", "report", *here).out.strip()
    with Client(plant.api, secret) as program:
        assert program.get("/v1/me")["name"] == "eve"
        (token,) = command("tokens", "list", "--owner", "eve", "--json", *here).json
        assert command("tokens", "revoke", token["id"], *here).code == 0
        with pytest.raises(Rejected, match="401"):
            program.get("/v1/me")
    assert "label" in command("tokens", "list", *here).out
    assert command("users", "deactivate", "eve", "--json", *here).json["active"] is False
    assert command("users", "activate", "eve", "--json", *here).json["active"] is True


def test_without_a_plant_models_are_unavailable(command: Command, plant: RunningPlant) -> None:
    outcome = command("models", "list", "--data", plant.data.root / "none")
    assert outcome.code == 3
    assert "no plant is running" in outcome.err


def test_probes_metrics_and_ledger_over_http(plant: RunningPlant) -> None:
    with httpx.Client(base_url=plant.api, trust_env=False) as http:
        assert [http.get(path).status_code for path in ("/livez", "/readyz", "/startupz")] == [200] * 3
        assert http.get("/v1/machines").status_code == 401
        http.headers["Authorization"] = f"Bearer {plant.data.token('cli')}"
        assert "im_ledger_rows" in http.get("/metrics").text
        report = http.get("/v1/ledger").json()
        assert report["sources"][0]["stored"] == 4800
        assert "server" not in http.get("/v1/models").headers


def test_every_endpoint_as_wired_says_what_it_needs(plant: RunningPlant) -> None:
    with Client(plant.api, plant.data.token("cli")) as cli:
        document = cli.get("/openapi.json")
    bare = {
        f"{method} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if not operation.keys() & {"x-right", "x-services"}
    }
    assert bare == {"get /v1/keys"}


def test_no_role_exceeds_its_rights_at_any_endpoint_as_wired(plant: RunningPlant) -> None:
    password = "correct horse battery"
    with Client(plant.api, plant.data.token("cli")) as cli:
        document, sessions = cli.get("/openapi.json"), {}
        for role in Role:
            name = f"walks-{role}"
            cli.post("/v1/users", {"name": name, "role": role, "password": password})
            sessions[role] = cli.post("/v1/sessions", {"name": name, "password": password})["session"]
    found = [
        (method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if path not in {"/v1/stream", "/v1/keys", "/v1/sessions/current"}
    ]
    assert len(found) > 50
    exceeded, missed = [], []
    for role, session in sessions.items():
        headers = {"Authorization": f"Bearer {session}"}
        with httpx.Client(base_url=plant.api, headers=headers, timeout=30, trust_env=False) as http:
            for method, path, operation in found:
                filled = re.sub(r"\{[^}]*\}", "0-1", path)
                status = http.request(method, filled).status_code
                assert status not in {401, 500}, (method, path, role)
                may = "x-services" not in operation and Right(operation["x-right"]) in RIGHTS[role]
                if status == 403 and may:
                    missed.append((method, path, role))
                if status != 403 and not may:
                    exceeded.append((method, path, role, status))
    assert (exceeded, missed) == ([], [])


def test_a_taken_port_is_said_with_what_to_do(command: Command, plant: RunningPlant) -> None:
    outcome = command("cloud", "run", "api", "--config", plant.data.config("cloud"))
    assert outcome.code == 2
    assert f"port {plant.ports.api}" in outcome.err
    assert "api.port" in outcome.err


async def test_without_a_store_it_is_unavailable(plant: RunningPlant) -> None:
    settings = CloudSettings.load_all(plant.data.config("cloud"))
    elsewhere = settings.api.model_copy(update={"telemetry_url": f"sqlite:///{plant.data.root}/none.db"})
    with pytest.raises(Unavailable):
        await run_cloud(CloudSettings(elsewhere, settings.ledger, settings.assets), asyncio.Event())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_listener_is_bound_before_anything_is_served(host: str) -> None:
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    [port] = free_ports(1)
    try:
        with listen(host, port, section="api", what="the data API") as listener:
            assert listener.getsockname()[1] == port
    except Misconfigured:
        assert host == "::1"  # a machine whose loopback has no IPv6 says so
    with pytest.raises(Misconfigured, match="can't listen on 192"):
        listen("192.0.2.1", port, section="api", what="the data API")


def test_the_port_is_a_setting_of_the_api() -> None:
    assert ApiSettings.model_fields["port"].default == 8000
