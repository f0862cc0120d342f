"""Health and metrics over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry, Counter

from shared import health as module
from shared.health import Health, serve_health

TOKEN = "t0ken"


def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Counter("im_test_rows_total", "Rows.", registry=made).inc(3)
    return made


async def ask(port: int, raw: bytes, *, half_close: bool = True) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        if half_close:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def get(port: int, path: str, *, host: str = "localhost", token: str = "", method: str = "GET") -> str:
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}\r\n"
    return (await ask(port, head.encode())).decode()


def status(answer: str) -> int:
    return int(answer.split(" ")[1])


@asynccontextmanager
async def serving(health: Health, token: str = TOKEN) -> AsyncIterator[int]:
    async with serve_health(health, registry(), token=token) as port:
        yield port


async def test_probes_follow_the_service() -> None:
    health = Health()
    trouble = "no link"
    health.add_check("uplink", lambda: trouble)
    async with serving(health) as port:
        assert [status(await get(port, p)) for p in ("/livez", "/startupz", "/readyz")] == [200, 503, 503]
        health.started = True
        assert [status(await get(port, p)) for p in ("/startupz", "/readyz")] == [200, 503]
        assert health.problems() == {"uplink": "no link"}
        trouble = ""
        ready = await get(port, "/readyz?verbose")
        assert status(ready) == 200
        assert ready.endswith("\r\n\r\nok\n")


async def test_probes_say_a_status_and_nothing_else() -> None:
    health = Health()
    health.add_check("uplink", lambda: "password of plant-a refused")
    async with serving(health) as port:
        assert "refused" not in await get(port, "/readyz")


async def test_metrics_need_the_token() -> None:
    async with serving(Health()) as port:
        assert status(await get(port, "/metrics")) == 401
        assert status(await get(port, "/metrics", token="wrong")) == 401
        told = await get(port, "/metrics", token=TOKEN)
        assert status(told) == 200
        assert "im_test_rows_total 3.0" in told
        basic = f"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: {TOKEN}\r\n\r\n"
        assert (await ask(port, basic.encode())).startswith(b"HTTP/1.1 401 ")


async def test_without_a_token_metrics_are_closed() -> None:
    async with serving(Health(), token="") as port:
        assert status(await get(port, "/metrics")) == 401
        bearer = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \r\n\r\n"
        assert (await ask(port, bearer.encode())).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1:9", "[::1]", "[::1]:80"])
async def test_loopback_names_are_known(host: str) -> None:
    async with serving(Health()) as port:
        assert status(await get(port, "/livez", host=host)) == 200


@pytest.mark.parametrize("host", ["", "evil.example", "localhost.evil.example:80", "127.0.0.1:x"])
async def test_other_hosts_are_turned_away(host: str) -> None:
    async with serving(Health()) as port:
        assert status(await get(port, "/metrics", host=host, token=TOKEN)) == 421


async def test_methods_and_paths() -> None:
    async with serving(Health()) as port:
        assert status(await get(port, "/livez", method="POST")) == 405
        assert status(await get(port, "/other")) == 404
        head = await get(port, "/livez", method="HEAD")
        assert status(head) == 200
        assert head.endswith("\r\n\r\n"), "an answer to HEAD has no body"
        assert "Content-Length: 3" in head


@pytest.mark.parametrize(
    "raw", [b"\r\n\r\n", b"\x00\xff\xfe\r\n\r\n", b"GET /livez\r\n\r\n", b": \r\n: x\r\n\r\n"]
)
async def test_garbage_gets_an_error_and_the_server_goes_on(raw: bytes) -> None:
    async with serving(Health()) as port:
        assert (await ask(port, raw)).startswith(b"HTTP/1.1 405 ")
        assert status(await get(port, "/livez")) == 200


@pytest.mark.parametrize("raw", [b"", b"GET /livez HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000])
async def test_half_or_too_large_requests_are_closed_unanswered(raw: bytes) -> None:
    async with serving(Health()) as port:
        assert await ask(port, raw) == b""
        assert status(await get(port, "/livez")) == 200


async def test_a_client_that_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_READ_SECONDS", 0.01)
    async with serving(Health()) as port:
        assert await ask(port, b"GET", half_close=False) == b""


async def test_the_bound_address_is_a_known_host() -> None:
    async with serve_health(Health(), registry(), host="127.0.0.2", token=TOKEN) as port:
        reader, writer = await asyncio.open_connection("127.0.0.2", port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.2\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
