"""Signing in, by password, by link, by an identity that an OIDC provider vouches for; and out again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cloud.people.argon2 import Hasher
from cloud.people.audit import SOURCE
from cloud.people.limits import Attempts
from cloud.people.logic import (
    FIRST_ADMIN,
    SESSION_PREFIX,
    Session,
    User,
    digest,
    new_id,
    new_secret,
    sane_name,
)
from cloud.people.port import Change, PeopleStore
from shared.access import Principal, Role
from shared.clock import Clock
from shared.errors import Conflict, IndustrialMindError, NotFound, Unavailable
from shared.events import Event, at
from shared.people_events import (
    LoginLinkMade,
    SessionEnded,
    SessionRefused,
    SessionStarted,
    UserAdded,
    UserChanged,
)

SYSTEM: Final = "system"
HOUR_US: Final = 3_600_000_000


class NotLetIn(IndustrialMindError):  # noqa: N818 - named by what happened
    """This is not the way in: try another."""


class TooOften(Unavailable):
    """Too many tries: wait."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom an OIDC provider vouches for: `subject` is its issuer and its id of the person."""

    subject: str
    name: str
    display_name: str
    role: Role | None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session as its holder gets it, once: only the secret's hash is kept."""

    secret: str
    session: Session
    user: User


class SignIn:
    """The ways in. Each try is an audit event. All raise Unavailable."""

    def __init__(
        self,
        store: PeopleStore,
        hasher: Hasher,
        clock: Clock,
        *,
        hours: float,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._hasher, self._clock = store, hasher, clock
        self._life_us = int(hours * HOUR_US)
        self._changed = changed
        self._attempts = Attempts(clock)

    async def by_password(self, name: str, password: str, address: str) -> SignedIn:
        """Raises NotLetIn, TooOften. It takes the same time whether or not there is such a user."""
        if wait := self._attempts.take(name, address):
            raise TooOften("too many attempts: wait", retry_after=wait)
        kept = await self._store.users.password(name)
        right = await self._hasher.verify(kept, password)
        user = await self._found(name) if right else None
        if user is None or not user.active or kept is None:
            why = "inactive" if user is not None else "wrong name or password"
            await self._refused(sane_name(name), "password", address, why)
            raise NotLetIn("wrong name or password")
        self._attempts.worked(name)
        if self._hasher.outdated(kept):
            await self._store.users.rehash(name, kept, await self._hasher.hash(password))
        return await self._open(user, "password", address)

    async def by_link(self, code: str, address: str) -> SignedIn:
        """Signs the first administrator in, made at first use. Raises NotFound (no such link), NotLetIn, TooOften."""
        if wait := self._attempts.code(address):
            raise TooOften("too many attempts: wait", retry_after=wait)
        try:
            await self._store.links.redeem(code)
        except NotFound:
            self._attempts.code_failed(address)
            await self._refused(FIRST_ADMIN, "link", address, "no such link")
            raise
        user = await self._found(FIRST_ADMIN)
        if user is None:
            user = User(FIRST_ADMIN, "Administrator", Role.ADMIN)
            try:
                await self._store.users.add(user, None, self._added(user, "link"))
            except Conflict:  # by another link at the same time
                user = await self._store.users.one(FIRST_ADMIN)
        if not user.active:
            await self._refused(FIRST_ADMIN, "link", address, "inactive")
            raise NotLetIn(f"the user {FIRST_ADMIN} is deactivated")
        return await self._open(user, "link", address)

    async def by_identity(self, identity: Identity, address: str) -> SignedIn:
        """Signs somebody in whom a provider vouches for, made or changed as it says. Raises NotLetIn."""
        if identity.role is None:
            await self._refused(sane_name(identity.name), "oidc", address, "no role")
            raise NotLetIn("the provider gives you no role in this plant")
        user = await self._of_provider(identity)
        if user is None or not user.active:
            why = "inactive" if user is not None else "the name is another user's"
            await self._refused(sane_name(identity.name), "oidc", address, why)
            raise NotLetIn("you are deactivated here" if user is not None else f"{why}: ask an administrator")
        return await self._open(user, "oidc", address)

    async def refused_by_provider(self, address: str, why: str) -> None:
        """Write down that a provider's answer was not one to believe."""
        await self._refused("?", "oidc", address, why)

    async def out(self, who: Principal) -> None:
        """End the session that the principal showed. Raises NotFound."""

        def tell(whose: str) -> Event:
            return SessionEnded(**self._envelope(whose), by=who.name, session=who.credential)

        await self._store.credentials.drop_session(who.credential, who.name, tell)
        self._changed()

    def link_event(self, by: str) -> Event:
        """Tells that a link was made."""
        return LoginLinkMade(**self._envelope(FIRST_ADMIN), by=by)

    async def _of_provider(self, identity: Identity) -> User | None:
        """The user of an identity as the provider says it is; None if its name is another user's."""
        assert identity.role is not None  # noqa: S101 - for mypy: asked before
        try:
            user = await self._store.users.by_subject(identity.subject)
        except NotFound:
            user = User(identity.name, identity.display_name, identity.role, subject=identity.subject)
            try:
                await self._store.users.add(user, None, self._added(user, "oidc"))
            except Conflict:
                return None
            return user
        if user.role is identity.role or not user.active:
            return user
        event = UserChanged(
            **self._envelope(user.name),
            by="oidc",
            role=identity.role.value,
            active=user.active,
            display_name=user.display_name,
        )
        changed = await self._store.users.change(user.name, Change(role=identity.role), event)
        self._changed()
        return changed

    async def _open(self, user: User, method: str, address: str) -> SignedIn:
        now_us = self._clock.now_us()
        secret = new_secret(SESSION_PREFIX)
        session = Session(new_id(), user.name, method, now_us, now_us + self._life_us, now_us)
        event = SessionStarted(
            **self._envelope(user.name), by=user.name, session=session.id, method=method, address=address
        )
        await self._store.credentials.add_session(session, digest(secret), event)
        self._changed()
        return SignedIn(secret, session, user)

    async def _found(self, name: str) -> User | None:
        try:
            return await self._store.users.one(name)
        except NotFound:
            return None

    async def _refused(self, name: str, method: str, address: str, why: str) -> None:
        event = SessionRefused(**self._envelope(name), by=name, method=method, address=address, why=why)
        await self._store.outbox.put(event)
        self._changed()

    def _added(self, user: User, origin: str) -> Event:
        return UserAdded(**self._envelope(user.name), by=SYSTEM, role=user.role.value, origin=origin)

    def _envelope(self, subject: str) -> dict[str, Any]:
        return {"source": SOURCE, "subject": subject, "occurred_at": at(self._clock.now_us())}
