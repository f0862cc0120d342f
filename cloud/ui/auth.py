"""Who may look: every request, WebSockets too, is checked here before Dash sees it.

Host not served: 421. An Origin other than the page's own: 403. No session: 401 and a page to sign in on.
A WebSocket is refused before it is accepted, which the browser sees as 403, and closed when its session is over.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from http.cookies import CookieError, SimpleCookie
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.clock import Clock
from shared.errors import Unavailable
from shared.recheck import Recheck

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/startupz"})
ASSETS: Final = "/assets/"
HOUR_SECONDS: Final = 3600
BELIEVED_SECONDS: Final = 2.0
MAX_BELIEVED: Final = 1000
RECHECK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Principal:
    """A person, what the person may do, and the person's session at the data API."""

    principal: str
    role: str
    session: str = ""


PRINCIPAL: Final[ContextVar[Principal | None]] = ContextVar("principal", default=None)
"""Who the running request or WebSocket belongs to."""


class Sessions:
    """Signed cookies. The name is the plant's own, because browsers share cookies between ports of a host."""

    def __init__(self, key: str, *, hours: float) -> None:
        plant = hashlib.blake2b(key.encode(), digest_size=4, person=b"cookie").hexdigest()
        self.cookie = f"im-room-{plant}"
        self.flow = f"im-flow-{plant}"
        """The cookie of who is on the way to an OIDC provider and back."""
        self._seconds = int(hours * HOUR_SECONDS)
        self._signer = URLSafeTimedSerializer(key, salt="control-room-session")
        self.flows = URLSafeTimedSerializer(key, salt="control-room-flow")

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
            if morsel is None:
                return None
            return Principal(**self._signer.loads(morsel.value, max_age=self._seconds))
        except (BadSignature, CookieError, TypeError):
            return None


Ask = Callable[[str], Awaitable[Mapping[str, object] | None]]
"""Whose session it is at the data API: `name` and `role`; None: nobody's any more. Raises Unavailable."""


class Doorkeeper:
    """Asks the data API whose a session is, and believes it for two seconds.

    While the API is away the cookie's own signature counts, so that the plant's last picture stays on the screen; but
    not for a session that was known to be over.
    """

    def __init__(self, ask: Ask, clock: Clock) -> None:
        self._ask, self._clock = ask, clock
        self._believed: OrderedDict[str, tuple[Principal | None, float]] = OrderedDict()

    async def now(self, signed: Principal) -> Principal | None:
        """The person as of now; None: the session is over."""
        if not signed.session:
            return None
        key = hashlib.sha256(signed.session.encode()).hexdigest()
        known = self._believed.get(key)
        now = self._clock.monotonic()
        if known is not None and now < known[1]:
            return known[0]
        try:
            found = await self._ask(signed.session)
        except Unavailable:
            return signed if known is None else known[0]
        who = (
            None if found is None else replace(signed, principal=str(found["name"]), role=str(found["role"]))
        )
        self._believed[key] = (who, now + BELIEVED_SECONDS)
        self._believed.move_to_end(key)
        if len(self._believed) > MAX_BELIEVED:
            self._believed.popitem(last=False)
        return who

    def forget(self) -> None:
        """Somebody signed out: ask anew."""
        self._believed.clear()


class WayIn(Protocol):
    """Answers whoever is outside."""

    async def answer(self, scope: Scope, receive: Receive, who: Principal | None) -> Response | None:
        """The answer to a request for a way in or out; None: it is none."""
        ...

    def door(self, scope: Scope) -> Response:
        """The page for somebody who wanted to go elsewhere."""
        ...


Refusal = Literal["host", "origin", "session"]


class Gate:
    """ASGI middleware: checks, the ways in and out, the page for those outside, and headers for all answers."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        sessions: Sessions,
        doorkeeper: Doorkeeper,
        way_in: WayIn,
        allowed_hosts: Sequence[str],
        headers: Mapping[str, str],
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._doorkeeper = doorkeeper
        self._way_in = way_in
        self._hosts = frozenset(allowed_hosts)
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
        refused = self._place(scope)
        answer: Response | None
        if refused == "host":
            answer = PlainTextResponse("this host name is not served here\n", 421)
        elif refused == "origin":
            answer = PlainTextResponse("requests from this origin are refused\n", 403)
        elif scope["path"] in OPEN_PATHS or scope["path"].startswith(ASSETS):
            await self._app(scope, receive, send)
            return
        else:
            who = await self._who(scope)
            answer = await self._way_in.answer(scope, receive, who)
            if answer is None and who is not None:
                await self._as(who, scope, receive, send)
                return
            answer = answer or self._way_in.door(scope)
        await answer(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused: Refusal | None = self._place(scope)
        who = None if refused else await self._who(scope)
        if who is None:
            await receive()
            await send({"type": "websocket.close", "code": 4003, "reason": refused or "session"})
            return

        async def good() -> bool:
            return await self._doorkeeper.now(who) is not None

        async with Recheck(good, RECHECK_SECONDS) as check:
            await self._as(who, scope, receive, send)
        if check.cut:
            await send({"type": "websocket.close", "code": 4003, "reason": "session"})

    async def _as(self, who: Principal, scope: Scope, receive: Receive, send: Send) -> None:
        token = PRINCIPAL.set(who)
        try:
            await self._app(scope, receive, send)
        finally:
            PRINCIPAL.reset(token)

    async def _who(self, scope: Scope) -> Principal | None:
        signed = self._sessions.who(_header(scope, b"cookie") or "")
        return None if signed is None else await self._doorkeeper.now(signed)

    def _place(self, scope: Scope) -> Refusal | None:
        """Why a request may not ask here, whoever sent it."""
        authority = _header(scope, b"host") or ""
        if host_name(authority) not in self._hosts:
            return "host"
        origin = _header(scope, b"origin")
        # What changes something says its origin in every browser; one that says none is none of ours.
        needed = scope["type"] == "websocket" or scope["method"] == "POST"
        # Another port of an allowed host is another origin: it is somebody else's page.
        if (origin is None and needed) or (
            origin is not None and urlsplit(origin).netloc.lower() != authority.lower()
        ):
            return "origin"
        return None

    def _with_headers(self, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        return sending


def _header(scope: Scope, wanted: bytes) -> str | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value.decode("latin-1"))
    return None


def host_name(authority: str) -> str:
    """The host of `host:port`, lower case, brackets of IPv6 kept."""
    name = authority if authority.endswith("]") else authority.rsplit(":", 1)[0]
    return name.lower()
