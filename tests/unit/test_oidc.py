"""Signing in by an OIDC provider: the whole way over real HTTP, and what must not be believed."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import OctKey, RSAKey
from starlette.types import Receive, Scope, Send

from cloud.people.authlib import KEEP_SECONDS, LEEWAY_SECONDS, RETRY_SECONDS, Provider
from cloud.people.oidc_settings import OidcSettings
from cloud.ui.auth import Doorkeeper, Sessions
from cloud.ui.client import ApiClient
from cloud.ui.way_in import BrowserWayIn
from industrialmind.people import open_provider
from shared.access import Role
from shared.clock import ManualClock
from shared.errors import Misconfigured, Unavailable
from tests.servers import NatsServer
from tests.unit.oidc_provider import BACK, CLIENT, SECRET, OidcProvider, code_of, oidc_provider
from tests.unit.people_api import ROOM, Plant, people_plant

ROLES = {"reliability": "engineer", "everybody": "viewer"}
NOW = 1_700_000_000


@dataclass
class Both:
    """The plant and the provider."""

    plant: Plant
    provider: OidcProvider

    async def begin(self) -> dict[str, str]:
        begun: dict[str, str] = await self.plant.ask("POST", "/v1/oidc", ROOM)
        return begun

    async def visit(self, begun: dict[str, str]) -> str:
        """What a browser does at the provider: the code that it comes back with."""
        async with httpx.AsyncClient(trust_env=False) as browser:
            back = (await browser.get(begun["url"])).headers["location"]
        assert back.startswith(BACK)
        code, state = code_of(back)
        assert state == begun["state"]
        return code

    async def end(self, code: str, begun: dict[str, str], status: int = 201) -> Any:  # noqa: ANN401 - JSON
        given = {"provider_code": code, "nonce": begun["nonce"], "verifier": begun["verifier"]}
        return await self.plant.ask("POST", "/v1/sessions", ROOM, status, **given)

    async def enter(self, status: int = 201) -> Any:  # noqa: ANN401 - JSON
        begun = await self.begin()
        return await self.end(await self.visit(begun), begun, status)


def settings(url: str, **more: Any) -> OidcSettings:  # noqa: ANN401 - settings
    return OidcSettings(
        issuer=url,
        client_id=CLIENT,
        client_secret=SECRET,
        redirect_url=BACK,
        roles={"reliability": Role.ENGINEER, "everybody": Role.VIEWER},
        **more,
    )


@pytest.fixture
async def both(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Both]:
    clock = ManualClock()
    async with (
        oidc_provider(clock) as provider,
        people_plant(tmp_path, nats_server, clock=clock, oidc=settings(provider.url).model_dump()) as plant,
    ):
        yield Both(plant, provider)


async def test_a_provider_vouches_for_a_person_who_becomes_a_user(both: Both) -> None:
    done = await both.enter()
    assert (done["principal"], done["role"]) == ("eve", "engineer")
    (user,) = (await both.plant.ask("GET", "/v1/users"))["users"]
    assert (user["display_name"], user["provider"], user["password"]) == ("Eve Example", True, False)
    both.provider.person |= {"groups": "everybody", "preferred_username": "somebody-else"}
    done = await both.enter()
    assert (done["principal"], done["role"]) == ("eve", "viewer")  # the same subject, another role
    assert len((await both.plant.ask("GET", "/v1/users"))["users"]) == 1
    await both.plant.ask("PATCH", "/v1/users/eve", active=False)
    await both.enter(401)
    both.provider.person |= {"groups": ["nothing"]}
    assert "no role" in (await both.enter(401))["title"]


async def test_a_name_that_is_another_users_is_not_taken_over(both: Both) -> None:
    await both.plant.add("eve", Role.ADMIN)
    assert "another user's" in (await both.enter(401))["title"]
    both.provider.person |= {"preferred_username": "cli"}
    await both.enter(401)
    both.provider.person |= {"preferred_username": "<script>"}
    await both.enter(401)
    del both.provider.person["preferred_username"]
    assert (await both.enter())["principal"] == "eve@plant.example"


async def test_a_code_works_once_and_only_with_its_verifier_and_nonce(both: Both) -> None:
    begun, other = await both.begin(), await both.begin()
    assert len({begun[key] for key in begun} | {other[key] for key in other}) == 8
    code = await both.visit(begun)
    await both.end(code, {**begun, "verifier": other["verifier"]}, 401)
    await both.end(code, begun, 401)
    code = await both.visit(begun)
    assert "nonce" in (await both.end(code, {**begun, "nonce": other["nonce"]}, 401))["title"]
    code = await both.visit(begun)
    await both.end(code, begun)
    await both.end(code, begun, 401)
    await both.end("never-was", begun, 401)


def changed(**claims: Any) -> Callable[[dict[str, Any]], None]:  # noqa: ANN401 - claims
    def change(found: dict[str, Any]) -> None:
        found.update(claims)
        for name in [name for name, value in claims.items() if value is None]:
            del found[name]

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed(nonce="another"),
        changed(nonce=None),
        changed(aud="another plant"),
        changed(aud=["another plant", CLIENT], azp="another plant"),
        changed(aud=None),
        changed(iss="https://evil.example"),
        changed(iss=None),
        changed(sub=None),
        changed(sub=""),
        changed(exp=NOW - LEEWAY_SECONDS - 1),
        changed(exp=None),
        changed(iat=NOW + LEEWAY_SECONDS + 5),
        changed(nbf=NOW + LEEWAY_SECONDS + 5),
        changed(at_hash="AAAAAAAAAAAAAAAAAAAAAA"),
    ],
)
async def test_a_wrong_claim_is_not_believed(
    change: Callable[[dict[str, Any]], None],
) -> None:
    clock = ManualClock()
    async with oidc_provider(clock) as there:
        found = Provider(settings(there.url), clock)
        assert (await identity(found)).name == "eve"
        there.change = change
        with pytest.raises(Exception, match="not to be believed") as refused:
            await identity(found)
        assert type(refused.value).__name__ == "NotLetIn"


async def identity(provider: Provider) -> Any:  # noqa: ANN401 - an identity
    begun = await provider.begin()
    async with httpx.AsyncClient(trust_env=False) as browser:
        code, _ = code_of((await browser.get(begun.url)).headers["location"])
    return await provider.identity(code, begun.nonce, begun.verifier)


async def test_a_foreign_signature_is_not_believed_and_a_new_key_is() -> None:
    clock = ManualClock()
    async with oidc_provider(clock) as there:
        found = Provider(settings(there.url), clock)
        await identity(found)
        stranger = RSAKey.generate_key(2048, auto_kid=True)
        there.sign_by = stranger
        await clock.advance(RETRY_SECONDS)
        with pytest.raises(Exception, match="not to be believed"):
            await identity(found)
        assert there.key_reads == 2  # a key that was not known: the keys were read anew
        with pytest.raises(Exception, match="not to be believed"):
            await identity(found)
        assert there.key_reads == 2  # but not for every such token
        named_alike = RSAKey.import_key(stranger.as_pem(private=True), {"kid": str(there.key.kid)})
        there.sign_by = named_alike
        with pytest.raises(Exception, match="not to be believed"):
            await identity(found)
        there.sign_by, there.algorithm = OctKey.import_key(SECRET), "HS256"
        with pytest.raises(Exception, match="not to be believed"):
            await identity(found)
        there.sign_by, there.algorithm = stranger, "RS256"
        there.published = [there.key, stranger]
        await clock.advance(RETRY_SECONDS)
        assert (await identity(found)).name == "eve"


async def test_a_provider_that_is_away_or_another_is_waited_for() -> None:
    clock = ManualClock()
    async with oidc_provider(clock) as there:
        found = Provider(settings(there.url), clock)
        there.about = {"issuer": "https://evil.example"}
        with pytest.raises(Unavailable, match="another issuer"):
            await found.begin()
        await clock.advance(RETRY_SECONDS)
        there.about = {"token_endpoint": "http://evil.example/token"}
        with pytest.raises(Unavailable, match="not https"):
            await found.begin()
        with pytest.raises(Unavailable, match="did not answer"):
            await found.begin()
        await clock.advance(RETRY_SECONDS)
        there.about = {}
        await found.begin()
    await clock.advance(KEEP_SECONDS)
    with pytest.raises(Unavailable):
        await found.begin()


@pytest.mark.parametrize(
    ("allowed", "person", "lets_in"),
    [
        (("@plant.example",), {}, True),
        (("EVE@plant.example",), {}, True),
        (("@plant.example",), {"email_verified": False}, False),
        (("@plant.example",), {"email_verified": "true"}, False),
        (("@plant.example",), {"email": "eve@plant.example.evil.example"}, False),
        (("ann@plant.example",), {}, False),
        (("@plant.example",), {"email": None}, False),
    ],
)
async def test_who_may_sign_in(allowed: tuple[str, ...], person: dict[str, Any], *, lets_in: bool) -> None:
    clock = ManualClock()
    async with oidc_provider(clock) as there:
        there.person |= person
        found = Provider(settings(there.url, allowed=allowed), clock)
        if lets_in:
            assert (await identity(found)).role is Role.ENGINEER
        else:
            with pytest.raises(Exception, match="not among those"):
                await identity(found)


async def test_the_default_role_is_for_who_has_none() -> None:
    clock = ManualClock()
    async with oidc_provider(clock) as there:
        for groups, role in (([], Role.OPERATOR), (None, Role.OPERATOR), ([7, {}], Role.OPERATOR)):
            there.person["groups"] = groups
            found = Provider(settings(there.url, default_role=Role.OPERATOR), clock)
            assert (await identity(found)).role is role


async def test_without_a_provider_there_is_no_such_way(tmp_path: Path, nats_server: NatsServer) -> None:
    async with people_plant(tmp_path, nats_server) as plant:
        await plant.ask("POST", "/v1/oidc", ROOM, 404)
        given = {"provider_code": "c", "nonce": "n", "verifier": "v"}
        await plant.ask("POST", "/v1/sessions", ROOM, 404, **given)


def test_a_provider_without_a_client_id_or_over_the_open_network_is_no_setting() -> None:
    with pytest.raises(Misconfigured, match="client_id"):
        open_provider(OidcSettings(issuer="https://id.example"), ManualClock())
    with pytest.raises(ValueError, match="pattern"):
        OidcSettings(issuer="http://id.example")
    assert open_provider(OidcSettings(), ManualClock()) is None


async def browser(both: Both) -> httpx.AsyncClient:
    """A browser at the control room's door."""
    client = ApiClient("http://localhost", "room", connect_seconds=5, request_seconds=10)
    await client._http.aclose()
    client._http = httpx.AsyncClient(
        transport=httpx.ASGITransport(both.plant.api.app), base_url="http://localhost"
    )
    door = Doorkeeper(client.me, both.plant.clock)
    way = BrowserWayIn(client, Sessions("a key", hours=1), door, "Example ID")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer = await way.answer(scope, receive, None) or way.door(scope)
        await answer(scope, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8050")


async def test_a_browser_goes_to_the_provider_and_comes_back_signed_in(both: Both) -> None:
    async with await browser(both) as here, httpx.AsyncClient(trust_env=False) as elsewhere:
        assert "Sign in with Example ID" in (await here.get("/login")).text
        away = await here.get("/login/provider?next=/machine/pump-1")
        assert "httponly" in away.headers["set-cookie"].lower()
        back = (await elsewhere.get(away.headers["location"])).headers["location"]
        done = await here.get(back)
        assert (done.status_code, done.headers["location"]) == (303, "/machine/pump-1")
        assert any(name.startswith("im-room-") for name in here.cookies)
        assert (await here.get(back)).status_code == 401  # the way back is gone one way once


async def test_a_foreign_or_forged_way_back_signs_nobody_in(both: Both) -> None:
    async with (
        await browser(both) as here,
        await browser(both) as victim,
        httpx.AsyncClient(trust_env=False) as elsewhere,
    ):
        away = await here.get("/login/provider?next=//evil.example")
        back = (await elsewhere.get(away.headers["location"])).headers["location"]
        assert (await victim.get(back)).status_code == 401
        assert (await here.get("/login/back?code=x&state=forged")).status_code == 401
        assert (await here.get("/login/back?error=access_denied")).status_code == 401
        assert (await here.get(back)).headers["location"] == "/"
        assert not any(name.startswith("im-room-") for name in victim.cookies)
