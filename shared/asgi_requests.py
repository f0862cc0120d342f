"""What every request of an HTTP service has: an id, bounds on its size, a figure in the metrics, and an answer.

Plain ASGI, outermost. The id is the client's `X-Request-ID` if that is sane, else a new one; it is in the answer, in
every log line of the request, and in problem documents.
"""

import re
import time
import uuid
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.problems import REQUEST_ID, problem

log = structlog.get_logger()

MAX_BODY: Final = 8 * 1024 * 1024
MAX_TARGET: Final = 8 * 1024
"""Bytes of path and query together."""
_SANE: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,100}")
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_ENDLESS: Final = b"text/event-stream"
_BROKEN_OFF: Final = 499
"""Counted for a client that went before it had its answer."""


class HttpMetrics:
    """Requests by the route's template, never by its path."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "im_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "im_http_request_seconds",
            "From a request's head to the end of its answer, streams left out.",
            ["route"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge("im_http_in_flight", "Requests that are being answered.", registry=registry)


class Requests:
    """ASGI middleware. Too long a target: 414. Too large a body: 413. A bug: 500 with the id, and its trace in the log."""

    def __init__(self, app: ASGIApp, *, metrics: HttpMetrics, max_body: int = MAX_BODY) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE.fullmatch(given) else uuid.uuid4().hex
        token = REQUEST_ID.set(request_id)
        try:
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                if scope["type"] == "websocket":
                    await self._app(scope, receive, send)
                else:
                    await self._count(scope, receive, send, request_id)
        finally:
            REQUEST_ID.reset(token)

    async def _count(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        answer = _Answer(send, request_id)
        begin = time.perf_counter()
        self._metrics.in_flight.inc()
        try:
            await self._answer(scope, receive, answer)
        finally:
            self._metrics.in_flight.dec()
            route = getattr(scope.get("route"), "path", "") or "none"
            self._metrics.requests.labels(scope["method"], route, answer.status or _BROKEN_OFF).inc()
            if not answer.endless:
                self._metrics.seconds.labels(route).observe(time.perf_counter() - begin)

    async def _answer(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, answer.send)
            return
        try:
            await self._app(scope, _bounded(receive, self._max_body), answer.send)
        except Exception:
            log.exception("a bug: this request could not be answered", path=scope["path"])
            if answer.status:
                raise  # its head is out: only breaking off tells the client
            sorry = problem(
                500, "this is a bug here, not your request: the log has it under the request's id"
            )
            await sorry(scope, receive, answer.send)

    def _refusal(self, scope: Scope) -> Response | None:
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET:
            return problem(414, f"the address has more than {MAX_TARGET} bytes")
        size = Headers(scope=scope).get("content-length", "0")
        if size.isdecimal() and int(size) > self._max_body:
            return _too_large(self._max_body)
        return None


class _Answer:
    """Adds the id to an answer's head and remembers its status (0 while there is none)."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._id = request_id.encode()
        self.status = 0
        self.endless = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            self.status = message["status"]
            self.endless = any(k == b"content-type" and v.startswith(_ENDLESS) for k, v in headers)
            message = {**message, "headers": [*headers, (b"x-request-id", self._id)]}
        await self._send(message)


def _too_large(most: int) -> Response:
    return problem(413, f"the body has more than {most} bytes")


def _bounded(receive: Receive, most: int) -> Receive:
    """The body as it comes, up to `most` bytes: whoever reads on gets HTTPException (413)."""
    taken = 0

    async def receiving() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise HTTPException(413, f"the body has more than {most} bytes")
        return message

    return receiving
