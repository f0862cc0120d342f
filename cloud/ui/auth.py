"""Who may look: every request, WebSockets too, is checked here before Dash sees it.

Host not served: 421. An Origin other than the page's own: 403. No session: 401 and a page that says how to get in.
A WebSocket is refused before it is accepted, which the browser sees as 403.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Final, Literal
from urllib.parse import parse_qs, urlsplit

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.ui.door import door_page
from shared.errors import Rejected, Unavailable

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/startupz"})
ASSETS: Final = "/assets/"
HOUR_SECONDS: Final = 3600

Redeem = Callable[[str], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Principal:
    """A person, and what the person may do."""

    principal: str
    role: str


PRINCIPAL: Final[ContextVar[Principal | None]] = ContextVar("principal", default=None)
"""Who the running request or WebSocket belongs to."""


class Sessions:
    """Signed cookies. The name is the plant's own, because browsers share cookies between ports of a host."""

    def __init__(self, key: str, *, hours: float) -> None:
        self.cookie = f"im-room-{hashlib.blake2b(key.encode(), digest_size=4, person=b'cookie').hexdigest()}"
        self._seconds = int(hours * HOUR_SECONDS)
        self._signer = URLSafeTimedSerializer(key, salt="control-room-session")

    def open(self, response: Response, who: Principal, *, secure: bool) -> None:
        """Sign somebody in."""
        value = self._signer.dumps(asdict(who))
        response.set_cookie(
            self.cookie, value, max_age=self._seconds, httponly=True, samesite="lax", secure=secure
        )

    def close(self, response: Response) -> None:
        """Sign somebody out in this browser."""
        response.delete_cookie(self.cookie, httponly=True, samesite="lax")

    def who(self, cookies: str) -> Principal | None:
        """Whom a Cookie header belongs to; None if it was not signed here, or too long ago."""
        try:
            morsel = SimpleCookie(cookies).get(self.cookie)
            return (
                None
                if morsel is None
                else Principal(**self._signer.loads(morsel.value, max_age=self._seconds))
            )
        except (BadSignature, CookieError, TypeError):
            return None


Refusal = Literal["host", "origin", "session"]


class Gate:
    """ASGI middleware: checks, `/login`, `/logout`, the page for those outside, and headers for all answers."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        sessions: Sessions,
        allowed_hosts: Sequence[str],
        redeem: Redeem,
        headers: Mapping[str, str],
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._hosts = frozenset(allowed_hosts)
        self._redeem = redeem
        self._headers = [(k.lower().encode(), v.encode()) for k, v in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it through, or answer it here."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, self._with_headers(send))
            case "websocket":
                await self._websocket(scope, receive, send)
            case _:
                await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        who = self._admit(scope)
        answer: Response
        match who:
            case "host":
                answer = PlainTextResponse("this host name is not served here\n", 421)
            case "origin":
                answer = PlainTextResponse("requests from this origin are refused\n", 403)
            case _ if scope["path"] == "/login":
                answer = await self._login(scope)
            case _ if scope["path"] == "/logout" and scope["method"] == "POST":
                answer = RedirectResponse("/", 303)
                self._sessions.close(answer)
            case "session":
                answer = HTMLResponse(
                    door_page("Sign in", "Nobody is signed in here, or the session has ended."), 401
                )
            case _:
                token = PRINCIPAL.set(who)
                try:
                    await self._app(scope, receive, send)
                finally:
                    PRINCIPAL.reset(token)
                return
        await answer(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        who = self._admit(scope)
        if not isinstance(who, Principal):
            await receive()
            await send({"type": "websocket.close", "code": 4003, "reason": who})
            return
        token = PRINCIPAL.set(who)
        try:
            await self._app(scope, receive, send)
        finally:
            PRINCIPAL.reset(token)

    async def _login(self, scope: Scope) -> Response:
        code = parse_qs(scope["query_string"].decode("latin-1")).get("code", [""])[0]
        try:
            found = await self._redeem(code) if code else None
        except Rejected:
            return HTMLResponse(
                door_page("This link is used up", "A link works once, within ten minutes of its making."), 410
            )
        except Unavailable:
            return HTMLResponse(
                door_page("The server is away", "The link is still good: open it again shortly."), 503
            )
        if found is None:
            return HTMLResponse(door_page("Sign in", "This page needs a sign-in link."), 401)
        answer = RedirectResponse("/", 303)
        who = Principal(str(found["principal"]), str(found["role"]))
        self._sessions.open(answer, who, secure=scope["scheme"] == "https")
        return answer

    def _admit(self, scope: Scope) -> Principal | Refusal:
        """Who it is, or why not."""
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        authority = headers.get("host", "")
        if host_name(authority) not in self._hosts:
            return "host"
        origin = headers.get("origin")
        websocket = scope["type"] == "websocket"
        # Another port of an allowed host is another origin: it is somebody else's page.
        if (origin is None and websocket) or (
            origin is not None and urlsplit(origin).netloc.lower() != authority.lower()
        ):
            return "origin"
        if not websocket and (scope["path"] in OPEN_PATHS or scope["path"].startswith(ASSETS)):
            return Principal("", "nobody")
        return self._sessions.who(headers.get("cookie", "")) or "session"

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        return sending


def host_name(authority: str) -> str:
    """The host of `host:port`, lower case, brackets of IPv6 kept."""
    name = authority if authority.endswith("]") else authority.rsplit(":", 1)[0]
    return name.lower()
