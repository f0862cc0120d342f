"""People over HTTP: signing in and out, users, tokens, signed tokens; and what the log is told of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cloud.api.access import BELIEVED_SECONDS
from cloud.people.app import OLD_KEY_US
from cloud.people.limits import ADDRESS_ATTEMPTS, CODE_ATTEMPTS, NAME_ATTEMPTS
from cloud.people.logic import USED_AFTER_US
from shared.access import Principal, Right, Role
from shared.clock import MICROSECONDS
from shared.errors import Unavailable
from shared.eventlog import open_event_log
from shared.events import parse_event
from shared.jetstream import ensure_topics
from shared.joserfc import SignedTokens
from shared.joserfc.verifier import KEEP_SECONDS
from shared.names import AUDIT, DATA_API, INFERENCE_API
from tests.servers import NatsServer
from tests.unit.api_parts import Api
from tests.unit.people_api import CLI, PASSWORD, ROOM, Plant, people_plant


@pytest.fixture
async def plant(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Plant]:
    async with people_plant(tmp_path, nats_server) as made:
        yield made


async def test_a_link_signs_the_first_administrator_in_once(plant: Plant) -> None:
    made = await plant.ask("POST", "/v1/login-links", status=201)
    assert made["expires_at"].endswith("Z")
    done = await plant.ask("POST", "/v1/sessions", ROOM, 201, code=made["code"])
    assert (done["principal"], done["role"]) == ("admin", "admin")
    again = await plant.ask("POST", "/v1/sessions", ROOM, 410, code=made["code"])
    assert "industrialmind login-link" in again["title"]
    assert again["title"] == (await plant.ask("POST", "/v1/sessions", ROOM, 410, code="no"))["title"]
    me = await plant.ask("GET", "/v1/me", done["session"])
    assert (me["name"], me["via"], me["credential"]) == ("admin", "session", done["id"])
    second = await plant.ask("POST", "/v1/login-links", status=201)
    await plant.ask("POST", "/v1/sessions", ROOM, 201, code=second["code"])
    await plant.ask("PATCH", "/v1/users/admin", active=False)
    third = await plant.ask("POST", "/v1/login-links", status=201)
    await plant.ask("POST", "/v1/sessions", ROOM, 401, code=third["code"])


async def test_links_expire_and_guessing_is_slow(plant: Plant) -> None:
    code = (await plant.ask("POST", "/v1/login-links", status=201))["code"]
    for number in range(CODE_ATTEMPTS):
        await plant.ask("POST", "/v1/sessions", ROOM, 410, code=f"guess {number}", address="192.0.2.1")
    refused = await plant.http.post("/v1/sessions", headers=ROOM, json={"code": code, "address": "192.0.2.1"})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    await plant.ask("POST", "/v1/sessions", ROOM, 201, code=code, address="192.0.2.2")
    code = (await plant.ask("POST", "/v1/login-links", status=201))["code"]
    await plant.clock.advance(601)
    await plant.ask("POST", "/v1/sessions", ROOM, 410, code=code, address="192.0.2.1")


async def test_a_name_and_its_password_sign_in(plant: Plant) -> None:
    await plant.add("eve", Role.ENGINEER)
    done = await plant.enter("eve")
    assert (done["principal"], done["role"]) == ("eve", "engineer")
    me = await plant.ask("GET", "/v1/me", done["session"])
    assert me["rights"] == ["read", "operate", "maintain", "engineer"]
    await plant.add("ann", Role.VIEWER, None)
    said = {
        (await plant.enter(name, password, 401))["title"]
        for name, password in (("eve", "wrong"), ("nobody", PASSWORD), ("ann", PASSWORD), ("EVE", PASSWORD))
    }
    assert len(said) == 1  # nothing tells an unknown name from a wrong password
    await plant.ask("PATCH", "/v1/users/eve", active=False)
    assert (await plant.enter("eve", status=401))["title"] in said


async def test_guessing_a_password_is_slow_by_name_and_by_address(plant: Plant) -> None:
    await plant.add("eve", Role.ENGINEER)
    for _ in range(NAME_ATTEMPTS):
        await plant.enter("eve", "wrong", 401)
    await plant.enter("eve", status=429)
    await plant.clock.advance(60)
    for _ in range(3):
        for _ in range(NAME_ATTEMPTS - 1):
            await plant.enter("eve", "wrong", 401)
        await plant.enter("eve")  # it worked: the name's count begins anew
        await plant.clock.advance(20)
    await plant.clock.advance(60)
    for number in range(ADDRESS_ATTEMPTS):
        await plant.enter(f"name-{number}", "wrong", 401)
    await plant.enter("eve", status=429)


async def test_a_session_ends_by_signing_out_and_by_time(plant: Plant) -> None:
    await plant.add("eve", Role.ENGINEER)
    first, second = await plant.session("eve"), await plant.session("eve")
    shown = (await plant.ask("GET", "/v1/sessions", first))["sessions"]
    assert sorted(each["current"] for each in shown) == [False, True]
    await plant.ask("DELETE", "/v1/sessions/current", first, 204)
    await plant.ask("GET", "/v1/me", first, 401)
    await plant.ask("GET", "/v1/me", second)
    await plant.ask("DELETE", "/v1/sessions/current", CLI, 404)
    await plant.clock.advance(12 * 3600 - 1)
    await plant.ask("GET", "/v1/me", second)
    await plant.clock.advance(BELIEVED_SECONDS + 1)
    await plant.ask("GET", "/v1/me", second, 401)
    await plant.ask("GET", "/v1/me", "ims_never-was", 401)
    await plant.ask("GET", "/v1/me", "im_never-was", 401)
    await plant.ask("GET", "/v1/me", "ims_" + "x" * 5000, 401)


async def test_an_unused_session_ends(tmp_path: Path, nats_server: NatsServer) -> None:
    async with people_plant(tmp_path, nats_server, session_idle_hours=1) as plant:
        await plant.add("eve", Role.ENGINEER)
        used, unused = await plant.session("eve"), await plant.session("eve")
        for _ in range(3):
            await plant.clock.advance(1800)
            await plant.ask("GET", "/v1/me", used)
        await plant.ask("GET", "/v1/me", unused, 401)


async def test_one_ends_ones_own_sessions_and_an_administrator_anybodys(plant: Plant) -> None:
    for name, role in (("eve", Role.ENGINEER), ("ann", Role.VIEWER), ("boss", Role.ADMIN)):
        await plant.add(name, role)
    eve, ann, boss = [await plant.enter(name) for name in ("eve", "ann", "boss")]
    await plant.ask("DELETE", f"/v1/sessions/{eve['id']}", ann["session"], 404)
    await plant.ask("DELETE", f"/v1/sessions/{eve['id']}", boss["session"], 204)
    await plant.ask("GET", "/v1/me", eve["session"], 401)
    await plant.ask("DELETE", f"/v1/sessions/{ann['id']}", ann["session"], 204)
    await plant.ask("GET", "/v1/me", ann["session"], 401)


async def test_a_role_a_state_and_a_password_count_at_once(plant: Plant) -> None:
    await plant.add("eve", Role.ENGINEER)
    session = await plant.session("eve")
    await plant.ask("GET", "/v1/me", session)
    changed = await plant.ask("PATCH", "/v1/users/eve", role="viewer", display_name="Eve E.")
    assert (changed["role"], changed["display_name"], changed["active"]) == ("viewer", "Eve E.", True)
    assert (await plant.ask("GET", "/v1/me", session))["rights"] == ["read"]
    await plant.ask("PUT", "/v1/users/eve/password", status=204, password="another long password")
    await plant.ask("GET", "/v1/me", session, 401)
    await plant.enter("eve", status=401)
    session = (await plant.enter("eve", "another long password"))["session"]
    await plant.ask("PATCH", "/v1/users/eve", active=False)
    await plant.ask("GET", "/v1/me", session, 401)
    await plant.ask("PATCH", "/v1/users/bob", active=False, status=404)
    await plant.ask("GET", "/v1/users/bob", status=404)


async def test_one_changes_ones_own_password(plant: Plant) -> None:
    await plant.add("eve", Role.VIEWER)
    here, there = await plant.session("eve"), await plant.session("eve")
    new = "another long password"
    await plant.ask("PUT", "/v1/me/password", here, 403, current="wrong", new=new)
    await plant.ask("PUT", "/v1/me/password", here, 422, current=PASSWORD, new="short")
    await plant.ask("PUT", "/v1/me/password", here, 204, current=PASSWORD, new=new)
    await plant.ask("GET", "/v1/me", here)
    await plant.ask("GET", "/v1/me", there, 401)
    await plant.enter("eve", new)


async def test_users_are_listed_without_their_secrets(plant: Plant) -> None:
    await plant.add("eve", Role.ENGINEER)
    await plant.ask("POST", "/v1/users", status=409, name="eve", role="viewer")
    (eve,) = (await plant.ask("GET", "/v1/users"))["users"]
    assert eve == await plant.ask("GET", "/v1/users/eve")
    assert set(eve) == {"name", "display_name", "role", "active", "provider", "password", "created_at"}
    assert eve["password"] is True


@pytest.mark.parametrize(
    "body",
    [
        {"name": "Eve", "role": "viewer"},
        {"name": "cli", "role": "viewer"},
        {"name": "-", "role": "viewer"},
        {"name": "e" * 101, "role": "viewer"},
        {"name": "eve", "role": "owner"},
        {"name": "eve"},
        {"name": "eve", "role": "viewer", "display_name": "a\nb"},
        {"name": "eve", "role": "viewer", "display_name": "\x00"},
        {"name": "eve", "role": "viewer", "password": "short"},
        {"name": "eve", "role": "viewer", "password": "p" * 257},
        {"name": "eve", "role": "viewer", "password": "aaaaaaaaaaaaaa"},
        {"name": "eve.example", "role": "viewer", "password": "Eve.Example1"},
        {"name": "eve", "role": "viewer", "more": 1},
    ],
)
async def test_what_can_be_no_user_is_refused(plant: Plant, body: dict[str, Any]) -> None:
    await plant.ask("POST", "/v1/users", status=422, **body)


async def test_a_token_has_no_more_rights_than_its_scopes_and_its_owner(plant: Plant) -> None:
    await plant.add("eve", Role.ENGINEER)
    session = await plant.session("eve")
    made = await plant.ask(
        "POST", "/v1/tokens", session, 201, label="report", scopes=["read", "engineer"], expires_in_days=1
    )
    assert made["token"].startswith("im_")
    (shown,) = (await plant.ask("GET", "/v1/tokens", session))["tokens"]
    assert shown == {key: value for key, value in made.items() if key != "token"}
    me = await plant.ask("GET", "/v1/me", made["token"])
    assert (me["rights"], me["via"]) == (["read", "engineer"], "token")
    await plant.ask("PATCH", "/v1/users/eve", role="operator")
    assert (await plant.ask("GET", "/v1/me", made["token"]))["rights"] == ["read"]
    await plant.clock.advance(86_400)
    await plant.ask("GET", "/v1/me", made["token"], 401)


async def test_only_who_signed_in_makes_tokens_and_with_ones_own_rights(plant: Plant) -> None:
    await plant.add("eve", Role.ENGINEER)
    await plant.add("boss", Role.ADMIN)
    eve, boss = await plant.session("eve"), await plant.session("boss")
    await plant.ask("POST", "/v1/tokens", eve, 403, scopes=["administer"])
    await plant.ask("POST", "/v1/tokens", eve, 403, owner="boss")
    await plant.ask("POST", "/v1/tokens", eve, 422, scopes=[])
    await plant.ask("POST", "/v1/tokens", eve, 422, scopes=["everything"])
    await plant.ask("POST", "/v1/tokens", CLI, 422, label="whose?")
    await plant.ask("POST", "/v1/tokens", CLI, 404, owner="nobody")
    made = await plant.ask("POST", "/v1/tokens", boss, 201, scopes=["read", "administer"], owner="boss")
    await plant.ask("POST", "/v1/tokens", made["token"], 403, owner="boss")
    await plant.ask("PUT", "/v1/users/boss/password", made["token"], 403, password=PASSWORD)
    await plant.ask("PUT", "/v1/me/password", made["token"], 403, current=PASSWORD, new=PASSWORD)
    await plant.ask("GET", "/v1/tokens?owner=boss", eve, 403)
    assert (await plant.ask("GET", "/v1/tokens", eve))["tokens"] == []
    assert len((await plant.ask("GET", "/v1/tokens?owner=boss", boss))["tokens"]) == 1
    assert len((await plant.ask("GET", "/v1/tokens"))["tokens"]) == 1


async def test_a_revoked_token_lets_nobody_in(plant: Plant) -> None:
    await plant.add("eve", Role.ENGINEER)
    await plant.add("ann", Role.VIEWER)
    eve, ann = await plant.session("eve"), await plant.session("ann")
    made = await plant.ask("POST", "/v1/tokens", eve, 201, expires_in_days=None)
    assert made["expires_at"] is None
    await plant.ask("GET", "/v1/machines", made["token"])
    await plant.ask("DELETE", f"/v1/tokens/{made['id']}", ann, 404)
    await plant.ask("DELETE", f"/v1/tokens/{made['id']}", eve, 204)
    await plant.ask("GET", "/v1/machines", made["token"], 401)
    await plant.ask("DELETE", f"/v1/tokens/{made['id']}", eve, 404)


async def test_what_another_process_revokes_counts_within_two_seconds(plant: Plant) -> None:
    await plant.add("eve", Role.ENGINEER)
    session = await plant.session("eve")
    await plant.ask("GET", "/v1/me", session)
    (found,) = await plant.wired.store.credentials.sessions("eve")

    def tell(_: str) -> object:
        return plant.wired.parts.sign_in.link_event("another process")

    await plant.wired.store.credentials.drop_session(found.id, None, tell)  # type: ignore[arg-type]
    await plant.ask("GET", "/v1/me", session)
    await plant.clock.advance(BELIEVED_SECONDS)
    await plant.ask("GET", "/v1/me", session, 401)


async def test_many_requests_cost_one_look_and_use_is_noted(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plant.add("eve", Role.ENGINEER)
    session = await plant.session("eve")
    looks, find = 0, plant.wired.store.credentials.find

    async def counted(key: bytes) -> object:
        nonlocal looks
        looks += 1
        return await find(key)

    monkeypatch.setattr(plant.wired.store.credentials, "find", counted)
    await asyncio.gather(*(plant.ask("GET", "/v1/me", session) for _ in range(20)))
    assert looks == 1
    await plant.clock.advance(USED_AFTER_US / MICROSECONDS)
    await asyncio.gather(*(plant.ask("GET", "/v1/me", session) for _ in range(20)))
    assert looks == 2
    (shown,) = await plant.wired.store.credentials.sessions("eve")
    assert shown.seen_us == plant.clock.now_us()


async def test_while_the_database_is_away_services_are_served_and_others_wait(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plant.add("eve", Role.ENGINEER)
    session = await plant.session("eve")

    async def away(_: bytes) -> None:
        raise Unavailable("the database is away", retry_after=7)

    monkeypatch.setattr(plant.wired.store.credentials, "find", away)
    answer = await plant.http.get("/v1/me", headers={"Authorization": f"Bearer {session}"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    await plant.ask("GET", "/v1/machines", CLI)


async def test_an_access_token_is_verified_by_the_public_keys(plant: Plant) -> None:
    await plant.add("eve", Role.ENGINEER)
    session = await plant.session("eve")
    made = await plant.ask(
        "POST", "/v1/access-tokens", session, 201, audience=INFERENCE_API, scopes=["read", "administer"]
    )
    assert (made["token_type"], made["scopes"]) == ("Bearer", ["read"])

    async def fetch() -> dict[str, object]:
        found: dict[str, object] = (await plant.http.get("/v1/keys", headers={"Authorization": ""})).json()
        return found

    there = SignedTokens(fetch, INFERENCE_API, plant.clock)
    assert await there.verify(made["access_token"]) == Principal.of("eve", Role.ENGINEER, {Right.READ})
    await plant.ask("GET", "/v1/me", made["access_token"], 401)  # it is for another audience
    here = await plant.ask("POST", "/v1/access-tokens", session, 201, audience=DATA_API)
    me = await plant.ask("GET", "/v1/me", here["access_token"])
    assert (me["via"], me["rights"]) == ("signed", ["read", "operate", "maintain", "engineer"])
    await plant.ask("POST", "/v1/access-tokens", here["access_token"], 403, audience=DATA_API)
    await plant.ask("POST", "/v1/tokens", here["access_token"], 403, label="x")
    await plant.ask("PATCH", "/v1/users/eve", role="viewer")
    assert (await plant.ask("GET", "/v1/me", here["access_token"]))["rights"] == ["read"]
    await plant.ask("PATCH", "/v1/users/eve", active=False)
    await plant.ask("GET", "/v1/me", here["access_token"], 401)


async def test_a_service_has_access_tokens_too_and_none_of_them_is_the_service(plant: Plant) -> None:
    made = await plant.ask("POST", "/v1/access-tokens", ROOM, 201, audience=DATA_API)
    me = await plant.ask("GET", "/v1/me", made["access_token"])
    assert (me["name"], me["via"]) == ("ui", "signed")
    body = {"name": "eve", "password": PASSWORD}
    await plant.ask("POST", "/v1/sessions", made["access_token"], 403, **body)


async def test_keys_rotate_while_tokens_of_the_one_before_are_good(plant: Plant) -> None:
    async def token() -> str:
        found = await plant.ask("POST", "/v1/access-tokens", CLI, 201, audience=DATA_API)
        return str(found["access_token"])

    old = await token()
    (first,) = (await plant.ask("GET", "/v1/keys"))["keys"]
    assert "d" not in first
    second = (await plant.ask("POST", "/v1/keys", status=201, at_once=False))["id"]
    new = await token()
    assert [key["kid"] for key in (await plant.ask("GET", "/v1/keys"))["keys"]] == [second, first["kid"]]
    for each in (old, new):
        await plant.ask("GET", "/v1/me", each)
    await plant.clock.advance(OLD_KEY_US / MICROSECONDS + KEEP_SECONDS)
    assert [key["kid"] for key in (await plant.ask("GET", "/v1/keys"))["keys"]] == [second]
    new = await token()
    await plant.ask("POST", "/v1/keys", status=201, at_once=True)
    await plant.ask("GET", "/v1/me", new, 401)
    await plant.ask("GET", "/v1/me", await token())


async def test_who_asks_too_often_waits_but_no_service(tmp_path: Path, nats_server: NatsServer) -> None:
    async with people_plant(tmp_path, nats_server, requests_per_minute=5) as plant:
        await plant.add("eve", Role.ENGINEER)
        await plant.add("ann", Role.ENGINEER)
        eve, ann = await plant.session("eve"), await plant.session("ann")
        for _ in range(5):
            await plant.ask("GET", "/v1/me", eve)
        answer = await plant.http.get("/v1/me", headers={"Authorization": f"Bearer {eve}"})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
        await plant.ask("GET", "/v1/me", ann)
        for _ in range(10):
            await plant.ask("GET", "/v1/me", CLI)
        await plant.clock.advance(60)
        await plant.ask("GET", "/v1/me", eve)


async def test_the_log_is_told_of_every_change_and_waits_while_it_is_away(
    tmp_path: Path, nats_server: NatsServer
) -> None:
    async with people_plant(tmp_path, nats_server) as plant:
        nats_server.stop()
        await plant.add("eve", Role.ENGINEER)
        session = await plant.session("eve")  # signing in needs no log
        await plant.enter("a password in the wrong field", "x", 401)
        made = await plant.ask("POST", "/v1/tokens", session, 201, label="report")
        await plant.ask("DELETE", f"/v1/tokens/{made['id']}", session, 204)
        await plant.ask("PATCH", "/v1/users/eve", role="viewer")
        await plant.ask("PUT", "/v1/users/eve/password", status=204, password="another long password")
        await plant.enter("eve", "another long password")
        with pytest.raises(Unavailable):
            await plant.wired.sender.send()
        nats_server.start()
        await ensure_topics(
            nats_server.url, credentials=nats_server.credentials, max_file_store=nats_server.max_file_store
        )
        async with asyncio.timeout(30):  # the client finds the server again in its own time
            while True:
                try:
                    if not await plant.wired.sender.send():
                        break
                except Unavailable:
                    await asyncio.sleep(0.05)
        async with open_event_log(nats_server.url, credentials=nats_server.credentials) as log:
            told = [parse_event(each.value) async for each in log.read(AUDIT)]
    assert [(event.type, event.subject, event.model_dump()["by"]) for event in told] == [
        ("user.added", "eve", "cli"),
        ("session.started", "eve", "eve"),
        ("session.refused", "?", "?"),
        ("token.made", "eve", "eve"),
        ("token.revoked", "eve", "eve"),
        ("user.changed", "eve", "cli"),
        ("user.password-set", "eve", "cli"),
        ("session.started", "eve", "eve"),
    ]
    assert len({event.id for event in told}) == len(told)


async def test_without_a_database_there_is_nobody(tmp_path: Path, nats_server: NatsServer) -> None:
    async with people_plant(tmp_path, nats_server) as plant:
        alone = Api(plant.api.store, plant.api.control)
        async with alone.http:
            for method, path, headers in (
                ("POST", "/v1/login-links", CLI),
                ("GET", "/v1/users", CLI),
                ("GET", "/v1/tokens", CLI),
                ("GET", "/v1/keys", {}),
            ):
                answer = await alone.http.request(method, path, headers=headers)
                assert answer.status_code == 503
                assert "api.app_url" in answer.json()["title"]
