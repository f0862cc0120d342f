"""Who may ask: every request is checked for Host, Origin and a bearer token before anything reads it."""

import hmac
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/startupz"})


class Access:
    """ASGI middleware. Host not allowed: 421. Foreign Origin: 403. No or wrong token: 401."""

    def __init__(self, app: ASGIApp, *, token: str, allowed_hosts: Sequence[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        problem = self._problem(scope["path"], headers)
        if problem is None:
            await self._app(scope, receive, send)
            return
        status, title = problem
        if scope["path"] in OPEN_PATHS:
            await PlainTextResponse(title, status)(scope, receive, send)
            return
        body = {"type": "about:blank", "title": title, "status": status}
        more = {"WWW-Authenticate": "Bearer"} if status == 401 else None  # noqa: PLR2004 - HTTP's own number
        response = JSONResponse(body, status, more, media_type="application/problem+json")
        await response(scope, receive, send)

    def _problem(self, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        host = host_name(headers.get("host", ""))
        if host not in self._hosts:
            return 421, "this host name is not served here"
        origin = headers.get("origin")
        if origin is not None and host_name(urlsplit(origin).netloc) not in self._hosts:
            return 403, "requests from this origin are refused"
        if path in OPEN_PATHS:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), self._token):
            return 401, "a bearer token is needed"
        return None


def host_name(authority: str) -> str:
    """The host of `host:port`, lower case, brackets of IPv6 kept."""
    name = authority.rsplit(":", 1)[0] if not authority.endswith("]") else authority
    return name.lower()
