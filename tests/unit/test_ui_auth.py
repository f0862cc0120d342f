"""Who gets into the control room, by HTTP and by WebSocket."""

import threading
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from cloud.ui.auth import Sessions
from tests.unit.ui_room import KEY, PERSON, RunningRoom, lonely_settings, running_room

ELSEWHERE = "http://evil.example"
OTHER_PORT = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def room() -> Iterator[RunningRoom]:
    with running_room(lonely_settings()) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/", {"Cookie": None}, 401),
        ("/machine/pump-01", {"Cookie": None}, 401),
        ("/_dash-layout", {"Cookie": None}, 401),
        ("/session", {"Cookie": None}, 401),
        ("/", {"Cookie": "im-room=forged"}, 401),
        ("/", {"Origin": ELSEWHERE}, 403),
        ("/", {"Origin": OTHER_PORT}, 403),
        ("/", {"Host": "evil.example"}, 421),
        ("/livez", {"Host": "evil.example"}, 421),
        ("/", {}, 200),
        ("/session", {}, 200),
        ("/livez", {"Cookie": None}, 200),
        ("/startupz", {"Cookie": None}, 200),
        ("/readyz", {"Cookie": None}, 503),
        ("/assets/room.css", {"Cookie": None}, 200),
        ("/login", {"Cookie": None}, 401),
        ("/login?code=x", {"Cookie": None}, 503),
    ],
)
def test_who_is_let_in_by_http(
    room: RunningRoom, path: str, headers: dict[str, str | None], status: int
) -> None:
    wanted = {"Cookie": room.cookie, **headers}
    given = {name: value for name, value in wanted.items() if value is not None}
    answer = httpx.get(room.url + path, headers=given, trust_env=False)
    assert answer.status_code == status
    if status == 401:
        assert "industrialmind login-link" in answer.text
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "unsafe-inline" not in answer.headers["content-security-policy"].split("style-src")[0]


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": None},
        {"Cookie": "im-room=forged"},
        {"Origin": None},
        {"Origin": ELSEWHERE},
        {"Origin": OTHER_PORT},
        {"Host": "evil.example"},
    ],
)
def test_a_websocket_is_refused_before_it_is_accepted(
    room: RunningRoom, headers: dict[str, str | None]
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        room.socket(**headers)
    assert refused.value.response.status_code == 403


def test_a_websocket_of_somebody_signed_in_is_served(room: RunningRoom) -> None:
    with room.socket() as socket:
        socket.send('{"type": "heartbeat"}')
        assert "heartbeat_ack" in str(socket.recv(5))


def test_the_session_says_who_it_is_and_ends_with_sign_out(room: RunningRoom) -> None:
    with room.http() as http:
        assert http.get("/session").json() == {"principal": PERSON.principal, "role": PERSON.role}
        assert http.post("/logout", headers={"Origin": ELSEWHERE}).status_code == 403
        answer = http.post("/logout", headers={"Origin": room.url})
        assert answer.status_code == 303
        assert f'{room.sessions.cookie}=""' in answer.headers["set-cookie"]


def test_the_cookie_is_kept_from_scripts_and_other_sites(room: RunningRoom) -> None:
    from starlette.responses import Response  # noqa: PLC0415 - only this test

    response = Response()
    room.sessions.open(response, PERSON, secure=True)
    said = response.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=lax" in said
    assert "secure" in said
    assert "max-age=43200" in said


def test_sessions_end_and_belong_to_one_key() -> None:
    sessions, others = Sessions(KEY, hours=1), Sessions("another", hours=1)
    assert sessions.cookie != others.cookie
    assert sessions.who("") is None
    assert sessions.who('im="') is None
    value = sessions._signer.dumps({"principal": "a", "role": "b"})
    assert sessions.who(f"{sessions.cookie}={value}") is not None
    assert others.who(f"{others.cookie}={value}") is None
    assert sessions.who(f"{sessions.cookie}={sessions._signer.dumps(['no', 'mapping'])}") is None
    over = Sessions(KEY, hours=-1 / 3600)
    assert over.who(f"{over.cookie}={value}") is None


def test_it_is_not_ready_without_the_data_api_and_says_so(room: RunningRoom) -> None:
    assert threading.active_count() > 1
    with room.http() as http:
        assert http.get("/readyz").status_code == 503
        page = http.get("/").text
    assert "/assets/theme.js" in page
    assert "https://" not in page
