"""A small OIDC provider with real signatures over real HTTP: authorization, token and key endpoints. It can also lie."""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode, urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from joserfc import jwt
from joserfc.jwk import RSAKey

from shared.clock import MICROSECONDS, Clock
from shared.supervise import free_ports
from shared.uvicorn import serve

CLIENT, SECRET = "the plant", "s3cret&more: all of it"
BACK = "http://127.0.0.1:8050/login/back"


class OidcProvider:
    """Everybody who comes is `person`, at once. `change` is done to claims before they are signed."""

    def __init__(self, clock: Clock) -> None:
        (port,) = free_ports(1)
        self.port = port
        self.clock = clock
        self.url = f"http://127.0.0.1:{port}"
        self.key = RSAKey.generate_key(2048, auto_kid=True)
        self.published = [self.key]
        self.person: dict[str, Any] = {
            "sub": "u-1",
            "preferred_username": "Eve",
            "name": "Eve Example",
            "email": "eve@plant.example",
            "email_verified": True,
            "groups": ["everybody", "reliability"],
        }
        self.change: Callable[[dict[str, Any]], None] = lambda _: None
        self.sign_by: Any = None
        self.algorithm = "RS256"
        self.about: dict[str, Any] = {}
        self.key_reads = 0
        self._codes: dict[str, dict[str, str]] = {}

    def id_token(self, nonce: str) -> str:
        """An id token of the person, as they are told now."""
        now = self.clock.now_us() // MICROSECONDS
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce, **self.person}
        self.change(claims)
        key = self.sign_by or self.key
        header = {"alg": self.algorithm, **({"kid": key.kid} if key.kid else {})}
        return jwt.encode(header, claims, key, algorithms=[self.algorithm])

    def app(self) -> FastAPI:
        """The endpoints."""
        app = FastAPI()

        @app.get("/.well-known/openid-configuration")
        async def about() -> dict[str, Any]:
            return {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                **self.about,
            }

        @app.get("/keys")
        async def keys() -> dict[str, Any]:
            self.key_reads += 1
            return {"keys": [key.as_dict(private=False) for key in self.published]}

        @app.get("/authorize")
        async def authorize(request: Request) -> Response:
            query = dict(request.query_params)
            assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
            assert "openid" in query["scope"].split()
            code = secrets.token_urlsafe(8)
            self._codes[code] = query
            answer = urlencode({"code": code, "state": query["state"]})
            return RedirectResponse(f"{query['redirect_uri']}?{answer}", 302)

        @app.post("/token")
        async def token(request: Request) -> Response:
            form = {key: values[0] for key, values in parse_qs((await request.body()).decode()).items()}
            asked = self._codes.pop(form["code"], None)
            kind, _, given = request.headers.get("authorization", "").partition(" ")
            client = [unquote_plus(part) for part in base64.b64decode(given).decode().split(":", 1)]
            if kind != "Basic" or client != [CLIENT, SECRET]:
                return JSONResponse({"error": "invalid_client"}, 401)
            hashed = hashlib.sha256(form["code_verifier"].encode()).digest()
            challenge = base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()
            if (
                asked is None
                or asked["code_challenge"] != challenge
                or asked["redirect_uri"] != form["redirect_uri"]
            ):
                return JSONResponse({"error": "invalid_grant"}, 400)
            made = {"access_token": "at", "token_type": "Bearer", "id_token": self.id_token(asked["nonce"])}
            return JSONResponse(made)

        return app


@asynccontextmanager
async def oidc_provider(clock: Clock) -> AsyncIterator[OidcProvider]:
    """A provider that runs for the length of the block."""
    provider, stop = OidcProvider(clock), asyncio.Event()
    serving = asyncio.create_task(
        serve(provider.app(), "127.0.0.1", provider.port, stop, section="x", what="the provider")
    )
    try:
        yield provider
    finally:
        stop.set()
        await serving


def code_of(location: str) -> tuple[str, str]:
    """Code and state of the address that a provider sends a browser back to."""
    query = parse_qs(urlsplit(location).query)
    return query["code"][0], query["state"][0]
