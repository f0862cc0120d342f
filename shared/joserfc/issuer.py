"""Issuing signed tokens, and the keys that sign them. No I/O."""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from shared.access import Principal, Right
from shared.clock import MICROSECONDS, Clock
from shared.errors import Misconfigured

ISSUER: Final = "industrialmind"
LIFE_SECONDS: Final = 600
"""How long a signed token is good: nothing revokes it sooner."""
ALGORITHM: Final = "Ed25519"
TYPE: Final = "at+jwt"
"""RFC 9068: an access token is no id token."""


class SigningKey:
    """An Ed25519 key pair. `id` names it in a token's header."""

    def __init__(self, key: OKPKey) -> None:
        self.key = key
        self.id = key.thumbprint()

    @classmethod
    def new(cls) -> "SigningKey":
        """A new pair."""
        return cls(OKPKey.generate_key(ALGORITHM, private=True))

    @classmethod
    def from_json(cls, text: str) -> "SigningKey":
        """A pair as `to_json` wrote it. Raises Misconfigured."""
        try:
            key = OKPKey.import_key(orjson.loads(text))
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise Misconfigured(
                f"a signing key can't be read: {error}", hint="remove its row: a new key is made"
            ) from error
        return cls(key)

    def to_json(self) -> str:
        """The private pair: a secret."""
        return orjson.dumps(self.key.as_dict(private=True)).decode()

    def public(self) -> dict[str, Any]:
        """What a key set (RFC 7517) tells of it."""
        return {**self.key.as_dict(private=False), "kid": self.id, "use": "sig", "alg": ALGORITHM}


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A token as its holder gets it, and until when it is good."""

    token: str
    expires_us: int
    rights: frozenset[Right]


class Issuer:
    """Signs with the first of its keys; tokens of all of them are good."""

    def __init__(self, keys: Sequence[SigningKey], clock: Clock) -> None:
        self._keys = tuple(keys)
        self._clock = clock

    def issue(self, who: Principal, audience: str, scopes: Collection[Right] | None = None) -> SignedToken:
        """A token that says who the principal is to `audience`, with its rights, cut down to `scopes` where given."""
        rights = who.rights if scopes is None else who.rights & frozenset(scopes)
        now = self._clock.now_us() // MICROSECONDS
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "sub": who.name,
            "aud": audience,
            "iat": now,
            "nbf": now,
            "exp": now + LIFE_SECONDS,
            "jti": secrets.token_urlsafe(12),
            "role": who.role.value,
            "scope": " ".join(right for right in Right if right in rights),
        }
        header = {"alg": ALGORITHM, "typ": TYPE, "kid": self._keys[0].id}
        token = jwt.encode(header, claims, self._keys[0].key, algorithms=[ALGORITHM])
        return SignedToken(token, (now + LIFE_SECONDS) * MICROSECONDS, rights)

    def key_set(self) -> dict[str, Any]:
        """The public keys (RFC 7517), as verifiers fetch them."""
        return {"keys": [key.public() for key in self._keys]}
