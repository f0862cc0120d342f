"""Signing in and out in a browser: by name and password, by link, by an OIDC provider. No script is needed for it."""

import contextlib
from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qs, urlsplit

from itsdangerous import BadSignature
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope

from cloud.ui.auth import Doorkeeper, Principal, Sessions
from cloud.ui.door import door_page
from shared.errors import IndustrialMindError, Rejected, Unavailable

MAX_FORM: Final = 8 * 1024
FLOW_SECONDS: Final = 600
WRONG: Final = "The name or the password is wrong."
AWAY: Final = "The server is away, or busy. Try again shortly."


class SignInClient(Protocol):
    """What the data API does about signing in. All raise Unavailable, Rejected."""

    async def sign_in(self, **given: str) -> Mapping[str, str]:
        """A session: `session`, `principal`, `role`. Raises TooOften."""
        ...

    async def sign_out(self, session: str) -> None:
        """End it."""
        ...

    async def provider_begins(self) -> Mapping[str, str]:
        """Where to send the browser (`url`), and the `state`, `nonce` and `verifier` to come back with."""
        ...


class TooOften(Unavailable):
    """Too many tries."""


class BrowserWayIn:
    """`/login`, `/login/provider`, `/login/back`, `/logout`, and the page for those outside."""

    def __init__(
        self, client: SignInClient, sessions: Sessions, doorkeeper: Doorkeeper, provider: str
    ) -> None:
        self._client, self._sessions, self._doorkeeper = client, sessions, doorkeeper
        self._provider = provider

    async def answer(self, scope: Scope, receive: Receive, who: Principal | None) -> Response | None:
        """See the gate."""
        request = Request(scope, receive)
        match (scope["method"], scope["path"]):
            case ("POST", "/login"):
                return await self._by_form(request)
            case ("GET" | "HEAD", "/login"):
                code = request.query_params.get("code", "")
                return await self._by_link(request, code) if code else self._page(200)
            case ("GET", "/login/provider") if self._provider:
                return await self._to_provider(request)
            case ("GET", "/login/back") if self._provider:
                return await self._from_provider(request)
            case ("POST", "/logout"):
                return await self._out(who)
        return None

    def door(self, scope: Scope) -> Response:
        """See the gate. Whoever signs in goes on to where they wanted."""
        query = scope["query_string"].decode("latin-1")
        wanted = scope["path"] + (f"?{query}" if query else "")
        shown = scope["method"] in {"GET", "HEAD"}
        return self._page(401, next_=_inside(wanted) if shown else "/")

    async def _by_form(self, request: Request) -> Response:
        form = await _form(request)
        name, next_ = form.get("name", "")[:100].strip(), _inside(form.get("next", "/"))
        password = form.get("password", "")
        if not name or not password:
            return self._page(422, "Give a name and a password.", name=name, next_=next_)
        try:
            found = await self._client.sign_in(name=name, password=password, address=_address(request))
        except TooOften:
            return self._page(429, "Too many tries. Wait a minute.", name=name, next_=next_)
        except Rejected:
            return self._page(401, WRONG, name=name, next_=next_)
        except Unavailable:
            return self._page(503, AWAY, name=name, next_=next_)
        return self._in(request, found, next_)

    async def _by_link(self, request: Request, code: str) -> Response:
        try:
            found = await self._client.sign_in(code=code, address=_address(request))
        except Rejected:
            return self._page(
                410, "A link works once, within ten minutes of its making.", title="This link is used up"
            )
        except Unavailable:
            return self._page(
                503, "The link is still good: open it again shortly.", title="The server is away"
            )
        return self._in(request, found, "/")

    async def _to_provider(self, request: Request) -> Response:
        try:
            begun = await self._client.provider_begins()
        except (Unavailable, Rejected):
            return self._page(503, f"{self._provider} can't be reached now.")
        answer = RedirectResponse(begun["url"], 303)
        flow = {"next": _inside(request.query_params.get("next", "/")), **begun}
        flow.pop("url")
        answer.set_cookie(
            self._sessions.flow,
            self._sessions.flows.dumps(flow),
            max_age=FLOW_SECONDS,
            path="/login",
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return answer

    async def _from_provider(self, request: Request) -> Response:
        try:
            flow: dict[str, Any] = self._sessions.flows.loads(
                request.cookies.get(self._sessions.flow, ""), max_age=FLOW_SECONDS
            )
        except BadSignature:
            return self._page(401, "That sign-in was not begun in this browser, or too long ago.")
        query = request.query_params
        if query.get("state") != flow["state"] or "code" not in query:
            return self._page(401, f"{self._provider} did not sign you in.")
        try:
            found = await self._client.sign_in(
                provider_code=query["code"],
                nonce=flow["nonce"],
                verifier=flow["verifier"],
                address=_address(request),
            )
        except Rejected as error:
            return self._page(401, f"{self._provider} did not sign you in: {_plain(error)}")
        except Unavailable:
            return self._page(503, AWAY)
        answer = self._in(request, found, _inside(flow["next"]))
        answer.delete_cookie(self._sessions.flow, path="/login", httponly=True, samesite="lax")
        return answer

    async def _out(self, who: Principal | None) -> Response:
        if who is not None:
            with contextlib.suppress(IndustrialMindError):  # the cookie goes at any rate
                await self._client.sign_out(who.session)
            self._doorkeeper.forget()
        answer = RedirectResponse("/", 303)
        self._sessions.close(answer)
        return answer

    def _in(self, request: Request, found: Mapping[str, str], next_: str) -> Response:
        answer = RedirectResponse(next_, 303)
        who = Principal(found["principal"], found["role"], found["session"])
        self._sessions.open(answer, who, secure=request.url.scheme == "https")
        return answer

    def _page(
        self, status: int, said: str = "", *, title: str = "Sign in", name: str = "", next_: str = "/"
    ) -> Response:
        page = door_page(title, said, name=name, next_=next_, provider=self._provider)
        return HTMLResponse(page, status, {"Cache-Control": "no-store"})


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; of one that is too long, or none, none."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_FORM:
            return {}
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        return {}
    return {key: values[-1] for key, values in fields.items()}


def _inside(wanted: str) -> str:
    """A path of this control room to go on to; the fleet for what leads elsewhere, or back to the door."""
    parts = urlsplit(wanted)
    harmless = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable()
    if not harmless or parts.netloc or parts.path.startswith(("/login", "/logout", "/_dash", "/session")):
        return "/"
    return wanted


def _address(request: Request) -> str:
    return request.client.host[:60] if request.client else ""


def _plain(error: Rejected) -> str:
    return error.reason.rpartition(": ")[2]
