"""Who may ask: every request, WebSockets too, is checked for Host, Origin and a bearer token before anything reads it.

One piece for every HTTP service. Whose token it is says the service's own `Verify`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.access import Principal, Right
from shared.problems import problem

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/startupz"})

Verify = Callable[[str], Awaitable[Principal | None]]
"""Whose bearer token it is; None: nobody's."""


class Access:
    """ASGI middleware. Host not allowed: 421. Foreign Origin: 403. No or wrong token: 401.

    The principal is in the request's state. A WebSocket is refused before it is accepted, by the same answers.
    Nothing may be kept by caches unless the answer itself says so.
    """

    def __init__(self, app: ASGIApp, *, verify: Verify, allowed_hosts: Sequence[str]) -> None:
        self._app = app
        self._verify = verify
        self._hosts = frozenset(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through or answer it here."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        status, said = self._place(headers)
        who: Principal | None = None
        if status is None and scope["path"] not in OPEN_PATHS:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            who = await self._verify(given) if scheme.lower() == "bearer" and given else None
            if who is None:
                status, said = 401, "a bearer token is needed"
        if status is None:
            scope.setdefault("state", {})["principal"] = who
            await self._app(scope, receive, _uncached(send))
        elif scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": said})
        else:
            await _refusal(status, said, scope["path"])(scope, receive, _uncached(send))

    def _place(self, headers: dict[str, str]) -> tuple[int | None, str]:
        """Status and title of the refusal of a Host or Origin; None if both may ask."""
        if host_name(headers.get("host", "")) not in self._hosts:
            return 421, "this host name is not served here"
        origin = headers.get("origin")
        if origin is not None and host_name(urlsplit(origin).netloc) not in self._hosts:
            return 403, "requests from this origin are refused"
        return None, ""


def principal(connection: HTTPConnection) -> Principal:
    """Who asks. Raises HTTPException (401) where nobody was asked for."""
    found: Principal | None = getattr(connection.state, "principal", None)
    if found is None:
        raise HTTPException(401, "a bearer token is needed")
    return found


def needs(right: Right) -> Callable[[HTTPConnection], Principal]:
    """A dependency: who asks, if they have the right. It raises HTTPException (403) for anybody else."""

    def allowed(connection: HTTPConnection) -> Principal:
        who = principal(connection)
        if not who.may(right):
            raise HTTPException(
                403, f"this needs the right to {right}, which {who.name} ({who.role}) has not"
            )
        return who

    return allowed


def host_name(authority: str) -> str:
    """The host of `host:port`, lower case, brackets of IPv6 kept."""
    name = authority.rsplit(":", 1)[0] if not authority.endswith("]") else authority
    return name.lower()


def _refusal(status: int, title: str, path: str) -> Response:
    if path in OPEN_PATHS:
        return PlainTextResponse(title, status)
    more = {"WWW-Authenticate": "Bearer"} if status == 401 else None  # noqa: PLR2004 - HTTP's own number
    return problem(status, title, more)


def _uncached(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            headers = list(message.get("headers", ()))
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await send(message)

    return sending
