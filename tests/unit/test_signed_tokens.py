"""Signed tokens: issued here, verified there by keys that come over HTTP."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey

from shared.access import Principal, Right, Role, Via
from shared.clock import MICROSECONDS, ManualClock
from shared.errors import Misconfigured, Unavailable
from shared.joserfc import LIFE_SECONDS, Issuer, SignedTokens, SigningKey, open_verifier
from shared.joserfc.verifier import KEEP_SECONDS, LEEWAY_SECONDS, REMEMBERED, RETRY_SECONDS

EVE = Principal.of("eve", Role.ENGINEER, via=Via.SESSION, credential="s1")
HERE = "inference-api"


class Keys:
    """The issuer's key set, as a verifier fetches it."""

    def __init__(self, *keys: SigningKey) -> None:
        self.keys = list(keys)
        self.asked = 0
        self.away = False

    async def fetch(self) -> dict[str, Any]:
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        return Issuer(self.keys, ManualClock()).key_set()


KEY, OTHER = SigningKey.new(), SigningKey.new()


def part(token: str, number: int) -> dict[str, Any]:
    text = token.split(".")[number]
    found: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


async def test_a_token_says_who_it_is_and_what_they_may() -> None:
    clock, keys = ManualClock(), Keys(KEY)
    issuer, tokens = Issuer([KEY], clock), SignedTokens(keys.fetch, HERE, clock)
    made = issuer.issue(EVE, HERE)
    assert made.expires_us == clock.now_us() + LIFE_SECONDS * MICROSECONDS
    for _ in range(3):
        assert await tokens.verify(made.token) == Principal.of("eve", Role.ENGINEER, via=Via.SIGNED)
    fewer = issuer.issue(EVE, HERE, {Right.READ, Right.ADMINISTER})
    found = await tokens.verify(fewer.token)
    assert found is not None
    assert found.rights == fewer.rights == {Right.READ}
    assert keys.asked == 1
    await clock.advance(LIFE_SECONDS + LEEWAY_SECONDS - 1)
    assert await tokens.verify(made.token) is not None
    await clock.advance(1)
    assert await tokens.verify(made.token) is None
    assert await SignedTokens(keys.fetch, HERE, clock).verify(made.token) is None


async def test_the_scope_never_gives_more_than_the_role() -> None:
    clock = ManualClock()
    claims = part(Issuer([KEY], clock).issue(EVE, HERE).token, 1) | {"role": "viewer"}
    found = await verified(signed(claims), clock)
    assert found is not None
    assert found.rights == {Right.READ}


def signed(claims: dict[str, Any], key: Any = None, **header: Any) -> str:  # noqa: ANN401 - a key, header fields
    head = {"alg": "Ed25519", "typ": "at+jwt", "kid": KEY.id, **header}
    return jwt.encode(head, claims, key or KEY.key, algorithms=[head["alg"]])


async def verified(token: str, clock: ManualClock) -> Principal | None:
    return await SignedTokens(Keys(KEY).fetch, HERE, clock).verify(token)


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "somebody"},
        {"iss": None},
        {"aud": "data-api"},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"exp": None},
        {"exp": "soon"},
        {"nbf": None},
        {"nbf": 1_700_000_000 + LEEWAY_SECONDS + 5},
        {"iat": 1_700_000_000 + LEEWAY_SECONDS + 5},
        {"role": "owner"},
        {"role": None},
        {"scope": "read everything"},
        {"scope": None},
        {"scope": ["read"]},
    ],
)
async def test_a_wrong_claim_lets_nobody_in(change: dict[str, Any]) -> None:
    clock = ManualClock()
    claims = part(Issuer([KEY], clock).issue(EVE, HERE).token, 1)
    assert await verified(signed(claims), clock) is not None
    changed = {name: value for name, value in (claims | change).items() if value is not None}
    assert await verified(signed(changed), clock) is None


async def test_a_wrong_header_or_signature_lets_nobody_in() -> None:
    clock = ManualClock()
    good = Issuer([KEY], clock).issue(EVE, HERE).token
    claims = part(good, 1)
    head, body, signature = good.split(".")
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": KEY.id}).encode()).rstrip(b"=").decode()
    listed = base64.urlsafe_b64encode(b"[]").decode().rstrip("=")
    secret = OctKey.import_key(base64.urlsafe_b64decode(KEY.public()["x"] + "="))
    forged = part(good, 1) | {"sub": "mallory"}
    other = base64.urlsafe_b64encode(orjson.dumps(forged)).rstrip(b"=").decode()
    for token in (
        signed(claims, OTHER.key),
        signed(claims, OTHER.key, kid=OTHER.id),
        signed(claims, secret, alg="HS256"),
        signed(claims, typ="JWT"),
        f"{none}.{body}.",
        f"{listed}.{body}.{signature}",
        f"{head}.{other}.{signature}",
        f"{head}.{body}",
        f"{head}.{body}.{signature}" + "A" * 5000,
        "..",
        "é.é.é",
        "",
    ):
        assert await verified(token, clock) is None, token
    assert await verified(good, clock) is not None


