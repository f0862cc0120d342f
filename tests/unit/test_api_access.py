import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Message
from starlette.websockets import WebSocket

from cloud.api.access import CLI, UI, fixed_tokens
from shared.access import Principal, Right, Role
from shared.asgi_access import Access, host_name, needs, principal
from shared.errors import Unavailable


async def hello(_: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def client() -> httpx.AsyncClient:
    inner = Starlette(routes=[Route("/v1/machines", hello), Route("/livez", hello)])
    app = Access(
        inner,
        verify=fixed_tokens({CLI: "secret", UI: "other", Principal.of("nobody", Role.VIEWER): ""}),
        allowed_hosts=("localhost", "127.0.0.1", "[::1]"),
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8000")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/machines", {"Authorization": "Bearer secret"}, 200),
        ("/v1/machines", {"Authorization": "bearer secret"}, 200),
        ("/v1/machines", {"Authorization": "Bearer secret", "Host": "[::1]:8000"}, 200),
        ("/v1/machines", {"Authorization": "Bearer secret", "Origin": "http://localhost:8050"}, 200),
        ("/v1/machines", {"Authorization": "Bearer other"}, 200),
        ("/v1/machines", {"Authorization": "Bearer "}, 401),
        ("/v1/machines", {}, 401),
        ("/v1/machines", {"Authorization": "Bearer no"}, 401),
        ("/v1/machines", {"Authorization": "Basic secret"}, 401),
        ("/v1/machines", {"Authorization": "Bearer secret", "Origin": "http://evil.example"}, 403),
        ("/v1/machines", {"Authorization": "Bearer secret", "Origin": "null"}, 403),
        ("/v1/machines", {"Authorization": "Bearer secret", "Host": "evil.example"}, 421),
        ("/livez", {}, 200),
        ("/livez", {"Host": "evil.example"}, 421),
        ("/v1/livez", {}, 401),
    ],
)
async def test_every_request_is_checked(path: str, headers: dict[str, str], status: int) -> None:
    async with client() as http:
        assert (await http.get(path, headers=headers)).status_code == status


async def test_a_refusal_is_a_problem_document() -> None:
    async with client() as http:
        response = await http.get("/v1/machines")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["status"] == 401


def test_host_names() -> None:
    assert host_name("LocalHost:80") == "localhost"
    assert host_name("[::1]:80") == "[::1]"
    assert host_name("[::1]") == "[::1]"


