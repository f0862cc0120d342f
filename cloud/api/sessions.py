"""Signing in and out, and who one is. The control room's server signs people in; whoever is in asks for the rest."""

from dataclasses import asdict, dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from cloud.api.access import CLI, UI, only
from cloud.api.examples import ME, SESSIONS, SIGNED_IN, example
from cloud.people.app import Keys, People
from cloud.people.authlib import Provider
from cloud.people.logic import PASSWORD_MAX, Session
from cloud.people.port import LoginLinks
from cloud.people.signin import NotLetIn, SignedIn, SignIn, TooOften
from shared.access import Principal, Right, Via
from shared.asgi_access import needs
from shared.errors import NotFound, Unavailable
from shared.events import at
from shared.problems import documented, problem

Reader = Annotated[Principal, Depends(needs(Right.READ))]
Server = Annotated[Principal, Depends(only((UI, CLI)))]
Id = Annotated[str, Path(pattern=r"^[0-9a-f]{1,40}$")]
Password = Annotated[str, Field(min_length=1, max_length=PASSWORD_MAX)]
Address = Annotated[str, Field("", max_length=60, description="the browser's, for the limits and the audit")]


@dataclass(frozen=True, slots=True)
class Parts:
    """What answers about people."""

    people: People
    sign_in: SignIn
    keys: Keys
    links: LoginLinks
    provider: Provider | None = None


class ByPassword(BaseModel):
    """A name and its password."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100)
    password: Password
    address: Address


class ByLink(BaseModel):
    """The code of a one-time link."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(min_length=1, max_length=200)
    address: Address


class ByProvider(BaseModel):
    """What a browser came back with from the OIDC provider, and what it had been sent there with."""

    model_config = ConfigDict(extra="forbid")

    provider_code: str = Field(min_length=1, max_length=4096)
    nonce: str = Field(min_length=1, max_length=200)
    verifier: str = Field(min_length=1, max_length=200)
    address: Address


class ProviderBegun(BaseModel):
    """Where to send the browser, and what it has to come back with: each for one browser alone."""

    url: str
    state: str
    nonce: str
    verifier: str


class SignedInAnswer(BaseModel):
    """A session: `session` is its secret, told this once."""

    session: str
    id: str
    principal: str
    role: str
    expires_at: AwareDatetime


class Me(BaseModel):
    """Who asks, by what they showed it, and what they may."""

    name: str
    role: str
    rights: tuple[str, ...]
    via: str
    credential: str


class SessionShown(BaseModel):
    """A session, `current` if it is the one that was shown."""

    id: str
    method: str
    created_at: AwareDatetime
    seen_at: AwareDatetime
    expires_at: AwareDatetime
    current: bool


class SessionList(BaseModel):
    """Sessions, newest first."""

    sessions: tuple[SessionShown, ...]


class PasswordChange(BaseModel):
    """One's password, and another."""

    model_config = ConfigDict(extra="forbid")

    current: Password
    new: Password


class LinkMade(BaseModel):
    """The code of a link that signs its holder in once."""

    code: str
    expires_at: AwareDatetime


def have(parts: Parts | None) -> Parts:
    """The parts. Raises Unavailable where there is no database."""
    if parts is None:
        raise Unavailable("no people are kept here: api.app_url names no database", retry_after=60.0)
    return parts


def by_session(who: Principal) -> Principal:
    """The principal, if a session or a service's token was shown: no token makes another. Raises HTTPException (403)."""
    if who.via not in {Via.SESSION, Via.SERVICE}:
        raise HTTPException(403, f"a {who.via} token can't do this: sign in")
    return who


