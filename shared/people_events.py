"""Events of the topic `audit` about people: who may what, and who came to the door."""

from typing import ClassVar

from shared.event import Event, Moment


class _PeopleEvent(Event):
    """A change about people, or somebody at the door; the subject is the user. `by` is who did it."""

    identity: ClassVar[tuple[str, ...]] = ("by", "occurred_at")

    by: str


class UserAdded(_PeopleEvent):
    """A user exists. `origin`: `local`, `link` (the first administrator), or `oidc`."""

    type: ClassVar[str] = "user.added"

    role: str
    origin: str


class UserChanged(_PeopleEvent):
    """A user's role, state or display name is another; these are the ones from now on."""

    type: ClassVar[str] = "user.changed"

    role: str
    active: bool
    display_name: str


class UserPasswordSet(_PeopleEvent):
    """A user has another password; their sessions ended."""

    type: ClassVar[str] = "user.password-set"


class TokenMade(_PeopleEvent):
    """A user has another API token; `expires_at` null: it does not expire."""

    type: ClassVar[str] = "token.made"
    identity: ClassVar[tuple[str, ...]] = ("token",)

    token: str
    label: str
    scopes: tuple[str, ...]
    expires_at: Moment | None


class TokenRevoked(_PeopleEvent):
    """An API token lets nobody in any more."""

    type: ClassVar[str] = "token.revoked"
    identity: ClassVar[tuple[str, ...]] = ("token",)

    token: str


class SessionStarted(_PeopleEvent):
    """Somebody signed in, by `method`: `password`, `link`, `oidc`."""

    type: ClassVar[str] = "session.started"
    identity: ClassVar[tuple[str, ...]] = ("session",)

    session: str
    method: str
    address: str


class SessionRefused(_PeopleEvent):
    """Somebody could not sign in as the subject, which is `?` where no such name was given."""

    type: ClassVar[str] = "session.refused"
    identity: ClassVar[tuple[str, ...]] = ("method", "address", "occurred_at")

    method: str
    address: str
    why: str


class SessionEnded(_PeopleEvent):
    """A session was ended before its time, by its holder or by an administrator."""

    type: ClassVar[str] = "session.ended"
    identity: ClassVar[tuple[str, ...]] = ("session",)

    session: str


class LoginLinkMade(_PeopleEvent):
    """A one-time link that signs the subject in exists."""

    type: ClassVar[str] = "login-link.made"


class SigningKeyMade(_PeopleEvent):
    """Access tokens are signed by another key (the subject); the one before is good until `old_until`."""

    type: ClassVar[str] = "signing-key.made"
    identity: ClassVar[tuple[str, ...]] = ("occurred_at",)

    old_until: Moment