async def test_keys_change_while_tokens_of_both_are_good() -> None:
    clock, keys = ManualClock(), Keys(KEY)
    tokens = SignedTokens(keys.fetch, HERE, clock)
    old, new = Issuer([KEY], clock).issue(EVE, HERE).token, Issuer([OTHER], clock).issue(EVE, HERE).token
    assert await tokens.verify(old) is not None
    assert await tokens.verify(new) is None
    keys.keys = [OTHER, KEY]
    assert await tokens.verify(new) is None
    assert keys.asked == 1
    await clock.advance(RETRY_SECONDS)
    assert await tokens.verify(new) is not None
    assert await tokens.verify(old) is not None
    keys.keys = [OTHER]
    await clock.advance(KEEP_SECONDS)
    assert await tokens.verify(old) is None
    assert await tokens.verify(new) is not None
    assert keys.asked == 3


async def test_garbage_does_not_make_it_ask_without_end() -> None:
    clock, keys = ManualClock(), Keys(KEY)
    tokens = SignedTokens(keys.fetch, HERE, clock)
    claims = part(Issuer([KEY], clock).issue(EVE, HERE).token, 1)
    await asyncio.gather(*(tokens.verify(signed(claims, kid=f"k{n}")) for n in range(50)))
    await clock.advance(RETRY_SECONDS)
    await asyncio.gather(*(tokens.verify(signed(claims, kid=f"k{n}")) for n in range(50)))
    assert keys.asked == 2


async def test_while_the_issuer_is_away_known_keys_do_for_a_while() -> None:
    clock, keys = ManualClock(), Keys(KEY)
    keys.away = True
    tokens = SignedTokens(keys.fetch, HERE, clock)
    with pytest.raises(Unavailable):
        await tokens.verify(Issuer([KEY], clock).issue(EVE, HERE).token)
    keys.away = False
    with pytest.raises(Unavailable):  # asked again not before the pause is over
        await tokens.verify(Issuer([KEY], clock).issue(EVE, HERE).token)
    await clock.advance(RETRY_SECONDS)
    assert await tokens.verify(Issuer([KEY], clock).issue(EVE, HERE).token) is not None
    keys.away = True
    await clock.advance(KEEP_SECONDS + 1)
    assert await tokens.verify(Issuer([KEY], clock).issue(EVE, HERE).token) is not None
    await clock.advance(KEEP_SECONDS)
    with pytest.raises(Unavailable):
        await tokens.verify(Issuer([KEY], clock).issue(EVE, HERE).token)


async def test_what_is_remembered_is_bounded() -> None:
    clock, keys = ManualClock(), Keys(KEY)
    tokens, issuer = SignedTokens(keys.fetch, HERE, clock), Issuer([KEY], clock)
    first = issuer.issue(EVE, HERE).token
    await tokens.verify(first)
    tokens._known.update({bytes([n % 256, n // 256]): (EVE, 0) for n in range(REMEMBERED - 1)})
    await tokens.verify(issuer.issue(EVE, HERE).token)
    assert len(tokens._known) == REMEMBERED
    assert await tokens.verify(first) is not None


def test_a_key_is_kept_as_text() -> None:
    again = SigningKey.from_json(KEY.to_json())
    assert (again.id, again.public()) == (KEY.id, KEY.public())
    assert "d" not in KEY.public()
    assert KEY.public()["alg"] == "Ed25519"
    assert isinstance(OKPKey.import_key(KEY.public()), OKPKey)
    for text in ("", "{}", "[]", '{"kty": "OKP"}'):
        with pytest.raises(Misconfigured):
            SigningKey.from_json(text)


@asynccontextmanager
async def served(body: bytes, status: str = "200 OK") -> AsyncIterator[str]:
    """A URL that answers with this."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/keys"


async def test_keys_come_over_http() -> None:
    clock = ManualClock()
    token = Issuer([KEY], clock).issue(EVE, HERE).token
    stranger = {"kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB"}
    found = Issuer([KEY], clock).key_set()
    async with (
        served(orjson.dumps({"keys": [stranger, *found["keys"]]})) as url,
        open_verifier(url, HERE, clock) as tokens,
    ):
        assert await tokens.verify(token) == Principal.of("eve", Role.ENGINEER, via=Via.SIGNED)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{}", "200 OK"),
        (b"[]", "200 OK"),
        (b"no", "200 OK"),
        (b'{"keys": [7]}', "200 OK"),
        (b"{}", "503 Service Unavailable"),
    ],
)
async def test_what_is_no_key_set_is_waited_for(body: bytes, status: str) -> None:
    clock = ManualClock()
    token = Issuer([KEY], clock).issue(EVE, HERE).token
    async with served(body, status) as url, open_verifier(url, HERE, clock) as tokens:
        with pytest.raises(Unavailable):
            await tokens.verify(token)