def sign_in_router(parts: Parts | None) -> APIRouter:
    """The ways in: for the plant's own services."""
    router = APIRouter(tags=["people"])

    @router.post("/v1/login-links", status_code=201)
    async def make_link(who: Annotated[Principal, Depends(only((CLI,)))]) -> LinkMade:
        """Make a link that logs its holder in once, as the first administrator, within ten minutes."""
        there = have(parts)
        link = await there.links.make(there.sign_in.link_event(who.name))
        return LinkMade(code=link.code, expires_at=at(link.expires_us))

    @router.post("/v1/oidc", responses=documented(404))
    async def begin_oidc(_: Server) -> ProviderBegun:
        """Begin a sign-in by the OIDC provider of the settings."""
        begun = await _provider(have(parts)).begin()
        return ProviderBegun(**asdict(begun))

    @router.post(
        "/v1/sessions",
        status_code=201,
        response_model=SignedInAnswer,
        responses=example(SIGNED_IN, 201) | documented(410),
    )
    async def sign_in(given: ByPassword | ByLink | ByProvider, _: Server) -> SignedInAnswer | Response:
        """Sign somebody in: by name and password, by the code of a link, or by what an OIDC provider sent back."""
        there = have(parts)
        try:
            match given:
                case ByPassword():
                    done = await there.sign_in.by_password(given.name, given.password, given.address)
                case ByLink():
                    done = await there.sign_in.by_link(given.code, given.address)
                case ByProvider():
                    done = await _by_provider(there, given)
        except NotFound as error:
            return problem(410, f"{error}: make another with industrialmind login-link")
        except (NotLetIn, TooOften) as error:
            return refused(error)
        return signed_in(done)

    return router


def sessions_router(parts: Parts | None) -> APIRouter:
    """`/v1/sessions` and `/v1/me`: one's own."""
    router = APIRouter(tags=["people"])

    @router.get("/v1/sessions", responses=example(SESSIONS))
    async def list_sessions(who: Reader) -> SessionList:
        """One's own sessions, newest first."""
        found = await have(parts).people.sessions(who.name)
        return SessionList(sessions=tuple(_shown(session, who) for session in found))

    @router.delete("/v1/sessions/current", status_code=204)
    async def sign_out(who: Reader) -> None:
        """End the session that was shown."""
        if who.via is not Via.SESSION:
            raise NotFound("no session was shown")
        await have(parts).sign_in.out(who)

    @router.delete("/v1/sessions/{session}", status_code=204)
    async def end_session(session: Id, who: Reader) -> None:
        """End one of one's own sessions; an administrator anybody's."""
        owner = None if who.may(Right.ADMINISTER) else who.name
        await have(parts).people.drop_session(session, owner, by=who.name)

    @router.get("/v1/me", responses=example(ME))
    async def me(who: Reader) -> Me:
        """Who asks, and what they may."""
        rights = tuple(right.value for right in Right if who.may(right))
        return Me(
            name=who.name, role=who.role.value, rights=rights, via=who.via.value, credential=who.credential
        )

    @router.put("/v1/me/password", status_code=204)
    async def change_password(given: PasswordChange, who: Reader) -> None:
        """Change one's own password; one's other sessions end."""
        by_session(who)
        people = have(parts).people
        if not await people.is_password(who.name, given.current):
            raise HTTPException(403, "that is not your password")
        await people.set_password(who.name, given.new, by=who.name, keep=who.credential)

    return router


async def _by_provider(parts: Parts, given: ByProvider) -> SignedIn:
    provider = _provider(parts)
    try:
        identity = await provider.identity(given.provider_code, given.nonce, given.verifier)
    except NotLetIn as error:
        await parts.sign_in.refused_by_provider(given.address, str(error)[:300])
        raise
    return await parts.sign_in.by_identity(identity, given.address)


def _provider(parts: Parts) -> Provider:
    if parts.provider is None:
        raise HTTPException(404, "there is no OIDC provider: api.oidc.issuer names none")
    return parts.provider


def signed_in(done: SignedIn) -> SignedInAnswer:
    """The answer to whoever signed in."""
    return SignedInAnswer(
        session=done.secret,
        id=done.session.id,
        principal=done.user.name,
        role=done.user.role.value,
        expires_at=at(done.session.expires_us),
    )


def refused(error: NotLetIn | TooOften) -> Response:
    """The answer to whoever could not."""
    if isinstance(error, TooOften):
        return problem(429, str(error), {"Retry-After": str(max(1, round(error.retry_after)))})
    return problem(401, str(error))


def _shown(session: Session, who: Principal) -> SessionShown:
    return SessionShown(
        id=session.id,
        method=session.method,
        created_at=at(session.created_us),
        seen_at=at(session.seen_us),
        expires_at=at(session.expires_us),
        current=session.id == who.credential,
    )
