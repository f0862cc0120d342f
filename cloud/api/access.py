"""Whose bearer token it is at the data API: a service's, a session's, an API token's, or one signed here.

What the database said is believed for two seconds, so that a principal that asks often costs it a read in two seconds;
what is changed in this process counts at once, in another one after those two seconds.
"""

import asyncio
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from cloud.api.settings import ApiSettings
from cloud.people.app import Keys
from cloud.people.logic import NAMES_OF_SERVICES, SESSION_PREFIX, TOKEN_PREFIX, digest
from cloud.people.port import PeopleStore
from shared.access import RIGHTS, Principal, Role, Via
from shared.asgi_access import Verify, principal
from shared.clock import MICROSECONDS, Clock
from shared.errors import NotFound, Unavailable
from shared.joserfc import SignedTokens
from shared.names import DATA_API

CLI: Final = Principal.of("cli", Role.ADMIN, via=Via.SERVICE)
"""The command line's principal: the plant's administrator."""
UI: Final = Principal.of("ui", Role.VIEWER, via=Via.SERVICE)
"""The control room's server."""

BELIEVED_SECONDS: Final = 2.0
MAX_BELIEVED: Final = 10_000
MAX_SECRET: Final = 100
HOUR_US: Final = 3600 * MICROSECONDS

Lookup = Callable[[], Awaitable[Principal | None]]


def fixed_tokens(tokens: Mapping[Principal, str]) -> Verify:
    """Knows these tokens; an empty one admits nobody. All are compared, each in constant time."""
    known = [(who, token.encode()) for who, token in tokens.items() if token]

    async def verify(given: str) -> Principal | None:
        found = [who for who, token in known if hmac.compare_digest(given.encode(), token)]
        return found[0] if found else None

    return verify


def service_tokens(settings: ApiSettings) -> Verify:
    """Knows the plant's own services, by the tokens of the settings."""
    return fixed_tokens({CLI: settings.token.get_secret_value(), UI: settings.ui_token.get_secret_value()})


@dataclass(frozen=True, slots=True)
class only:  # noqa: N801 - reads as a word where an endpoint says whom it serves
    """A dependency: who asks, if it is one of these services. It raises HTTPException (403) for anybody else."""

    services: tuple[Principal, ...]

    def __call__(self, connection: HTTPConnection) -> Principal:
        """The principal. Raises HTTPException."""
        who = principal(connection)
        if who not in self.services:
            names = " and ".join(service.name for service in self.services)
            raise HTTPException(403, f"only {names} of this plant may ask this")
        return who


class Gate:
    """Verifies every kind of token. Raises Unavailable while the database is away, but for services."""

    def __init__(
        self, fixed: Verify, store: PeopleStore, keys: Keys, clock: Clock, *, idle_hours: float
    ) -> None:
        self._fixed, self._store, self._keys, self._clock = fixed, store, keys, clock
        self._idle_us = int(idle_hours * HOUR_US)
        self._believed: OrderedDict[bytes, tuple[Principal | None, float]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Principal | None]] = {}
        self._signed = SignedTokens(keys.key_set, DATA_API, clock)

    def forget(self) -> None:
        """Something changed: ask anew from now on, those who ask already too."""
        self._believed.clear()
        self._asking.clear()
        self._signed = SignedTokens(self._keys.key_set, DATA_API, self._clock)

    async def verify(self, given: str) -> Principal | None:
        """Whose token it is now. Fits `shared.asgi_access.Access`."""
        who = await self._fixed(given)
        if who is not None:
            return who
        if given.startswith((SESSION_PREFIX, TOKEN_PREFIX)):
            return await self._kept(given) if len(given) <= MAX_SECRET else None
        signed = await self._signed.verify(given)
        return None if signed is None else await self._still(signed)

    async def _kept(self, given: str) -> Principal | None:
        key = digest(given)

        async def look() -> Principal | None:
            found = await self._store.credentials.find(key)
            now_us = self._clock.now_us()
            who = None if found is None else found.principal(now_us, self._idle_us)
            if found is not None and who is not None:
                await self._store.credentials.used(found, now_us)
            return who

        return await self._believe(key, look)

    async def _still(self, signed: Principal) -> Principal | None:
        """A signed token is good only while its holder is active, and for what the holder's role gives now."""
        if signed.name in NAMES_OF_SERVICES:
            return signed

        async def look() -> Principal | None:
            try:
                user = await self._store.users.one(signed.name)
            except NotFound:
                return None
            return Principal.of(user.name, user.role) if user.active else None

        now = await self._believe(b"user " + signed.name.encode(), look)
        return (
            None if now is None else replace(signed, role=now.role, rights=signed.rights & RIGHTS[now.role])
        )

    async def _believe(self, key: bytes, look: Lookup) -> Principal | None:
        """What was found lately, or what is found now, by one look for all who ask meanwhile."""
        now = self._clock.monotonic()
        who, until = self._believed.get(key, (None, 0.0))
        if now < until:
            return who
        asking = self._asking.get(key)
        if asking is None:
            if len(self._asking) >= MAX_BELIEVED:
                raise Unavailable("too many tokens are being looked up")
            asking = asyncio.create_task(self._ask(key, look), name="token look-up")
            asking.add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )  # if nobody waits any more
            self._asking[key] = asking
        return await asyncio.shield(asking)

    async def _ask(self, key: bytes, look: Lookup) -> Principal | None:
        mine = asyncio.current_task()
        try:
            who = await look()
            if self._asking.get(key) is mine:  # else something changed meanwhile
                self._believed[key] = (who, self._clock.monotonic() + BELIEVED_SECONDS)
                self._believed.move_to_end(key)
                if len(self._believed) > MAX_BELIEVED:
                    self._believed.popitem(last=False)
            return who
        finally:
            if self._asking.get(key) is mine:
                del self._asking[key]
