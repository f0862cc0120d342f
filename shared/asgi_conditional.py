"""Answers that the client has already, and answers worth compressing: ETag, If-None-Match, gzip for JSON.

Plain ASGI, inside the gate. The tag is the answer's own or else the hash of its bytes, strong: the compressed form has
a tag of its own. Streams, and answers beyond a bound, pass as they are.
"""

import asyncio
import gzip
from hashlib import blake2b
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_HELD: Final = 32 * 1024 * 1024
"""A longer answer passes without a tag."""
GZIP_FROM: Final = 16 * 1024
"""Shorter ones travel sooner as they are."""
_IN_THREAD_FROM: Final = 256 * 1024
_ZIPPED: Final = "-gzip"
PRIVATE: Final = "private, no-cache"
"""Kept by the asker alone, who asks each time whether it is still so."""


class Conditional:
    """ASGI middleware for GET: 304 where the client's tag is the answer's, gzip where the client takes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _Held(Headers(scope=scope), send).send)


class _Held:
    """One answer: its head is held until its body is whole."""

    def __init__(self, asked: Headers, send: Send) -> None:
        self._asked = asked
        self._send = send
        self._start: Message | None = None
        self._body: list[bytes] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_held(message):
            self._start = message
        elif self._start is None or message["type"] != "http.response.body":
            await self._send(message)
        else:
            self._body.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._finish(self._start, b"".join(self._body))

    async def _finish(self, start: Message, body: bytes) -> None:
        headers = MutableHeaders(raw=list(start["headers"]))
        zipped = len(body) >= GZIP_FROM and takes_gzip(self._asked) and _is_json(headers)
        tag = _tag(headers.get("etag") or f'"{blake2b(body, digest_size=12).hexdigest()}"', zipped=zipped)
        headers["etag"] = tag
        headers.setdefault("cache-control", PRIVATE)
        headers.add_vary_header("Accept-Encoding")
        if matches(self._asked.get("if-none-match", ""), tag):
            for name in ("content-length", "content-type"):
                del headers[name]
            await self._send({**start, "status": 304, "headers": headers.raw})
            await self._send({"type": "http.response.body", "body": b""})
            return
        if zipped:
            body = await _compressed(body)
            headers["content-encoding"] = "gzip"
            headers["content-length"] = str(len(body))
        await self._send({**start, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})


def takes_gzip(asked: Headers) -> bool:
    """Whether the client takes gzip (weights other than 0 are all the same to us)."""
    parts = (part.strip().replace(" ", "") for part in asked.get("accept-encoding", "").lower().split(","))
    return any(
        part.split(";")[0] in {"gzip", "*"} and not part.endswith((";q=0", ";q=0.0")) for part in parts
    )


def matches(asked: str, tag: str) -> bool:
    """Whether `If-None-Match` names the tag (its comparison is weak: RFC 9110, 13.1.2)."""
    return asked.strip() == "*" or tag in {part.strip().removeprefix("W/") for part in asked.split(",")}


def _tag(tag: str, *, zipped: bool) -> str:
    return f'{tag[:-1]}{_ZIPPED}"' if zipped else tag


def _is_json(headers: Headers) -> bool:
    return headers.get("content-type", "").startswith("application/json")


def _is_held(start: Message) -> bool:
    """Whole answers of known length that are a success; `no-store` ones are nobody's to keep."""
    headers = Headers(raw=start.get("headers", []))
    size = headers.get("content-length", "")
    return (
        start["status"] == 200  # noqa: PLR2004 - HTTP's own number
        and size.isdecimal()
        and int(size) <= MAX_HELD
        and (_is_json(headers) or "etag" in headers)
        and "no-store" not in headers.get("cache-control", "")
    )


async def _compressed(body: bytes) -> bytes:
    """Level 1: the time of a higher one costs more than its bytes."""
    if len(body) < _IN_THREAD_FROM:
        return gzip.compress(body, 1, mtime=0)
    return await asyncio.to_thread(gzip.compress, body, 1, mtime=0)
