"""Who may ask: every request, WebSockets too, is checked for Host, Origin and a bearer token before anything reads it.

One piece for every HTTP service. Whose token it is says the service's own `Verify`.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.access import Principal, Right
from shared.errors import Unavailable
from shared.problems import problem
from shared.recheck import Recheck

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/startupz"})

Verify = Callable[[str], Awaitable[Principal | None]]
"""Whose bearer token it is; None: nobody's. May raise Unavailable."""

Wait = Callable[[Principal], float]
"""Seconds until a principal may ask again; 0: it may now."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is answered here."""

    status: int
    title: str
    retry_after: float = 0.0


class Access:
    """ASGI middleware. Host not allowed: 421. Foreign Origin: 403. No or wrong token: 401. Too often: 429.

    `open_paths` may be read (GET) with no token. The principal is in the request's state. A WebSocket is refused before it is accepted, by the same answers.
    What lasts longer, as streams do, ends soon after its token is good no more: it is verified again every
    `recheck_seconds`. Nothing may be kept by caches unless the answer itself says so.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        verify: Verify,
        allowed_hosts: Sequence[str],
        open_paths: Collection[str] = (),
        wait: Wait = lambda _: 0.0,
        recheck_seconds: float = 3.0,
    ) -> None:
        self._app = app
        self._verify = verify
        self._hosts = frozenset(allowed_hosts)
        self._open = frozenset(open_paths)
        self._wait = wait
        self._recheck_seconds = recheck_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through or answer it here."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        found: Principal | Refusal | None = self._place(headers)
        token = ""
        if found is None and not self._is_open(scope):
            scheme, _, given = headers.get("authorization", "").partition(" ")
            token = given if scheme.lower() == "bearer" else ""
            found = await self._admit(token)
        if isinstance(found, Refusal):
            await _refuse(found, scope, receive, send)
            return
        scope.setdefault("state", {})["principal"] = found
        if found is None:
            await self._app(scope, receive, _uncached(send))
        else:
            await self._while_good(token, scope, receive, send)

    async def _admit(self, token: str) -> Principal | Refusal:
        """Whose token it is, or why it lets nobody in now."""
        try:
            who = await self._verify(token) if token else None
        except Unavailable as error:
            return Refusal(503, f"nobody can be let in now: {error}", error.retry_after)
        if who is None:
            return Refusal(401, "a bearer token is needed")
        wait = self._wait(who)
        return Refusal(429, "too many requests", wait) if wait else who

    async def _while_good(self, token: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and cut the answer off if it outlasts its token."""
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        async def good() -> bool:
            try:
                return await self._verify(token) is not None
            except Unavailable:
                return True  # who was let in stays in while nobody can be asked

        async with Recheck(good, self._recheck_seconds) as check:
            await self._app(scope, receive, _uncached(sending))
        if check.cut and not begun:
            await _refuse(Refusal(401, "the token is good no more"), scope, receive, send)
        elif check.cut and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "the token is good no more"})

    def _is_open(self, scope: Scope) -> bool:
        """Probes, and what may be read by anybody."""
        path = scope["path"]
        return path in OPEN_PATHS or (path in self._open and scope.get("method") in {"GET", "HEAD"})

    def _place(self, headers: dict[str, str]) -> Refusal | None:
        """The refusal of a Host or Origin; None if both may ask."""
        if host_name(headers.get("host", "")) not in self._hosts:
            return Refusal(421, "this host name is not served here")
        origin = headers.get("origin")
        if origin is not None and host_name(urlsplit(origin).netloc) not in self._hosts:
            return Refusal(403, "requests from this origin are refused")
        return None


def principal(connection: HTTPConnection) -> Principal:
    """Who asks. Raises HTTPException (401) where nobody was asked for."""
    found: Principal | None = getattr(connection.state, "principal", None)
    if found is None:
        raise HTTPException(401, "a bearer token is needed")
    return found


@dataclass(frozen=True, slots=True)
class needs:  # noqa: N801 - reads as a word where an endpoint says what it needs
    """A dependency: who asks, if they have the right. It raises HTTPException (403) for anybody else."""

    right: Right

    async def __call__(self, connection: HTTPConnection) -> Principal:
        """The principal. Raises HTTPException. Async, because FastAPI runs other dependencies in a thread each."""
        return self.allowed(connection)

    def allowed(self, connection: HTTPConnection) -> Principal:
        """The same for who asks in the middle of something."""
        who = principal(connection)
        if not who.may(self.right):
            raise HTTPException(
                403, f"this needs the right to {self.right}, which {who.name} ({who.role}) has not"
            )
        return who


def host_name(authority: str) -> str:
    """The host of `host:port`, lower case, brackets of IPv6 kept."""
    name = authority.rsplit(":", 1)[0] if not authority.endswith("]") else authority
    return name.lower()


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.title[:100]})
        return
    answer: Response
    if scope["path"] in OPEN_PATHS:
        answer = PlainTextResponse(refusal.title, refusal.status)
    else:
        more = {}
        if refusal.status == 401:  # noqa: PLR2004 - HTTP's own number
            more["WWW-Authenticate"] = "Bearer"
        if refusal.retry_after:
            more["Retry-After"] = str(math.ceil(refusal.retry_after))
        answer = problem(refusal.status, refusal.title, more)
    await answer(scope, receive, _uncached(send))


def _uncached(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            headers = list(message.get("headers", ()))
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        await send(message)

    return sending
