"""The ports of what is kept about people. What changes something takes the audit event that tells of it.

Change and event are one transaction: the event waits in the outbox until the log has it. All raise Unavailable.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from cloud.people.logic import ApiToken, Credential, LoginLink, Session, User
from shared.access import Role
from shared.clock import Clock
from shared.events import Event

Tell = Callable[[str], Event]
"""Makes the event of whose thing it was."""


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a user; None leaves it as it is."""

    role: Role | None = None
    active: bool | None = None
    display_name: str | None = None


class Users(Protocol):
    """People by name."""

    async def all(self) -> list[User]:
        """Every user, by name."""
        ...

    async def one(self, name: str) -> User:
        """Raises NotFound."""
        ...

    async def by_subject(self, subject: str) -> User:
        """Whom an OIDC provider vouches for under this subject. Raises NotFound."""
        ...

    async def password(self, name: str) -> str | None:
        """The password's hash; None: there is no such user, or no password."""
        ...

    async def add(self, user: User, password: str | None, event: Event) -> None:
        """A new user. Raises Conflict (the name or the subject is taken), Rejected (too many)."""
        ...

    async def change(self, name: str, change: Change, event: Event) -> User:
        """The user after it. Who is no longer active has no session any more. Raises NotFound."""
        ...

    async def set_password(self, name: str, password: str, event: Event, *, keep: str = "") -> None:
        """Take a hash, and end the user's sessions but `keep`. Raises NotFound."""
        ...

    async def rehash(self, name: str, old: str, new: str) -> None:
        """Take a stronger hash of the same password, if it is still the same."""
        ...


class Credentials(Protocol):
    """API tokens and sessions, by their hash."""

    async def find(self, digest: bytes) -> Credential | None:
        """The token or session of this hash, with its owner as of now."""
        ...

    async def used(self, found: Credential, now_us: int) -> None:
        """It was used; kept a minute's precise."""
        ...

    async def tokens(self, owner: str | None = None) -> list[ApiToken]:
        """A user's, or all; oldest first."""
        ...

    async def add_token(self, token: ApiToken, digest: bytes, event: Event) -> None:
        """Raises NotFound (no such user), Rejected (too many)."""
        ...

    async def drop_token(self, token: str, owner: str | None, tell: Tell) -> None:
        """Revoke it. Raises NotFound: there is none, or it is not `owner`'s."""
        ...

    async def sessions(self, owner: str) -> list[Session]:
        """A user's, newest first, without those that are over."""
        ...

    async def add_session(self, session: Session, digest: bytes, event: Event) -> None:
        """Raises NotFound (no such user)."""
        ...

    async def drop_session(self, session: str, owner: str | None, tell: Tell) -> None:
        """End it. Raises NotFound: there is none, or it is not `owner`'s."""
        ...


class LoginLinks(Protocol):
    """Links that log a person in once. They survive a restart."""

    async def make(self, event: Event) -> LoginLink:
        """A new link, durable on return."""
        ...

    async def redeem(self, code: str) -> None:
        """Use a link up. Raises NotFound: unknown, expired or used, which look the same."""
        ...


class SigningKeys(Protocol):
    """The pairs that sign access tokens, as text, newest first."""

    async def all(self) -> list[str]:
        """Those that are good now."""
        ...

    async def add(self, key_id: str, pair: str, old_until_us: int, event: Event) -> None:
        """A newer one; the older ones are good until then, if not for shorter."""
        ...


class Outbox(Protocol):
    """Audit events that the log does not have yet, bounded."""

    async def put(self, event: Event) -> bool:
        """Keep an event that may be spared (a sign-in that failed); False if there was no room for it."""
        ...

    async def waiting(self, most: int) -> Sequence[tuple[int, str, bytes]]:
        """The oldest: number, id, event."""
        ...

    async def sent(self, through: int) -> None:
        """The log has those up to this number."""
        ...


@dataclass(frozen=True, slots=True)
class PeopleStore:
    """All of it, in one database."""

    users: Users
    credentials: Credentials
    links: LoginLinks
    keys: SigningKeys
    outbox: Outbox
    ping: Callable[[], Awaitable[None]]
    """Returns if the database answers."""


@asynccontextmanager
async def open_people(url: str, clock: Clock) -> AsyncIterator[PeopleStore]:
    """What is behind `url`: `sqlite:///PATH` (four slashes for an absolute one) or `postgresql://…`.

    Raises Misconfigured (unknown scheme, not such a database, a later release's), Unavailable.
    """
    from cloud.people.sql import open_sql  # noqa: PLC0415 - SQLAlchemy loads only where it is used

    async with open_sql(url, clock) as store:
        yield store
