"""Names, passwords, hashes and limits."""

import asyncio

import pytest

from cloud.people.argon2 import AT_ONCE, MAX_WAITING, Hasher
from cloud.people.limits import (
    ADDRESS_ATTEMPTS,
    MAX_KEYS,
    NAME_ATTEMPTS,
    Attempts,
    Counts,
    Requests,
)
from cloud.people.logic import check_name, check_password, sane_name
from shared.access import Principal, Role, Via
from shared.clock import ManualClock
from shared.errors import Rejected, Unavailable
from tests.unit.people_api import quick_hasher


@pytest.mark.parametrize("name", ["eve", "e", "eve.example@plant.example", "a_b-c", "7"])
def test_names_that_users_may_have(name: str) -> None:
    assert check_name(name) == sane_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "Eve", "-eve", "eve.", "e ve", "eve\n", "é", "e" * 101, "ui", "cli", "system"]
)
def test_names_that_users_may_not_have(name: str) -> None:
    with pytest.raises(Rejected):
        check_name(name)


def test_a_password_typed_as_a_name_is_not_written_down() -> None:
    assert sane_name("My Secret Password!") == "?"


@pytest.mark.parametrize(
    ("password", "good"),
    [
        ("correct horse battery", True),
        ("zwölf Zeichen!", True),
        ("elevenchars", False),
        ("twelve chars", True),
        ("x" * 257, False),
        ("aaaaaaaaaaaaaaaa", False),
        ("eve.example12", False),
        ("EVE.EXAMPLE12", False),
        ("exampleeveexample", False),
        ("eve likes twelve chars", True),
    ],
)
def test_which_passwords_are_good_enough(password: str, *, good: bool) -> None:
    if good:
        check_password("eve.example", password)
    else:
        with pytest.raises(Rejected):
            check_password("eve.example", password)


async def test_a_hash_knows_its_password_and_nobodys_is_none() -> None:
    hasher = quick_hasher()
    kept = await hasher.hash("correct horse battery")
    assert kept.startswith("$argon2id$")
    assert "correct" not in kept
    assert await hasher.verify(kept, "correct horse battery")
    assert not await hasher.verify(kept, "wrong")
    for unknown in (None, "", "no hash"):
        assert not await hasher.verify(unknown, "nobody's password")
    strong = Hasher()
    assert strong.outdated(kept)
    strong.close()
    hasher.close()


async def test_passwords_that_wait_are_bounded() -> None:
    hasher = quick_hasher()
    done = await asyncio.gather(
        *(hasher.verify(None, "x") for _ in range(AT_ONCE + MAX_WAITING + 5)), return_exceptions=True
    )
    assert sum(isinstance(each, Unavailable) for each in done) == 5
    assert not await hasher.verify(None, "x")
    hasher.close()


async def test_counts_expire_and_are_bounded() -> None:
    clock = ManualClock()
    counts = Counts(clock)
    assert [counts.incr("a", 60), counts.incr("a", 60)] == [1, 2]
    await clock.advance(59)
    assert (counts.get("a"), counts.get_expiry("a")) == (2, 60)
    await clock.advance(1)
    assert (counts.get("a"), counts.get("b")) == (0, 0)
    for number in range(MAX_KEYS + 5):
        counts.incr(str(number), 60)
    assert len(counts._counts) == MAX_KEYS
    assert counts.get("0") == 0
    assert counts.get(str(MAX_KEYS + 4)) == 1
    assert counts.reset() == MAX_KEYS


def test_a_flood_of_names_grows_nothing_and_pushes_no_count_out() -> None:
    attempts = Attempts(ManualClock())
    for _ in range(NAME_ATTEMPTS):
        assert attempts.take("eve", "192.0.2.1") == 0
    for number in range(20_000):
        attempts.take(f"name-{number}", f"10.{number % 250}.{number // 250}.1")
    assert attempts.take("eve", "192.0.2.2") > 0
    assert len(attempts._names._counts._counts) <= MAX_KEYS


def test_an_ipv6_network_is_one_address() -> None:
    attempts = Attempts(ManualClock())
    for number in range(ADDRESS_ATTEMPTS):
        assert attempts.take(f"n{number}", f"2001:db8:0:1::{number:x}") == 0
    assert attempts.take("another", "2001:db8:0:1:ffff::1") > 0
    assert attempts.take("another", "2001:db8:0:2::1") == 0


async def test_requests_are_counted_by_principal_but_not_a_services() -> None:
    clock = ManualClock()
    requests = Requests(clock, 2)
    eve, cli = Principal.of("eve", Role.VIEWER), Principal.of("cli", Role.ADMIN, via=Via.SERVICE)
    assert [requests.wait(eve) > 0 for _ in range(3)] == [False, False, True]
    assert [requests.wait(cli) for _ in range(3)] == [0, 0, 0]
    await clock.advance(60)
    assert requests.wait(eve) == 0
