"""Users, API tokens, signed access tokens and the keys that sign them, over HTTP."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from cloud.api.examples import ACCESS_TOKEN, KEYS, TOKEN_MADE, TOKENS, USER, USERS, example
from cloud.api.sessions import Id, Parts, Password, Reader, by_session, have
from cloud.people.logic import NAME_PATTERN, ApiToken, User
from cloud.people.port import Change
from shared.access import Principal, Right, Role, Via
from shared.asgi_access import needs
from shared.errors import Rejected
from shared.events import at
from shared.names import INFERENCE_API

KEYS_PATH = "/v1/keys"
"""Public keys are public: the one endpoint besides the probes that asks for no token."""
MAX_DAYS = 3650
Administrator = Annotated[Principal, Depends(needs(Right.ADMINISTER))]
Name = Annotated[str, Path(max_length=100, pattern=rf"^{NAME_PATTERN}$")]
Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
_ONE_LINE = "one line of text"


class UserShown(BaseModel):
    """A user. `provider`: an OIDC provider vouches for them; `password`: they can sign in by one."""

    name: str
    display_name: str
    role: Role
    active: bool
    provider: bool
    password: bool
    created_at: AwareDatetime


class UserList(BaseModel):
    """Everybody, by name."""

    users: tuple[UserShown, ...]


class NewUser(BaseModel):
    """A user to be. With no password they can sign in by none until one is set."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=100, pattern=rf"^{NAME_PATTERN}$")
    display_name: Text = Field("", description=_ONE_LINE)
    role: Role
    password: Password | None = None


class UserChange(BaseModel):
    """What becomes of a user; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = None
    active: bool | None = None
    display_name: Text | None = Field(None, description=_ONE_LINE)


class NewPassword(BaseModel):
    """A password."""

    model_config = ConfigDict(extra="forbid")

    password: Password


class TokenShown(BaseModel):
    """A token without its secret. `used_at` is a minute's precise."""

    id: str
    owner: str
    label: str
    scopes: tuple[Right, ...]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    used_at: AwareDatetime | None


class TokenList(BaseModel):
    """Tokens, oldest first."""

    tokens: tuple[TokenShown, ...]


class NewToken(BaseModel):
    """A token to be; of another `owner` only by an administrator. No `expires_in_days`: until it is revoked."""

    model_config = ConfigDict(extra="forbid")

    label: Text = Field("", description=_ONE_LINE)
    scopes: tuple[Right, ...] = Field((Right.READ,), min_length=1, max_length=len(Right))
    expires_in_days: float | None = Field(90.0, gt=0, le=MAX_DAYS)
    owner: str | None = Field(None, max_length=100, pattern=rf"^{NAME_PATTERN}$")


class TokenMade(TokenShown):
    """The same with its secret, told this once."""

    token: str


class AccessTokenRequest(BaseModel):
    """For whom, and with which of one's rights; none named: all."""

    model_config = ConfigDict(extra="forbid")

    audience: Literal["data-api", "inference-api"] = INFERENCE_API
    scopes: tuple[Right, ...] | None = Field(None, max_length=len(Right))


class AccessToken(BaseModel):
    """A signed token. Nothing revokes it: it is good for ten minutes."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a word, no secret
    audience: str
    scopes: tuple[Right, ...]
    expires_at: AwareDatetime


class NewKey(BaseModel):
    """`at_once`: what the key before has signed is good no more; else for 20 min."""

    model_config = ConfigDict(extra="forbid")

    at_once: bool = False


class KeyMade(BaseModel):
    """The id of the key that signs from now on."""

    id: str


def users_router(parts: Parts | None) -> APIRouter:
    """`/v1/users`: the administrator's."""
    router = APIRouter(tags=["people"])

    @router.get("/v1/users", responses=example(USERS))
    async def list_users(_: Administrator) -> UserList:
        """Every user, by name."""
        return UserList(users=tuple(_user(user) for user in await have(parts).people.users()))

    @router.post("/v1/users", status_code=201, responses=example(USER, 201))
    async def add_user(given: NewUser, by: Administrator) -> UserShown:
        """Make a user."""
        made = await have(parts).people.add(
            given.name, given.display_name, given.role, given.password, by=by.name
        )
        return _user(made)

    @router.get("/v1/users/{name}", responses=example(USER))
    async def one_user(name: Name, _: Administrator) -> UserShown:
        """One user."""
        return _user(await have(parts).people.user(name))

    @router.patch("/v1/users/{name}", responses=example(USER))
    async def change_user(name: Name, given: UserChange, by: Administrator) -> UserShown:
        """Another role, state or display name, in force within two seconds. Deactivated, their sessions end."""
        change = Change(given.role, given.active, given.display_name)
        return _user(await have(parts).people.change(name, change, by=by.name))

    @router.put("/v1/users/{name}/password", status_code=204)
    async def set_password(name: Name, given: NewPassword, by: Administrator) -> None:
        """Set a user's password; their sessions end."""
        by_session(by)
        await have(parts).people.set_password(name, given.password, by=by.name)

    return router


