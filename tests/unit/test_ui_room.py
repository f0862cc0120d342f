"""The control room over the real data API: signing in, pages, what a browser is told and when."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from cloud.ui.auth import Principal
from cloud.ui.settings import UiSettings
from industrialmind.client import Client
from shared.clock import SystemClock
from shared.names import MACHINE_EVENTS
from tests.unit.front_door import (
    RunningPlant,
    anomaly_ended,
    anomaly_started,
    event,
    reported,
    running_plant,
    store_entries,
)
from tests.unit.ui_room import RunningRoom, running_room


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlant]:
    with running_plant(tmp_path_factory.mktemp("plant") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def room(plant: RunningPlant) -> Iterator[RunningRoom]:
    plant.processes.control_room()
    with running_room(UiSettings.load(toml=plant.data.config("ui")), administrator(plant)) as running:
        yield running


def administrator(plant: RunningPlant) -> Principal:
    """The first administrator, signed in by a link."""
    with Client(plant.api, plant.data.token("cli")) as cli:
        code = cli.post("/v1/login-links", {})["code"]
        made = cli.post("/v1/sessions", {"code": code})
    return Principal(made["principal"], made["role"], made["session"])


@pytest.fixture(autouse=True)
def fresh(plant: RunningPlant) -> None:
    """What was told long ago is stale."""
    tell(plant, score=3.0)


def tell(plant: RunningPlant, **part: Any) -> None:  # noqa: ANN401 - a report's fields
    """The pump is anomalous, now."""
    now = SystemClock().now_us()
    last = {"flow": {"value": 31.5, "unit": "l/min", "ts": now}}
    pump = reported("anomalous", arrival_us=now, last=last, **part)
    plant.tell("edge-pump-1", {"machines": {"pump-1": pump}, "listening": True})


def outputs(http: httpx.Client) -> dict[str, str]:
    """Dash's name for each callback, by what starts it and what it reads."""
    found = http.get("/_dash-dependencies").json()
    return {
        " ".join(f"{part['id']}.{part['property']}" for part in (*each["inputs"], *each["state"])): each[
            "output"
        ]
        for each in found
    }


def page(http: httpx.Client, room: RunningRoom, path: str) -> str:
    """The content of a page, as JSON text."""
    body = {
        "output": "..page.children...shown.data..",
        "outputs": [{"id": "page", "property": "children"}, {"id": "shown", "property": "data"}],
        "inputs": [
            {"id": "url", "property": "href", "value": room.url + path},
            {"id": "again", "property": "data", "value": 0},
        ],
        "changedPropIds": ["url.href"],
    }
    answer = http.post("/_dash-update-component", json=body, headers={"Origin": room.url})
    assert answer.status_code == 200
    found = answer.json()["response"]
    assert found["shown"]["data"] == room.url + path
    return orjson.dumps(found["page"]["children"]).decode()


def eventually(http: httpx.Client, room: RunningRoom, path: str, text: str) -> str:
    """The page once it says `text`."""
    for _ in range(300):
        if text in (found := page(http, room, path)):
            return found
    raise AssertionError(f"{path} never said {text!r}: {found[:2000]}")


def follow(socket: ClientConnection, output: str, url: str | None, tab: str = "t1") -> None:
    """Start what Dash starts when a page is open."""
    state = [
        {"id": "tab", "property": "data", "value": tab},
        {"id": "shown", "property": "data", "value": url},
    ]
    payload = {"output": output, "inputs": [], "state": state, "changedPropIds": []}
    message = {"type": "callback_request", "rendererId": "r", "requestId": "1", "payload": payload}
    socket.send(orjson.dumps(message).decode())


class Told:
    """What a browser was told last of each property."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last: dict[tuple[str, str], str] = {}

    def until(self, component: str, prop: str, text: str) -> None:
        """Listen until a property contains `text`."""
        for _ in range(60):
            if text in self._last.get((component, prop), ""):
                return
            self.listen()
        raise AssertionError(f"{component}.{prop} never said {text!r}: {self._last.get((component, prop))}")

    def listen(self) -> set[str]:
        """Take one message: the components that it is about."""
        message = orjson.loads(self._socket.recv(10))
        payloads = [each["payload"] for each in (message if isinstance(message, list) else [message])]
        for payload in payloads:
            for prop, value in payload["props"].items():
                self._last[payload["componentId"], prop] = orjson.dumps(value).decode()
        return {payload["componentId"] for payload in payloads}


def test_a_link_signs_in_once(plant: RunningPlant, room: RunningRoom) -> None:
    with Client(plant.api, plant.data.token("cli")) as cli:
        code = cli.post("/v1/login-links", {})["code"]
    with room.http(signed_in=False) as http:
        answer = http.get(f"/login?code={code}")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/"
        assert http.get("/session").json()["role"] == "admin"
    again = httpx.get(f"{room.url}/login?code={code}", trust_env=False)
    assert again.status_code == 410
    assert "used up" in again.text


EVE, PASSWORD = "eve", "correct horse battery"


@pytest.fixture
def eve(plant: RunningPlant) -> Iterator[Client]:
    """The administrator's client, and a user who may look."""
    with Client(plant.api, plant.data.token("cli")) as cli:
        names = {user["name"] for user in cli.get("/v1/users")["users"]}
        if EVE not in names:
            cli.post("/v1/users", {"name": EVE, "role": "viewer", "password": PASSWORD})
        yield cli
        patch(plant, f"/v1/users/{EVE}", active=True, role="viewer")


