"""Verifying signed tokens by the issuer's public keys, fetched over HTTP.

Keys are kept for five minutes. A token of an unknown key makes them be fetched anew, at most once in five seconds, so
that nobody can make this service ask without end. What was verified is remembered until it expires, bounded.
"""

import asyncio
import base64
import hashlib
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from joserfc.jwt import JWTClaimsRegistry

from shared.access import Principal, Right, Role, Via
from shared.clock import MICROSECONDS, Clock, SystemClock
from shared.errors import Unavailable
from shared.joserfc.issuer import ALGORITHM, ISSUER, TYPE

KEEP_SECONDS: Final = 300.0
RETRY_SECONDS: Final = 5.0
LEEWAY_SECONDS: Final = 30
FETCH_SECONDS: Final = 5.0
REMEMBERED: Final = 4096
MAX_TOKEN: Final = 4096

KeySet = Mapping[str, Any]
Fetch = Callable[[], Awaitable[KeySet]]
"""The issuer's key set (RFC 7517). Raises Unavailable."""


class SignedTokens:
    """Whose signed token it is. `verify` fits `shared.asgi_access.Access`."""

    def __init__(self, fetch: Fetch, audience: str, clock: Clock) -> None:
        self._fetch, self._audience, self._clock = fetch, audience, clock
        self._keys: dict[str, OKPKey] = {}
        self._fetched = self._tried = -math.inf
        self._fetching = asyncio.Lock()
        self._known: OrderedDict[bytes, tuple[Principal, int]] = OrderedDict()

    async def verify(self, token: str) -> Principal | None:
        """Its principal; None if it is no token for this audience, or good no more.

        Raises Unavailable if the issuer's keys were never had, or not for long, and can't be fetched.
        """
        if len(token) > MAX_TOKEN or token.count(".") != 2:  # noqa: PLR2004 - header, claims, signature
            return None
        await self._refresh(KEEP_SECONDS)
        now = self._clock.now_us() // MICROSECONDS
        digest = hashlib.sha256(token.encode()).digest()
        if (known := self._known.get(digest)) is not None:
            self._known.move_to_end(digest)
            return known[0] if now < known[1] + LEEWAY_SECONDS else None
        kid = _key_id(token)
        if kid not in self._keys:
            await self._refresh(RETRY_SECONDS)
        if kid not in self._keys:
            return None
        found = self._checked(token, self._keys[kid], now)
        if found is None:
            return None
        self._known[digest] = found
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return found[0]

    def _checked(self, token: str, key: OKPKey, now: int) -> tuple[Principal, int] | None:
        """The principal and when the token expires, if the signature and all claims are right."""
        registry = JWTClaimsRegistry(
            now=now,
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": ISSUER},
            aud={"essential": True, "value": self._audience},
            sub={"essential": True},
            exp={"essential": True},
            nbf={"essential": True},
        )
        try:
            read = jwt.decode(token, key, algorithms=[ALGORITHM])
            registry.validate(read.claims)
            if read.header.get("typ") != TYPE:
                return None
            role, scope = Role(read.claims["role"]), read.claims["scope"]
            scopes = {Right(word) for word in scope.split()}
            return Principal.of(read.claims["sub"], role, scopes, via=Via.SIGNED), int(read.claims["exp"])
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            return None

    async def _refresh(self, after: float) -> None:
        """Fetch the keys if they are older than that. With keys in hand a failure is no matter for twice as long."""
        if self._clock.monotonic() - self._fetched < after:
            return
        async with self._fetching:
            now = self._clock.monotonic()
            if now - self._fetched < after:
                return
            usable = bool(self._keys) and now - self._fetched < 2 * KEEP_SECONDS
            if now - self._tried < RETRY_SECONDS:
                if usable:
                    return
                raise Unavailable("the issuer's keys can't be fetched", retry_after=RETRY_SECONDS)
            self._tried = now
            try:
                keys = _read(await self._fetch())
            except Unavailable:
                if usable:
                    return
                raise
            if keys.keys() != self._keys.keys():
                self._known.clear()  # tokens of a key that is gone are good no more
            self._keys, self._fetched = keys, now


def _key_id(token: str) -> str:
    """The key that a token names; empty if it names none."""
    head = token.partition(".")[0]
    try:
        found = orjson.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
        return str(found["kid"])
    except (ValueError, KeyError, TypeError):
        return ""


def _read(found: KeySet) -> dict[str, OKPKey]:
    """The Ed25519 keys of a set by their ids; others are for others. Raises Unavailable if it is no key set."""
    try:
        return {
            str(each["kid"]): OKPKey.import_key(each)
            for each in found["keys"]
            if each.get("kty") == "OKP" and each.get("crv") == ALGORITHM and "kid" in each
        }
    except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable(f"the issuer's keys can't be read: {error}", retry_after=RETRY_SECONDS) from error


@asynccontextmanager
async def open_verifier(url: str, audience: str, clock: Clock | None = None) -> AsyncIterator[SignedTokens]:
    """A verifier of tokens for `audience`, by the key set at `url`. Nothing is fetched before the first token."""
    async with httpx.AsyncClient(timeout=FETCH_SECONDS, trust_env=False) as http:

        async def fetch() -> KeySet:
            try:
                answer = await http.get(url)
                found: KeySet = answer.raise_for_status().json()
            except (httpx.HTTPError, ValueError) as error:
                raise Unavailable(
                    f"no keys at {url}: {error or type(error).__name__}", retry_after=RETRY_SECONDS
                ) from error
            return found

        yield SignedTokens(fetch, audience, clock or SystemClock())