def tokens_router(parts: Parts | None) -> APIRouter:
    """`/v1/tokens`: one's own; an administrator's, everybody's."""
    router = APIRouter(tags=["people"])

    @router.get("/v1/tokens", responses=example(TOKENS))
    async def list_tokens(
        who: Reader,
        owner: Annotated[
            str, Query(max_length=100, pattern=rf"^({NAME_PATTERN})?$", description="empty: everybody's")
        ] = "",
    ) -> TokenList:
        """One's own tokens; for an administrator everybody's, or those of `owner`."""
        administers = who.may(Right.ADMINISTER)
        if owner not in {"", who.name} and not administers:
            raise HTTPException(403, "only administrators see other users' tokens")
        whose = (owner or None) if administers else who.name
        return TokenList(tokens=tuple(_token(token) for token in await have(parts).people.tokens(whose)))

    @router.post("/v1/tokens", status_code=201, responses=example(TOKEN_MADE, 201))
    async def add_token(given: NewToken, who: Reader) -> TokenMade:
        """Make a token with some of one's rights. Its secret is told this once. Not by a token."""
        by_session(who)
        if who.via is Via.SERVICE and given.owner is None:
            raise Rejected("whose is it? a service of the plant has no tokens: name the owner")
        owner = given.owner or who.name
        if owner != who.name and not who.may(Right.ADMINISTER):
            raise HTTPException(403, "only administrators make other users' tokens")
        if beyond := [right.value for right in given.scopes if not who.may(right)]:
            raise HTTPException(403, f"you have not the right to {beyond[0]}")
        secret, token = await have(parts).people.add_token(
            owner, given.label, given.scopes, given.expires_in_days, by=who.name
        )
        return TokenMade(token=secret, **_token(token).model_dump())

    @router.delete("/v1/tokens/{token}", status_code=204)
    async def drop_token(token: Id, who: Reader) -> None:
        """Revoke one of one's own tokens; an administrator anybody's. It lets nobody in after two seconds."""
        owner = None if who.may(Right.ADMINISTER) else who.name
        await have(parts).people.drop_token(token, owner, by=who.name)

    @router.post("/v1/access-tokens", status_code=201, responses=example(ACCESS_TOKEN, 201))
    async def access_token(given: AccessTokenRequest, who: Reader) -> AccessToken:
        """A signed token for another service, which verifies it by the public keys. Not by a signed token."""
        if who.via is Via.SIGNED:
            raise HTTPException(403, "a signed token can't be prolonged: show a session or an API token")
        made = (await have(parts).keys.issuer()).issue(who, given.audience, given.scopes)
        return AccessToken(
            access_token=made.token,
            audience=given.audience,
            scopes=tuple(right for right in Right if right in made.rights),
            expires_at=at(made.expires_us),
        )

    return router


def keys_router(parts: Parts | None) -> APIRouter:
    """The keys that sign access tokens."""
    router = APIRouter(tags=["people"])

    @router.get("/v1/keys", responses=example(KEYS))
    async def key_set() -> dict[str, list[dict[str, Any]]]:
        """The public keys as a key set (RFC 7517). No token is needed."""
        return await have(parts).keys.key_set()

    @router.post("/v1/keys", status_code=201)
    async def rotate(given: NewKey, by: Administrator) -> KeyMade:
        """Sign by a new key from now on."""
        return KeyMade(id=await have(parts).keys.rotate(by=by.name, at_once=given.at_once))

    return router


def _user(user: User) -> UserShown:
    return UserShown(
        name=user.name,
        display_name=user.display_name,
        role=user.role,
        active=user.active,
        provider=bool(user.subject),
        password=user.has_password,
        created_at=at(user.created_us),
    )


def _token(token: ApiToken) -> TokenShown:
    return TokenShown(
        id=token.id,
        owner=token.owner,
        label=token.label,
        scopes=tuple(right for right in Right if right in token.scopes),
        created_at=at(token.created_us),
        expires_at=at(token.expires_us) if token.expires_us else None,
        used_at=at(token.used_us) if token.used_us else None,
    )
