"""People as administrators see to them: users, tokens, sessions, the keys that sign access tokens."""

from collections.abc import Callable, Collection
from typing import Any, Final

from cloud.people.argon2 import Hasher
from cloud.people.audit import SOURCE
from cloud.people.logic import (
    TOKEN_PREFIX,
    ApiToken,
    Session,
    User,
    check_name,
    check_password,
    digest,
    new_id,
    new_secret,
)
from cloud.people.port import Change, PeopleStore
from shared.access import Right, Role
from shared.clock import MICROSECONDS, Clock
from shared.errors import Rejected
from shared.events import at
from shared.joserfc import LIFE_SECONDS, Issuer, SigningKey
from shared.people_events import (
    SessionEnded,
    SigningKeyMade,
    TokenMade,
    TokenRevoked,
    UserAdded,
    UserChanged,
    UserPasswordSet,
)

KEYS_SECONDS: Final = 60.0
"""How old the keys in hand may be: another process may have made a newer one."""
OLD_KEY_US: Final = (LIFE_SECONDS + 600) * MICROSECONDS
"""How long the key before is still published: a token's life, and what verifiers keep."""


class People:
    """What can be done about people. All raise Unavailable. `by` is who does it."""

    def __init__(
        self, store: PeopleStore, hasher: Hasher, clock: Clock, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._store, self._hasher, self._clock, self._changed = store, hasher, clock, changed

    async def users(self) -> list[User]:
        """Everybody, by name."""
        return await self._store.users.all()

    async def user(self, name: str) -> User:
        """Raises NotFound."""
        return await self._store.users.one(name)

    async def add(self, name: str, display_name: str, role: Role, password: str | None, *, by: str) -> User:
        """A new user; with no password they can't sign in by one. Raises Rejected, Conflict."""
        check_name(name)
        if password is not None:
            check_password(name, password)
        kept = None if password is None else await self._hasher.hash(password)
        user = User(name, display_name or name, role, has_password=password is not None)
        event = UserAdded(**self._envelope(name), by=by, role=role.value, origin="local")
        await self._store.users.add(user, kept, event)
        self._changed()
        return await self._store.users.one(name)

    async def change(self, name: str, change: Change, *, by: str) -> User:
        """Another role, state or display name, in force within two seconds. Raises NotFound."""
        user = await self._store.users.one(name)
        event = UserChanged(
            **self._envelope(name),
            by=by,
            role=(change.role or user.role).value,
            active=user.active if change.active is None else change.active,
            display_name=user.display_name if change.display_name is None else change.display_name,
        )
        changed = await self._store.users.change(name, change, event)
        self._changed()
        return changed

    async def set_password(self, name: str, password: str, *, by: str, keep: str = "") -> None:
        """Another password; every session but `keep` ends. Raises NotFound, Rejected."""
        check_password(name, password)
        event = UserPasswordSet(**self._envelope(name), by=by)
        await self._store.users.set_password(name, await self._hasher.hash(password), event, keep=keep)
        self._changed()

    async def is_password(self, name: str, password: str) -> bool:
        """Whether it is theirs."""
        return await self._hasher.verify(await self._store.users.password(name), password)

    async def tokens(self, owner: str | None) -> list[ApiToken]:
        """A user's, or everybody's."""
        return await self._store.credentials.tokens(owner)

    async def add_token(
        self, owner: str, label: str, scopes: Collection[Right], days: float | None, *, by: str
    ) -> tuple[str, ApiToken]:
        """The secret, known from now on to its holder alone, and the token. Raises NotFound, Rejected."""
        now_us = self._clock.now_us()
        expires_us = 0 if days is None else now_us + int(days * 86_400 * MICROSECONDS)
        if not scopes:
            raise Rejected("a token needs at least one scope")
        secret = new_secret(TOKEN_PREFIX)
        token = ApiToken(new_id(), owner, label, frozenset(scopes), now_us, expires_us)
        event = TokenMade(
            **self._envelope(owner),
            by=by,
            token=token.id,
            label=label,
            scopes=tuple(right.value for right in Right if right in token.scopes),
            expires_at=at(expires_us) if expires_us else None,
        )
        await self._store.credentials.add_token(token, digest(secret), event)
        self._changed()
        return secret, token

    async def drop_token(self, token: str, owner: str | None, *, by: str) -> None:
        """Revoke it; of nobody but `owner` where that is given. Raises NotFound."""

        def tell(whose: str) -> TokenRevoked:
            return TokenRevoked(**self._envelope(whose), by=by, token=token)

        await self._store.credentials.drop_token(token, owner, tell)
        self._changed()

    async def sessions(self, owner: str) -> list[Session]:
        """A user's."""
        return await self._store.credentials.sessions(owner)

    async def drop_session(self, session: str, owner: str | None, *, by: str) -> None:
        """End it; nobody's but `owner`'s where that is given. Raises NotFound."""

        def tell(whose: str) -> SessionEnded:
            return SessionEnded(**self._envelope(whose), by=by, session=session)

        await self._store.credentials.drop_session(session, owner, tell)
        self._changed()

    def _envelope(self, subject: str) -> dict[str, Any]:
        return {"source": SOURCE, "subject": subject, "occurred_at": at(self._clock.now_us())}


class Keys:
    """The issuer of access tokens, by the keys in the database; the first is made at first use."""

    def __init__(self, store: PeopleStore, clock: Clock, changed: Callable[[], None] = lambda: None) -> None:
        self._store, self._clock, self._changed = store, clock, changed
        self._issuer: Issuer | None = None
        self._read = 0.0

    async def issuer(self) -> Issuer:
        """With the keys as they are, at most a minute old. Raises Unavailable."""
        now = self._clock.monotonic()
        if self._issuer is None or now - self._read >= KEYS_SECONDS:
            kept = await self._store.keys.all()
            if not kept:
                await self.rotate(by="system")
                kept = await self._store.keys.all()
            self._issuer, self._read = Issuer([SigningKey.from_json(pair) for pair in kept], self._clock), now
        return self._issuer

    async def rotate(self, *, by: str, at_once: bool = False) -> str:
        """Sign by a new key, whose id this returns. The one before is good for 20 min more, or no more `at_once`."""
        key = SigningKey.new()
        now_us = self._clock.now_us()
        until_us = now_us if at_once else now_us + OLD_KEY_US
        event = SigningKeyMade(
            source=SOURCE, subject=key.id, occurred_at=at(now_us), by=by, old_until=at(until_us)
        )
        await self._store.keys.add(key.id, key.to_json(), until_us, event)
        self._issuer = None
        self._changed()
        return key.id

    async def key_set(self) -> dict[str, Any]:
        """The public keys. Raises Unavailable."""
        return (await self.issuer()).key_set()
