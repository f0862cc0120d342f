"""What every request has, and answers that the client has already: a small application over both middlewares."""

import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest
import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from shared.asgi_conditional import GZIP_FROM, Conditional
from shared.asgi_requests import MAX_TARGET, HttpMetrics, Requests
from shared.errors import Unavailable
from shared.problems import REQUEST_ID, add_errors

REGISTRY = CollectorRegistry()
METRICS = HttpMetrics(REGISTRY)
MAX_BODY = 1000


def small_app() -> FastAPI:
    app = FastAPI()
    app.add_middleware(Conditional)
    app.add_middleware(Requests, metrics=METRICS, max_body=MAX_BODY)
    add_errors(app)

    @app.get("/things/{thing}")
    async def one(thing: str) -> dict[str, str]:
        return {"thing": thing, "log": structlog.contextvars.get_contextvars()["request_id"]}

    @app.get("/numbers")
    async def numbers(most: int) -> list[int]:
        return list(range(most))

    @app.get("/own")
    async def own() -> Response:
        return JSONResponse([1], headers={"ETag": '"mine"', "Cache-Control": "private, max-age=5"})

    @app.get("/secret")
    async def secret() -> Response:
        return JSONResponse([1], headers={"Cache-Control": "no-store"})

    @app.get("/endless")
    async def endless() -> Response:
        async def lines() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError("the programmer's")

    @app.get("/away")
    async def away() -> None:
        raise Unavailable("the store is away", retry_after=2.5)

    @app.post("/things")
    async def add(request: Request) -> int:
        return len(await request.body())

    return app


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(small_app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        client.headers["Accept-Encoding"] = "identity"
        yield client


def figure(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


async def test_a_request_has_the_client_s_id_if_that_is_sane(http: httpx.AsyncClient) -> None:
    mine = await http.get("/things/1", headers={"X-Request-ID": "ticket-4711"})
    assert mine.headers["x-request-id"] == mine.json()["log"] == "ticket-4711"
    for bad in ("", "two words", "x" * 101, "<script>", "a\tb"):
        made = await http.get("/things/1", headers={"X-Request-ID": bad})
        assert made.headers["x-request-id"] == made.json()["log"] != bad
        assert len(made.headers["x-request-id"]) == 32
    assert REQUEST_ID.get() == ""


async def test_problems_name_the_request(http: httpx.AsyncClient) -> None:
    for path, status in (("/nowhere", 404), ("/numbers?most=x", 422), ("/away", 503)):
        answer = await http.get(path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["retry-after"] == "3"
    assert (await http.put("/numbers")).json()["status"] == 405


async def test_a_bug_is_a_problem_to_the_client_and_a_trace_in_the_log(http: httpx.AsyncClient) -> None:
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        answer = await http.get("/bug")
    assert (answer.status_code, answer.json()["status"]) == (500, 500)
    assert "ZeroDivision" not in answer.text
    [line] = logs
    assert (line["log_level"], line["path"], line["exc_info"]) == ("error", "/bug", True)
    assert line["request_id"] == answer.json()["request_id"]


async def test_what_is_too_large_is_refused_before_it_is_read_whole(http: httpx.AsyncClient) -> None:
    assert (await http.post("/things", content=b"x" * MAX_BODY)).json() == MAX_BODY

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    sent: list[Any] = [b"x" * (MAX_BODY + 1), drip()]
    for body in sent:
        answer = await http.post("/things", content=body)
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert (await http.get("/things/1", params={"q": "x" * MAX_TARGET})).status_code == 414


async def test_requests_are_counted_by_the_route_s_template(http: httpx.AsyncClient) -> None:
    def counted() -> list[float]:
        return [
            figure("im_http_requests_total", method="GET", route="/things/{thing}", status="200"),
            figure("im_http_requests_total", method="GET", route="none", status="404"),
            figure("im_http_request_seconds_count", route="/things/{thing}"),
            figure("im_http_request_seconds_count", route="/endless"),
            figure("im_http_in_flight"),
        ]

    before = counted()
    for path in ("/things/1", "/things/2", "/some/scanner.php", "/endless"):
        await http.get(path)
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [2, 1, 2, 0, 0]


async def test_an_answer_that_the_client_has_is_304(http: httpx.AsyncClient) -> None:
    first = await http.get("/numbers?most=3")
    assert first.headers["cache-control"] == "private, no-cache"
    tag = first.headers["etag"]
    assert (
        (await http.get("/numbers?most=3")).headers["etag"]
        == tag
        != (await http.get("/numbers?most=4")).headers["etag"]
    )
    for given in (tag, f'"other", W/{tag}', "*"):
        again = await http.get("/numbers?most=3", headers={"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["x-request-id"]
    assert (await http.get("/numbers?most=3", headers={"If-None-Match": '"other"'})).json() == [0, 1, 2]


async def test_an_answer_s_own_word_about_caches_is_kept(http: httpx.AsyncClient) -> None:
    own = await http.get("/own")
    assert (own.headers["etag"], own.headers["cache-control"]) == ('"mine"', "private, max-age=5")
    assert (await http.get("/own", headers={"If-None-Match": '"mine"'})).status_code == 304
    assert "etag" not in (await http.get("/secret")).headers
    assert "etag" not in (await http.get("/endless")).headers
    assert "etag" not in (await http.get("/nowhere")).headers


@pytest.mark.parametrize("most", [5000, 100_000])
async def test_long_answers_are_compressed_for_who_takes_that(http: httpx.AsyncClient, most: int) -> None:
    path = f"/numbers?most={most}"
    plain = await http.get(path)
    assert "content-encoding" not in plain.headers
    assert len(plain.content) > GZIP_FROM
    async with http.stream("GET", path, headers={"Accept-Encoding": "br, gzip;q=0.5"}) as zipped:
        raw = b"".join([part async for part in zipped.aiter_raw()])
    assert zipped.headers["content-encoding"] == "gzip"
    assert int(zipped.headers["content-length"]) == len(raw) < len(plain.content)
    assert orjson.loads(gzip.decompress(raw)) == plain.json()
    assert zipped.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert zipped.headers["etag"] != plain.headers["etag"]
    asked = {"Accept-Encoding": "gzip", "If-None-Match": zipped.headers["etag"]}
    assert (await http.get(path, headers=asked)).status_code == 304
    assert (await http.get(path, headers={"Accept-Encoding": "gzip;q=0"})).content == plain.content
    assert (
        "content-encoding"
        not in (await http.get("/numbers?most=3", headers={"Accept-Encoding": "gzip"})).headers
    )