async def test_it_is_known_who_asks_and_nothing_may_be_cached() -> None:
    async def who(request: Request) -> PlainTextResponse:
        return PlainTextResponse(principal(request).name)

    tokens = {CLI: "secret", UI: "other"}
    app = Access(
        Starlette(routes=[Route("/", who)]), verify=fixed_tokens(tokens), allowed_hosts=("localhost",)
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        for asking, token in tokens.items():
            answer = await http.get("/", headers={"Authorization": f"Bearer {token}"})
            assert (answer.text, answer.headers["cache-control"]) == (asking.name, "no-store")
        assert (await http.get("/")).headers["cache-control"] == "no-store"


async def test_a_websocket_is_closed_unaccepted_where_the_server_can_not_say_why() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is read of a refused request")

    app = Access(Starlette(), verify=fixed_tokens({CLI: "secret"}), allowed_hosts=("localhost",))
    headers = [(b"host", b"localhost")]
    await app({"type": "websocket", "path": "/v1/live", "headers": headers}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_a_role_has_the_rights_of_those_before_it_and_scopes_only_take_away() -> None:
    assert Principal.of("eve", Role.OPERATOR).rights == {Right.READ, Right.OPERATE}
    assert Principal.of("eve", Role.ADMIN).rights == set(Right)
    assert Principal.of("eve", Role.VIEWER, {Right.READ, Right.ADMINISTER}).rights == {Right.READ}
    assert not Principal.of("eve", Role.ADMIN, {Right.READ}).may(Right.ENGINEER)


async def test_what_needs_a_right_is_refused_without_it() -> None:
    async def guarded(request: Request) -> PlainTextResponse:
        return PlainTextResponse(needs(Right.ENGINEER).allowed(request).name)

    app = Access(
        Starlette(routes=[Route("/", guarded)]),
        verify=fixed_tokens({CLI: "secret", UI: "other"}),
        allowed_hosts=("localhost",),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        assert (await http.get("/", headers={"Authorization": "Bearer secret"})).text == "cli"
        refused = await http.get("/", headers={"Authorization": "Bearer other"})
        assert refused.status_code == 403
        assert "the right to engineer" in refused.text


class Doors:
    """A `Verify` in a test's hands."""

    def __init__(self) -> None:
        self.good: Principal | None = CLI
        self.away = False
        self.asked = 0

    async def verify(self, _: str) -> Principal | None:
        self.asked += 1
        if self.away:
            raise Unavailable("no database", retry_after=2.5)
        return self.good


def guarded(doors: Doors, routes: list[BaseRoute], **more: Any) -> httpx.AsyncClient:  # noqa: ANN401 - of Access
    app = Access(Starlette(routes=routes), verify=doors.verify, allowed_hosts=("localhost",), **more)
    headers = {"Authorization": "Bearer x"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", headers=headers)


async def test_while_nobody_can_say_whose_token_it_is_the_answer_is_wait() -> None:
    doors = Doors()
    doors.away = True
    async with guarded(doors, [Route("/", hello)]) as http:
        answer = await http.get("/")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
        assert (await http.get("/", headers={"Authorization": "Bearer "})).status_code == 401


async def test_who_asks_too_often_waits_and_open_paths_need_no_token() -> None:
    doors, waits = Doors(), {"cli": 0.0}
    async with guarded(
        doors,
        [Route("/", hello), Route("/keys", hello)],
        open_paths=("/keys",),
        wait=lambda who: waits[who.name],
    ) as http:
        assert (await http.get("/")).status_code == 200
        waits["cli"] = 12.3
        answer = await http.get("/")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "13")
        assert answer.json()["title"] == "too many requests"
        doors.good = None
        assert (await http.get("/")).status_code == 401
        assert (await http.get("/keys")).text == "hello"
        assert (await http.post("/keys")).status_code == 401


async def test_a_stream_ends_soon_after_its_token_is_good_no_more() -> None:
    doors, ended = Doors(), asyncio.Event()

    async def endless(_: Request) -> StreamingResponse:
        async def lines() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"."
                    await asyncio.sleep(0.01)
            finally:
                ended.set()

        return StreamingResponse(lines())

    async def revoke() -> None:
        while doors.asked < 3:
            await asyncio.sleep(0)
        doors.away = True
        while doors.asked < 5:
            await asyncio.sleep(0)
        assert not ended.is_set()  # nobody is thrown out because nobody can be asked
        doors.away, doors.good = False, None

    sent = list[Message]()

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    inner = Starlette(routes=[Route("/", endless)])
    app = Access(inner, verify=doors.verify, allowed_hosts=("localhost",), recheck_seconds=0.01)
    headers = [(b"host", b"localhost"), (b"authorization", b"Bearer x")]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""}
    async with asyncio.timeout(10):
        await asyncio.gather(app(scope, receive, send), revoke())
        await ended.wait()
    assert sent[0]["status"] == 200
    assert sent[-1]["more_body"]  # cut off, not ended


async def test_an_answer_that_had_not_begun_is_a_refusal() -> None:
    doors = Doors()

    async def slow(_: Request) -> PlainTextResponse:
        doors.good = None
        await asyncio.Event().wait()
        raise AssertionError

    async with guarded(doors, [Route("/", slow)], recheck_seconds=0.01) as http:
        assert (await http.get("/")).status_code == 401


async def test_a_websocket_is_closed_when_its_token_is_good_no_more() -> None:
    doors, sent = Doors(), list[Message]()

    async def endless(socket: WebSocket) -> None:
        await socket.accept()
        doors.good = None
        await asyncio.Event().wait()

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    inner = Starlette(routes=[WebSocketRoute("/v1/live", endless)])
    app = Access(inner, verify=doors.verify, allowed_hosts=("localhost",), recheck_seconds=0.01)
    headers = [(b"host", b"localhost"), (b"authorization", b"Bearer x")]
    scope = {
        "type": "websocket",
        "path": "/v1/live",
        "headers": headers,
        "query_string": b"",
        "subprotocols": [],
    }
    async with asyncio.timeout(10):
        await app(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert sent[-1]["code"] == 1008


async def test_somebody_elses_cancellation_goes_through() -> None:
    doors, begun = Doors(), asyncio.Event()

    async def endless(_: Request) -> PlainTextResponse:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with guarded(doors, [Route("/", endless)]) as http:
        asking = asyncio.create_task(http.get("/"))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
