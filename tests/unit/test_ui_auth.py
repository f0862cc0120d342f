"""Who gets into the control room, by HTTP and by WebSocket."""

import threading
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from cloud.ui.auth import BELIEVED_SECONDS, MAX_BELIEVED, Doorkeeper, Principal, Sessions
from cloud.ui.way_in import _inside
from shared.clock import ManualClock
from shared.errors import Unavailable
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
        ("/login", {"Cookie": None}, 200),
        ("/login/provider", {"Cookie": None}, 401),
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
        assert http.post("/logout").status_code == 403  # a form of ours says where it is from
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


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 422),
        (b"name=eve", 422),
        (b"name=eve&password=", 422),
        (b"name=%20&password=x", 422),
        (b"\xff\xfe=\x00&&&===", 422),
        (b"&".join(b"a=1" for _ in range(50)), 422),
        (b"name=eve&password=" + b"x" * 10_000, 422),
        (b"name=%3Cscript%3E&password=x", 503),
    ],
)
def test_what_is_no_form_is_said_so_and_nothing_breaks(
    room: RunningRoom, content: bytes, status: int
) -> None:
    with room.http(signed_in=False) as http:
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Origin": room.url}
        answer = http.post("/login", content=content, headers=kind)
    assert answer.status_code == status
    assert '<label for="password">' in answer.text
    assert "<script>" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_a_form_from_elsewhere_signs_nobody_in(room: RunningRoom) -> None:
    with room.http(signed_in=False) as http:
        for headers in ({}, {"Origin": ELSEWHERE}, {"Origin": OTHER_PORT}, {"Origin": "null"}):
            answer = http.post("/login", data={"name": "a", "password": "b"}, headers=headers)
            assert answer.status_code == 403


@pytest.mark.parametrize(
    ("wanted", "next_"),
    [
        ("/machine/pump-1?range=6h", "/machine/pump-1?range=6h"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/login?code=x", "/"),
        ("/logout", "/"),
        ("/\n/evil", "/"),
        ("", "/"),
    ],
)
def test_one_goes_on_only_inside(wanted: str, next_: str) -> None:
    assert _inside(wanted) == next_


class Api:
    """What the data API says of sessions."""

    def __init__(self) -> None:
        self.answer: dict[str, object] | None = {"name": "eve", "role": "viewer"}
        self.away = False
        self.asked = 0

    async def me(self, _: str) -> dict[str, object] | None:
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        return self.answer


async def test_the_data_api_says_who_it_is_and_is_believed_for_two_seconds() -> None:
    api, clock = Api(), ManualClock()
    door, signed = Doorkeeper(api.me, clock), Principal("admin", "admin", "ims_x")
    assert await door.now(signed) == Principal("eve", "viewer", "ims_x")
    api.answer = None
    assert await door.now(signed) == Principal("eve", "viewer", "ims_x")
    await clock.advance(BELIEVED_SECONDS)
    assert await door.now(signed) is None
    assert api.asked == 2
    assert await door.now(Principal("admin", "admin")) is None  # a cookie of the release before


async def test_while_the_data_api_is_away_the_cookie_counts_but_not_for_who_was_out() -> None:
    api, clock = Api(), ManualClock()
    door, signed = Doorkeeper(api.me, clock), Principal("admin", "admin", "ims_x")
    api.away = True
    assert await door.now(signed) == signed
    api.away = False
    assert (await door.now(signed)) == Principal("eve", "viewer", "ims_x")
    api.answer = None
    await clock.advance(BELIEVED_SECONDS)
    assert await door.now(signed) is None
    api.away = True
    await clock.advance(BELIEVED_SECONDS)
    assert await door.now(signed) is None


async def test_what_is_believed_is_bounded() -> None:
    api, clock = Api(), ManualClock()
    door = Doorkeeper(api.me, clock)
    for number in range(MAX_BELIEVED + 5):
        await door.now(Principal("a", "a", f"ims_{number}"))
    assert len(door._believed) == MAX_BELIEVED


def test_it_is_not_ready_without_the_data_api_and_says_so(room: RunningRoom) -> None:
    assert threading.active_count() > 1
    with room.http() as http:
        assert http.get("/readyz").status_code == 503
        page = http.get("/").text
    assert "/assets/theme.js" in page
    assert "https://" not in page
