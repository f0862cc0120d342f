"""Who may ask: every request, WebSockets too, is checked for Host, Origin and a bearer token before anything reads it."""

import hmac
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/startupz"})
CLI: Final = "cli"
"""The command line's principal: the plant's administrator."""
UI: Final = "ui"
"""The control room's server."""


class Access:
    """ASGI middleware. Host not allowed: 421. Foreign Origin: 403. No or wrong token: 401.

    `tokens` is principal to token; an empty token admits nobody. Whose token it was is in the request's state, as
    `principal`. A WebSocket is refused before it is accepted, by the same answers. Nothing may be kept by caches.
    """

    def __init__(self, app: ASGIApp, *, tokens: Mapping[str, str], allowed_hosts: Sequence[str]) -> None:
        self._app = app
        self._tokens = {name: token.encode() for name, token in tokens.items() if token}
        self._hosts = frozenset(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through or answer it here."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        status, said = self._judge(scope["path"], headers)
        if status is None:
            scope.setdefault("state", {})["principal"] = said
            await self._app(scope, receive, _uncached(send))
        elif scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": said})
        else:
            await _refusal(status, said, scope["path"])(scope, receive, _uncached(send))

    def _judge(self, path: str, headers: dict[str, str]) -> tuple[int | None, str]:
        """Status and title of the refusal; or None and the principal."""
        host = host_name(headers.get("host", ""))
        if host not in self._hosts:
            return 421, "this host name is not served here"
        origin = headers.get("origin")
        if origin is not None and host_name(urlsplit(origin).netloc) not in self._hosts:
            return 403, "requests from this origin are refused"
        if path in OPEN_PATHS:
            return None, ""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        principal = self._principal(given.encode()) if scheme.lower() == "bearer" else ""
        return (None, principal) if principal else (401, "a bearer token is needed")

    def _principal(self, given: bytes) -> str:
        """Whose token it is. All are compared, each in constant time."""
        found = [name for name, token in self._tokens.items() if hmac.compare_digest(given, token)]
        return found[0] if found else ""


def principal(connection: HTTPConnection) -> str:
    """Who asks: `cli` or `ui`."""
    name: str = connection.state.principal
    return name


def engineer(request: Request) -> str:
    """Who asks, if they may do what is the engineer's: until people have roles, the command line alone.

    Raises HTTPException (403) for anybody else.
    """
    name = principal(request)
    if name != CLI:
        raise HTTPException(403, "only an engineer may do this, by the command line")
    return name


def host_name(authority: str) -> str:
    """The host of `host:port`, lower case, brackets of IPv6 kept."""
    name = authority.rsplit(":", 1)[0] if not authority.endswith("]") else authority
    return name.lower()


def _refusal(status: int, title: str, path: str) -> Response:
    if path in OPEN_PATHS:
        return PlainTextResponse(title, status)
    body = {"type": "about:blank", "title": title, "status": status}
    more = {"WWW-Authenticate": "Bearer"} if status == 401 else None  # noqa: PLR2004 - HTTP's own number
    return JSONResponse(body, status, more, media_type="application/problem+json")


def _uncached(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            headers = [*message.get("headers", ()), (b"cache-control", b"no-store")]
            message = {**message, "headers": headers}
        await send(message)

    return sending