def patch(plant: RunningPlant, path: str, **body: object) -> None:
    headers = {"Authorization": f"Bearer {plant.data.token('cli')}"}
    httpx.patch(plant.api + path, json=body, headers=headers, trust_env=False).raise_for_status()


def enter(room: RunningRoom, http: httpx.Client, password: str = PASSWORD, **more: str) -> httpx.Response:
    """Fill the form in and send it."""
    fields = {"name": EVE, "password": password, **more}
    return http.post("/login", data=fields, headers={"Origin": room.url})


def test_a_name_and_its_password_sign_in_and_lead_on(room: RunningRoom, eve: Client) -> None:
    with room.http(signed_in=False) as http:
        outside = http.get("/machine/pump-1?range=6h")
        assert outside.status_code == 401
        assert 'value="/machine/pump-1?range=6h"' in outside.text
        wrong = enter(room, http, "no", next="/machine/pump-1?range=6h")
        assert wrong.status_code == 401
        assert "The name or the password is wrong." in wrong.text
        assert 'value="eve"' in wrong.text
        assert "set-cookie" not in wrong.headers
        done = enter(room, http, next="/machine/pump-1?range=6h")
        assert (done.status_code, done.headers["location"]) == (303, "/machine/pump-1?range=6h")
        assert http.get("/session").json() == {"principal": "eve", "role": "viewer"}
        assert enter(room, http, next="https://evil.example/").headers["location"] == "/"
        assert enter(room, http, next="//evil.example/").headers["location"] == "/"
    assert eve.get("/v1/me")["name"] == "cli"


def test_the_page_is_read_with_the_session_of_who_looks(room: RunningRoom, eve: Client) -> None:
    with room.http(signed_in=False) as http:
        enter(room, http)
        eventually(http, room, "/machine/pump-1", "chart")
    tokens = eve.get("/v1/users")["users"]
    assert EVE in {user["name"] for user in tokens}


@pytest.mark.usefixtures("eve")
def test_signing_out_ends_the_session_at_the_data_api(plant: RunningPlant, room: RunningRoom) -> None:
    with room.http(signed_in=False) as http:
        enter(room, http)
        cookie = http.cookies[room.sessions.cookie]
        person = room.sessions.who(f"{room.sessions.cookie}={cookie}")
        assert person is not None
        assert asked(plant, person.session) == 200
        assert http.post("/logout", headers={"Origin": room.url}).status_code == 303
        assert asked(plant, person.session) == 401
        http.cookies.set(room.sessions.cookie, cookie, domain="127.0.0.1")
        assert http.get("/").status_code == 401  # a copied cookie is worth nothing any more


def asked(plant: RunningPlant, session: str) -> int:
    headers = {"Authorization": f"Bearer {session}"}
    return httpx.get(f"{plant.api}/v1/me", headers=headers, trust_env=False).status_code


@pytest.mark.usefixtures("eve")
def test_a_deactivated_user_is_out_within_seconds_sockets_too(plant: RunningPlant, room: RunningRoom) -> None:
    with room.http(signed_in=False) as http:
        enter(room, http)
        cookie = f"{room.sessions.cookie}={http.cookies[room.sessions.cookie]}"
        with room.socket(Cookie=cookie) as socket:
            patch(plant, f"/v1/users/{EVE}", active=False)
            with pytest.raises(ConnectionClosed) as closed:
                drain(socket)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4003
        assert http.get("/").status_code == 401


def drain(socket: ClientConnection) -> None:
    """Take messages until there are none any more."""
    while True:
        socket.recv(10)


@pytest.mark.usefixtures("eve")
def test_another_role_is_shown_within_seconds(plant: RunningPlant, room: RunningRoom) -> None:
    with room.http(signed_in=False) as http:
        enter(room, http)
        assert http.get("/session").json()["role"] == "viewer"
        patch(plant, f"/v1/users/{EVE}", role="operator")
        end = time.monotonic() + 10
        while http.get("/session").json()["role"] != "operator":
            assert time.monotonic() < end, "the old role is still shown"


@pytest.mark.usefixtures("eve")
def test_guessing_is_slow_and_said(room: RunningRoom) -> None:
    with room.http(signed_in=False) as http:
        for _ in range(11):
            last = http.post(
                "/login", data={"name": "guessed", "password": "x"}, headers={"Origin": room.url}
            )
        assert last.status_code == 429
        assert "Wait a minute" in last.text


