"""Health and metrics over HTTP, one small piece that each service mounts.

`/livez`, `/readyz` and `/startupz` answer with a status only and need no token; `/metrics` needs a bearer token.
The server reads one request a connection, bounded in size and time, so that the edge needs no web framework.
"""

import asyncio
import hmac
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest

_MAX_REQUEST: Final = 8192
_READ_SECONDS: Final = 5.0
_ALLOWED_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

Check = Callable[[], str]
"""Returns "" when fine, else what is wrong."""


class Health:
    """What a service says of itself: started or not, and named checks that readiness is made of."""

    def __init__(self) -> None:
        self.started = False
        self._checks: dict[str, Check] = {}

    def add_check(self, name: str, check: Check) -> None:
        """Readiness needs `check` to return an empty text."""
        self._checks[name] = check

    def problems(self) -> dict[str, str]:
        """Check name to what is wrong, for those that fail."""
        found = {name: check() for name, check in self._checks.items()}
        return {name: text for name, text in found.items() if text}

    @property
    def ready(self) -> bool:
        """Started and no check fails."""
        return self.started and not self.problems()


@asynccontextmanager
async def serve_health(
    health: Health,
    registry: CollectorRegistry,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str = "",
) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port (0 asks for a free one). Without a token `/metrics` is closed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            status, content_type, body = respond(health, registry, head, token=token, bound=host)
            shown = b"" if head.startswith(b"HEAD ") else body
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + shown
            )
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # a client that sent no request gets no answer
        finally:
            writer.close()

    server = await asyncio.start_server(answer, host, port, limit=_MAX_REQUEST)
    async with server:
        yield server.sockets[0].getsockname()[1]


def respond(
    health: Health, registry: CollectorRegistry, head: bytes, *, token: str, bound: str
) -> tuple[str, str, bytes]:
    """Status line, content type and body for one request's head."""
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:]) if k}
    text = "text/plain; charset=utf-8"
    if len(parts) != 3 or parts[0] not in {"GET", "HEAD"}:  # noqa: PLR2004 - method, path, protocol
        return "405 Method Not Allowed", text, b"only GET\n"
    name = re.sub(r":\d+$", "", headers.get("host", ""))
    if name not in _ALLOWED_HOSTS | {bound}:
        return "421 Misdirected Request", text, b"unknown host\n"
    probes = {"/livez": True, "/startupz": health.started, "/readyz": health.ready}
    path = parts[1].split("?")[0]
    if path in probes:
        return (
            ("200 OK", text, b"ok\n") if probes[path] else ("503 Service Unavailable", text, b"not ready\n")
        )
    if path == "/metrics":
        given = headers.get("authorization", "")
        if not token or not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return "401 Unauthorized", text, b"a bearer token is needed\n"
        return "200 OK", "text/plain; version=0.0.4; charset=utf-8", generate_latest(registry)
    return "404 Not Found", text, b"/livez /readyz /startupz /metrics\n"
