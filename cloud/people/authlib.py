"""Signing in by an OIDC provider: authorization code with PKCE, and an id token that is believed only when all of it fits.

Authlib speaks OAuth 2 and knows what an id token must say; joserfc, which it stands on, checks the signature. What the
provider publishes about itself is kept for an hour; a token of an unknown key makes its keys be read anew, at most
once in five seconds.
"""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import quote_plus, urlsplit

import httpx
from authlib.common.security import generate_token
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from cloud.people.logic import check_name
from cloud.people.oidc_settings import OidcSettings
from cloud.people.signin import Identity, NotLetIn
from shared.access import Role
from shared.clock import MICROSECONDS, Clock
from shared.errors import Rejected, Unavailable

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519"),
)
"""Signatures by a key of the provider alone: none, and none by the client's secret."""
LEEWAY_SECONDS: Final = 60
KEEP_SECONDS: Final = 3600.0
RETRY_SECONDS: Final = 5.0
WAIT_SECONDS: Final = 10.0
_DISCOVERY: Final = "/.well-known/openid-configuration"
_SECRETS: Final = 48
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Begun:
    """Where to send the browser, and what it has to come back with."""

    url: str
    state: str
    nonce: str
    verifier: str


class Provider:
    """The provider of the settings. Everything raises Unavailable while it does not answer."""

    def __init__(self, wanted: OidcSettings, clock: Clock) -> None:
        self._wanted, self._clock = wanted, clock
        self._reading = asyncio.Lock()
        self._about: dict[str, Any] = {}
        self._keys: KeySet | None = None
        self._read = self._tried = -math.inf

    async def begin(self) -> Begun:
        """A sign-in that begins: `state`, `nonce` and `verifier` are new and are for the one browser alone."""
        about, _ = await self._know()
        state, nonce, verifier = (generate_token(_SECRETS) for _ in range(3))
        url = prepare_grant_uri(
            about["authorization_endpoint"],
            self._wanted.client_id,
            "code",
            self._wanted.redirect_url,
            " ".join(self._wanted.scopes),
            state,
            nonce=nonce,
            code_challenge=create_s256_code_challenge(verifier),
            code_challenge_method="S256",
        )
        return Begun(url, state, nonce, verifier)

    async def identity(self, code: str, nonce: str, verifier: str) -> Identity:
        """Whom the provider vouches for by this code. Raises NotLetIn."""
        token = await self._exchange(code, verifier)
        if not isinstance(token.get("id_token"), str):
            raise NotLetIn("the provider gave no id token")
        return self._identity(await self._claims(token, nonce))

    async def _exchange(self, code: str, verifier: str) -> dict[str, Any]:
        """The provider's tokens for a code. Raises NotLetIn (it was none)."""
        about, _ = await self._know()
        wanted = self._wanted
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": wanted.redirect_url,
            "code_verifier": verifier,
        }
        # A client with a secret shows both in a header (RFC 6749, 2.3.1), one without says its id.
        basic = None
        if secret := wanted.client_secret.get_secret_value():
            basic = httpx.BasicAuth(quote_plus(wanted.client_id), quote_plus(secret))
        else:
            form["client_id"] = wanted.client_id
        try:
            async with httpx.AsyncClient(timeout=WAIT_SECONDS, trust_env=False) as http:
                answer = await http.post(
                    about["token_endpoint"], data=form, auth=basic or httpx.USE_CLIENT_DEFAULT
                )
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"the provider did not answer: {error or type(error).__name__}") from error
        if answer.is_server_error or not isinstance(found, dict):
            raise Unavailable(f"the provider answered {answer.status_code}")
        if not answer.is_success:
            raise NotLetIn(f"the provider refused the code: {str(found.get('error'))[:60]}")
        return found

    async def _claims(self, token: Mapping[str, Any], nonce: str) -> CodeIDToken:
        about, keys = await self._know()
        registry = JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
        try:
            try:
                read = jwt.decode(token["id_token"], keys, registry=registry)
            except InvalidKeyIdError:
                about, keys = await self._know(after=RETRY_SECONDS)
                read = jwt.decode(token["id_token"], keys, registry=registry)
            claims = CodeIDToken(
                read.claims,
                read.header,
                {
                    "iss": {"essential": True, "value": about["issuer"]},
                    "aud": {"essential": True, "value": self._wanted.client_id},
                    "nonce": {"essential": True, "value": nonce},
                    "sub": {"essential": True},
                },
                {
                    "nonce": nonce,
                    "client_id": self._wanted.client_id,
                    "access_token": token.get("access_token"),
                },
            )
            claims.validate(now=self._clock.now_us() // MICROSECONDS, leeway=LEEWAY_SECONDS)
        except (JoseError, ValueError, TypeError) as error:
            raise NotLetIn(f"the provider's id token is not to be believed: {error}") from error
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        wanted = self._wanted
        if wanted.allowed and not _allowed(claims, wanted.allowed):
            raise NotLetIn("you are not among those who may sign in here")
        name = str(claims.get(wanted.name_claim) or claims.get("email") or "").strip().lower()
        try:
            check_name(name)
        except Rejected as error:
            raise NotLetIn(f"the provider's name for you can't be used: {error.reason}") from error
        shown = "".join(letter for letter in str(claims.get("name") or name) if letter.isprintable())
        return Identity(
            f"{wanted.issuer} {str(claims['sub'])[:255]}", name, shown[:200], _role(claims, wanted)
        )

    async def _know(self, after: float = KEEP_SECONDS) -> tuple[dict[str, Any], KeySet]:
        """What the provider says of itself, and its keys, not older than that. Raises Unavailable."""
        async with self._reading:
            now = self._clock.monotonic()
            if self._keys is not None and now - self._read < after:
                return self._about, self._keys
            if now - self._tried < RETRY_SECONDS:
                raise Unavailable("the provider did not answer", retry_after=RETRY_SECONDS)
            self._tried = now
            try:
                async with httpx.AsyncClient(timeout=WAIT_SECONDS, trust_env=False) as http:
                    about = await _json(http, self._wanted.issuer.rstrip("/") + _DISCOVERY)
                    self._check(about)
                    keys = KeySet.import_key_set(cast("Any", await _json(http, about["jwks_uri"])))
            except (httpx.HTTPError, JoseError, ValueError, TypeError, KeyError) as error:
                raise Unavailable(
                    f"the provider can't be used: {error or type(error).__name__}", retry_after=RETRY_SECONDS
                ) from error
            self._about, self._keys, self._read = about, keys, now
            return about, keys

    def _check(self, about: Mapping[str, Any]) -> None:
        """Raises ValueError if the document is not this issuer's, or leads over the open network."""
        if str(about["issuer"]).rstrip("/") != self._wanted.issuer.rstrip("/"):
            raise ValueError("its discovery document names another issuer")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            parts = urlsplit(about[name])
            if parts.scheme != "https" and parts.hostname not in _LOCAL:
                raise ValueError(f"its {name} is not https")


async def _json(http: httpx.AsyncClient, url: str) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get(url)).raise_for_status().json()
    return found


def _allowed(claims: Mapping[str, Any], allowed: tuple[str, ...]) -> bool:
    """Whether the claims' e-mail address, which the provider verified, is allowed, or its domain is."""
    if claims.get("email_verified") is not True:
        return False
    address = str(claims.get("email") or "").lower()
    return any(
        address.endswith(each.lower()) if each.startswith("@") else address == each.lower()
        for each in allowed
    )


def _role(claims: Mapping[str, Any], wanted: OidcSettings) -> Role | None:
    """The highest role of the claim's values; the default one if there is none."""
    found = claims.get(wanted.role_claim)
    values = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    roles = {wanted.roles[value] for value in values if isinstance(value, str) and value in wanted.roles}
    return max(roles, key=list(Role).index, default=wanted.default_role)