def test_the_fleet_page_shows_the_worst_machine_first(room: RunningRoom) -> None:
    with room.http() as http:
        found = eventually(http, room, "/", "Anomalous")
        assert found.index("box-pump-1") < found.index("box-fan-1")
        assert "100% of the deviation" in found
        table = page(http, room, "/?view=table&state=anomalous")
        assert "fleet-table" in table
        assert "fan-1" not in table
        assert "No machine is in this state" in page(http, room, "/?state=learning")


def test_the_machine_page_shows_score_model_and_sensors(room: RunningRoom) -> None:
    with room.http() as http:
        eventually(http, room, "/", "Anomalous")
        eventually(http, room, "/machine/pump-1", "The inference API has been away since")
        found = eventually(http, room, "/machine/pump-1?sensor=flow&range=15m", "sensor-flow")
        assert "pump-1/window-pca" in found
        assert '"aria-pressed":"true"' in found
        assert "There is no such page" in page(http, room, "/machine/none")
        assert "There is no such page" in page(http, room, "/nowhere/at/all")


def test_a_browser_is_told_what_changes(plant: RunningPlant, room: RunningRoom) -> None:
    with room.http() as http:
        eventually(http, room, "/", "Anomalous")
        stream = outputs(http)["tab.data shown.data"]
    with room.socket() as socket:
        follow(socket, stream, f"{room.url}/")
        told = Told(socket)
        told.until("connection", "children", "live")
        told.until("fleet-list", "children", "3.000")
        told.until("beat", "data", '"via":"socket"')
        tell(plant, score=4.25)
        told.until("tile-pump-1", "children", "4.250")


def test_an_anomaly_counts_though_it_is_told_before_it_is_stored(
    plant: RunningPlant, room: RunningRoom
) -> None:
    onset = datetime.now(UTC)
    with room.http() as http:
        stream = outputs(http)["tab.data shown.data"]
    with room.socket() as socket:
        follow(socket, stream, f"{room.url}/", tab="t3")
        told = Told(socket)
        told.until("connection", "children", "live")
        told.until("anomaly-count", "children", "anomalies: 0")
        for happened, count in ((anomaly_started(onset=onset), 1), (anomaly_ended(onset=onset), 0)):
            [offset] = plant.append(MACHINE_EVENTS, "pump-1", happened.to_json()).values()
            for _ in range(4):  # a message a second at the latest: the room has heard, and asked, by then
                told.listen()
            asyncio.run(store_entries(plant.data, [event(offset, happened)]))
            told.until("anomaly-count", "children", f"anomalies: {count}")


def test_a_browser_is_told_only_once_of_what_stays(room: RunningRoom) -> None:
    with room.http() as http:
        stream = outputs(http)["tab.data shown.data"]
    with room.socket() as socket:
        follow(socket, stream, f"{room.url}/machine/pump-1?sensor=flow", tab="t2")
        told = Told(socket)
        told.until("machine-model", "children", "window-pca")
        news = set().union(*(told.listen() for _ in range(4)))
        assert "machine-model" not in news
        assert "beat" in news


def test_a_socket_that_does_not_know_the_page_tells_of_the_one_that_was_shown(room: RunningRoom) -> None:
    with room.http() as http:
        stream = outputs(http)["tab.data shown.data"]
    with room.socket() as socket:
        follow(socket, stream, f"{room.url}/", tab="t4")
        Told(socket).until("fleet-list", "children", "pump-1")
    for _ in range(100):  # until the room knows that the first one is gone
        with room.socket() as socket:
            follow(socket, stream, None, tab="t4")
            told = Told(socket)
            try:
                told.until("fleet-list", "children", "pump-1")
            except TimeoutError:
                continue
            return
    raise AssertionError("the page is forgotten")


def test_without_websockets_a_browser_polls(room: RunningRoom) -> None:
    with room.http() as http:
        output = outputs(http)["poll.n_intervals tab.data shown.data"]
        body = {
            "output": output,
            "inputs": [{"id": "poll", "property": "n_intervals", "value": 1}],
            "state": [
                {"id": "tab", "property": "data", "value": "t3"},
                {"id": "shown", "property": "data", "value": f"{room.url}/"},
            ],
            "changedPropIds": ["poll.n_intervals"],
        }
        first = http.post("/_dash-update-component", json=body, headers={"Origin": room.url}).json()
        assert first["sideUpdate"]["beat"]["data"]["via"] == "poll"
        assert "fleet-strip" in first["sideUpdate"]
        second = http.post("/_dash-update-component", json=body, headers={"Origin": room.url}).json()
        assert "site" not in second["sideUpdate"]


def test_it_is_ready_while_it_hears_the_data_api(room: RunningRoom) -> None:
    with room.http(signed_in=False) as http:
        assert http.get("/readyz").status_code == 200
