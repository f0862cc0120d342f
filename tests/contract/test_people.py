"""What is kept about people: one suite over SQLite and PostgreSQL."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from cloud.people.logic import (
    LIFE_US,
    MAX_OPEN,
    MAX_SESSIONS,
    MAX_TOKENS,
    USED_AFTER_US,
    ApiToken,
    Credential,
    Session,
    User,
    digest,
    new_id,
)
from cloud.people.port import Change, PeopleStore, open_people
from deploy.servers.postgresql import PostgreSQL
from shared.access import Right, Role, Via
from shared.clock import ManualClock
from shared.errors import Conflict, Misconfigured, NotFound, Rejected, Unavailable
from shared.events import Event, at, parse_event
from shared.people_events import LoginLinkMade, SessionEnded, SessionRefused, UserAdded
from shared.sqlalchemy import open_database

Open = Callable[[], AbstractAsyncContextManager[PeopleStore]]


class Place:
    """A database of this test alone."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = ManualClock()

    def open(self) -> AbstractAsyncContextManager[PeopleStore]:
        return open_people(self.url, self.clock)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401 - a generator
    with PostgreSQL(tmp_path_factory.mktemp("postgresql")) as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return Place(f"sqlite:///{tmp_path}/app.db")
    url = request.getfixturevalue("server").url
    async with open_database(url, setting="x") as database:
        await database.write(lambda c: c.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public")))
    return Place(url)


@pytest.fixture
async def store(place: Place) -> AsyncIterator[PeopleStore]:
    async with place.open() as opened:
        yield opened


EVE = User("eve", "Eve", Role.ENGINEER)


def told(what: str = "eve") -> Event:
    return LoginLinkMade(source="cloud/people", subject=what, occurred_at=at(new_time()), by="test")


_times = iter(range(1_700_000_000_000_000, 1_800_000_000_000_000))


def new_time() -> int:
    return next(_times)


async def add(store: PeopleStore, user: User = EVE, password: str | None = None) -> None:
    await store.users.add(user, password, told())


async def events(store: PeopleStore) -> list[Event]:
    return [parse_event(event) for _, _, event in await store.outbox.waiting(1000)]


async def test_users_are_kept_over_a_restart_and_names_are_taken_once(place: Place) -> None:
    async with place.open() as store:
        await add(store)
        await add(store, replace(EVE, name="ann", subject="https://id.example abc"), "hash")
        with pytest.raises(Conflict, match="eve"):
            await add(store)
        with pytest.raises(Conflict):
            await add(store, replace(EVE, name="bob", subject="https://id.example abc"))
    async with place.open() as store:
        ann, eve = await store.users.all()
        assert eve == replace(EVE, created_us=place.clock.now_us())
        assert (ann.has_password, ann.subject) == (True, "https://id.example abc")
        assert await store.users.by_subject(ann.subject) == ann
        assert await store.users.one("eve") == eve
        assert await store.users.password("ann") == "hash"
        assert await store.users.password("eve") is None
        assert await store.users.password("nobody") is None
        for missing in (store.users.one("bob"), store.users.by_subject("bob")):
            with pytest.raises(NotFound):
                await missing
        assert len(await events(store)) == 2  # a change that failed tells nothing


async def test_a_change_and_its_event_are_one(store: PeopleStore) -> None:
    await add(store)
    changed = await store.users.change("eve", Change(role=Role.VIEWER, display_name="E."), told("changed"))
    assert (changed.role, changed.active, changed.display_name) == (Role.VIEWER, True, "E.")
    assert (await store.users.change("eve", Change(), told("nothing"))) == changed
    with pytest.raises(NotFound):
        await store.users.change("bob", Change(active=False), told("lost"))
    with pytest.raises(NotFound):
        await store.users.set_password("bob", "hash", told("lost"))
    assert [event.subject for event in await events(store)] == ["eve", "changed", "nothing"]


def session(name: str, place: Place, owner: str = "eve", **more: Any) -> Session:  # noqa: ANN401 - fields
    now = place.clock.now_us()
    return replace(Session(name, owner, "password", now, now + 3_600_000_000, now), **more)


async def test_sessions_are_found_by_their_hash_with_their_owner_as_now(
    store: PeopleStore, place: Place
) -> None:
    await add(store)
    await store.credentials.add_session(session("s1", place), digest("one"), told())
    found = await store.credentials.find(digest("one"))
    now = place.clock.now_us()
    assert found == Credential(Via.SESSION, "s1", "eve", Role.ENGINEER, True, None, now + 3_600_000_000, now)
    await store.users.change("eve", Change(role=Role.VIEWER), told())
    assert replace(found, role=Role.VIEWER) == await store.credentials.find(digest("one"))
    assert await store.credentials.find(digest("two")) is None
    with pytest.raises(NotFound):
        await store.credentials.add_session(session("s2", place, "bob"), digest("two"), told())


async def test_use_is_kept_a_minute_precise(store: PeopleStore, place: Place) -> None:
    await add(store)
    await store.credentials.add_session(session("s1", place), digest("one"), told())
    await store.credentials.add_token(token("t1", place), digest("two"), told())
    for key in ("one", "two"):
        found = await store.credentials.find(digest(key))
        assert found is not None
        await store.credentials.used(found, found.used_us + USED_AFTER_US - 1)
        assert found == await store.credentials.find(digest(key))
        await store.credentials.used(found, found.used_us + USED_AFTER_US)
        again = await store.credentials.find(digest(key))
        assert again == replace(found, used_us=found.used_us + USED_AFTER_US)


async def test_sessions_end_one_by_one_all_at_once_and_by_time(store: PeopleStore, place: Place) -> None:
    def ended(owner: str) -> Event:
        return SessionEnded(source="s", subject=owner, occurred_at=at(new_time()), by="x", session="s")

    await add(store)
    await add(store, replace(EVE, name="ann"))
    for name in ("s1", "s2", "s3"):
        await store.credentials.add_session(session(name, place), digest(name), told())
        await place.clock.advance(1)
    assert [each.id for each in await store.credentials.sessions("eve")] == ["s3", "s2", "s1"]
    with pytest.raises(NotFound):
        await store.credentials.drop_session("s1", "ann", ended)
    await store.credentials.drop_session("s1", "eve", ended)
    with pytest.raises(NotFound):
        await store.credentials.drop_session("s1", None, ended)
    await store.credentials.drop_session("s2", None, ended)
    assert [event.subject for event in await events(store)][-2:] == ["eve", "eve"]
    await store.credentials.add_session(session("s4", place), digest("s4"), told())
    await store.users.set_password("eve", "hash", told(), keep="s4")
    assert [each.id for each in await store.credentials.sessions("eve")] == ["s4"]
    await store.users.change("eve", Change(active=False), told())
    assert await store.credentials.sessions("eve") == []
    assert await store.credentials.find(digest("s4")) is None
    await store.credentials.add_session(session("s5", place), digest("s5"), told())
    await place.clock.advance(3600)
    assert await store.credentials.sessions("eve") == []


async def test_sessions_of_one_user_are_bounded(store: PeopleStore, place: Place) -> None:
    await add(store)
    for number in range(MAX_SESSIONS + 1):
        await store.credentials.add_session(session(f"s{number}", place), digest(str(number)), told())
        await place.clock.advance(1)
    kept = [each.id for each in await store.credentials.sessions("eve")]
    assert len(kept) == MAX_SESSIONS
    assert "s0" not in kept


def token(name: str, place: Place, owner: str = "eve", **more: Any) -> ApiToken:  # noqa: ANN401 - fields
    scopes = frozenset({Right.READ, Right.ENGINEER})
    return replace(ApiToken(name, owner, "a label", scopes, place.clock.now_us()), **more)


async def test_tokens_are_kept_listed_and_revoked(store: PeopleStore, place: Place) -> None:
    await add(store)
    await add(store, replace(EVE, name="ann"))
    first, second = token("t1", place), token("t2", place, "ann", expires_us=place.clock.now_us() + 5)
    await store.credentials.add_token(first, digest("one"), told())
    await place.clock.advance(1)
    await store.credentials.add_token(replace(second, created_us=place.clock.now_us()), digest("two"), told())
    assert [each.id for each in await store.credentials.tokens()] == ["t1", "t2"]
    assert await store.credentials.tokens("eve") == [first]
    found = await store.credentials.find(digest("one"))
    assert found == Credential(Via.TOKEN, "t1", "eve", Role.ENGINEER, True, first.scopes, 0, 0)
    with pytest.raises(NotFound):
        await store.credentials.add_token(token("t3", place, "bob"), digest("three"), told())
    with pytest.raises(NotFound):
        await store.credentials.drop_token("t1", "ann", told)
    await store.credentials.drop_token("t1", "eve", told)
    assert await store.credentials.find(digest("one")) is None


async def test_tokens_of_one_user_are_bounded_and_expired_ones_make_room(
    store: PeopleStore, place: Place
) -> None:
    await add(store)
    soon = place.clock.now_us() + 1_000_000
    for number in range(MAX_TOKENS):
        made = token(f"t{number}", place, expires_us=soon if number == 0 else 0)
        await store.credentials.add_token(made, digest(str(number)), told())
    with pytest.raises(Rejected, match="revoke"):
        await store.credentials.add_token(token("more", place), digest("more"), told())
    await place.clock.advance(1)
    await store.credentials.add_token(token("more", place), digest("more"), told())
    assert "t0" not in {each.id for each in await store.credentials.tokens("eve")}


async def test_a_link_works_once_and_survives_a_restart(place: Place) -> None:
    async with place.open() as store:
        link = await store.links.make(told())
        assert len(link.code) == 43
        assert link.expires_us == place.clock.now_us() + LIFE_US
    async with place.open() as store:
        with pytest.raises(NotFound):
            await store.links.redeem("unknown")
        both = await asyncio.gather(
            *(store.links.redeem(link.code) for _ in range(5)), return_exceptions=True
        )
        assert sorted(type(one).__name__ for one in both) == ["NoneType", *["NotFound"] * 4]


async def test_links_expire_and_open_ones_are_bounded(store: PeopleStore, place: Place) -> None:
    old = await store.links.make(told())
    await place.clock.advance(600)
    with pytest.raises(NotFound):
        await store.links.redeem(old.code)
    first = await store.links.make(told())
    for _ in range(MAX_OPEN):
        await place.clock.advance(0.001)
        last = await store.links.make(told())
    with pytest.raises(NotFound):
        await store.links.redeem(first.code)
    await store.links.redeem(last.code)


async def test_signing_keys_are_newest_first_and_old_ones_go(store: PeopleStore, place: Place) -> None:
    assert await store.keys.all() == []
    for name in ("a", "b", "c"):
        await store.keys.add(name, f"pair {name}", place.clock.now_us() + 10_000_000, told())
        await place.clock.advance(4)
    assert await store.keys.all() == ["pair c", "pair b", "pair a"]
    await place.clock.advance(3)
    assert await store.keys.all() == ["pair c", "pair b"]
    await store.keys.add("d", "pair d", place.clock.now_us(), told())
    assert await store.keys.all() == ["pair d"]


async def test_the_outbox_keeps_order_and_forgets_what_was_sent(store: PeopleStore) -> None:
    for number in range(5):
        await store.links.make(told(f"s{number}"))
    waiting = await store.outbox.waiting(3)
    assert [parse_event(event).subject for _, _, event in waiting] == ["s0", "s1", "s2"]
    assert [event_id for _, event_id, _ in waiting] == [parse_event(event).id for _, _, event in waiting]
    await store.outbox.sent(waiting[-1][0])
    assert [event.subject for event in await events(store)] == ["s3", "s4"]


async def test_a_full_outbox_spares_refusals_first_and_then_refuses_changes(
    store: PeopleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.people.sql.outbox.MAX_WAITING", 3)

    def refusal(number: int) -> Event:
        moment = at(new_time())
        return SessionRefused(
            source="s", subject=f"r{number}", occurred_at=moment, by="x", method="p", address="", why=""
        )

    await store.links.make(told("a"))
    assert await store.outbox.put(refusal(1))
    assert await store.outbox.put(refusal(2))
    assert not await store.outbox.put(refusal(3))
    await store.links.make(told("b"))
    await store.links.make(told("c"))
    assert [event.subject for event in await events(store)] == ["a", "b", "c"]
    with pytest.raises(Unavailable):
        await add(store)
    assert await store.users.all() == []


async def test_a_stronger_hash_replaces_only_the_one_it_was_made_of(store: PeopleStore) -> None:
    await add(store, password="old")
    await store.users.rehash("eve", "another", "new")
    assert await store.users.password("eve") == "old"
    await store.users.rehash("eve", "old", "new")
    assert await store.users.password("eve") == "new"


async def test_a_file_of_the_release_before_still_opens(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "CREATE TABLE login_links (digest BLOB PRIMARY KEY, expires_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
            "INSERT INTO login_links VALUES (x'00', 9000000000000000); PRAGMA user_version = 1;"
        )
    async with open_people(f"sqlite:///{path}", ManualClock()) as store:
        link = await store.links.make(told())
    async with open_people(f"sqlite:///{path}", ManualClock()) as store:
        await store.links.redeem(link.code)
        await store.ping()


async def test_what_is_no_such_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database, and longer than a header of one hundred bytes " * 3)
    for url in (f"sqlite:///{tmp_path}/text.db", "redis://localhost"):
        with pytest.raises(Misconfigured):
            async with open_people(url, ManualClock()):
                pass


async def test_a_database_that_is_away_is_waited_for() -> None:
    with pytest.raises(Unavailable):
        async with open_people("postgresql://a:b@127.0.0.1:1/x", ManualClock()):
            pass


async def test_secrets_are_not_kept(place: Place, store: PeopleStore) -> None:
    await add(store)
    await store.credentials.add_session(session("s1", place), digest("ims_a-secret"), told())
    link = await store.links.make(told())
    async with open_database(place.url, setting="x") as database:
        rows = await database.read(
            lambda c: [
                repr(c.execute(text(f"SELECT * FROM {name}")).all())  # noqa: S608 - names of this test
                for name in ("sessions", "login_links", "audit_outbox", "users")
            ]
        )
    assert not any(secret in row for row in rows for secret in ("a-secret", link.code))


def test_ids_differ() -> None:
    assert len({new_id() for _ in range(100)}) == 100


async def test_a_user_added_is_told_whole(store: PeopleStore) -> None:
    event = UserAdded(
        source="s", subject="eve", occurred_at=at(new_time()), by="x", role="admin", origin="local"
    )
    await store.users.add(EVE, None, event)
    assert await events(store) == [event]
