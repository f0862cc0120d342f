"""The connection to nats-server and the control plane, on a real server that is killed, frozen and restarted."""

import asyncio
import hashlib
import inspect
import os
from collections.abc import AsyncIterator
from contextlib import suppress

import nats.errors
import nats.js.errors
import pytest

from shared import names
from shared.errors import Conflict, IndustrialMindError, Misconfigured, NotFound, Rejected, Unavailable
from shared.jetstream import TopicBudget, default_budgets, ensure_topics
from shared.nats import ControlPlane, Timeouts, open_control, open_link
from shared.nats.errors import DRIVER_ERRORS, raise_api_error, translated
from shared.nats.session import Session
from tests.servers import NatsServer

QUICK = Timeouts(connect=3, request=2, produce=3, backoff_first=0.05, backoff_cap=0.2)


@pytest.fixture
async def control(nats_server: NatsServer) -> AsyncIterator[ControlPlane]:
    async with open_control(nats_server.url, credentials=nats_server.credentials, timeouts=QUICK) as opened:
        await opened.ensure_buckets(["e1", "e2"], models_bytes=8 << 20)
        yield opened


def driver_exceptions() -> list[type[Exception]]:
    return [
        cls
        for module in (nats.errors, nats.js.errors)
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Exception) and cls.__module__ == module.__name__
    ]


@pytest.mark.parametrize("cls", driver_exceptions(), ids=lambda cls: f"{cls.__module__}.{cls.__name__}")
def test_every_error_of_the_driver_has_a_meaning(cls: type[Exception]) -> None:
    assert cls in DRIVER_ERRORS, "add it to shared/nats/errors.py"
    assert issubclass(DRIVER_ERRORS[cls], IndustrialMindError)


def test_a_lost_socket_is_unavailable_and_a_bug_stays_a_bug() -> None:
    assert isinstance(translated(ConnectionResetError(), "x"), Unavailable)
    assert isinstance(translated(TimeoutError(), "x"), Unavailable)
    assert isinstance(translated(nats.errors.AuthorizationError(), "x"), Misconfigured)
    assert isinstance(translated(nats.errors.MaxPayloadError(), "x"), Rejected)
    with pytest.raises(KeyError):
        translated(KeyError("bug"), "x")


@pytest.mark.parametrize(
    ("code", "number", "kind"),
    [
        (400, 10071, Conflict),
        (400, 10054, Rejected),
        (400, 10999, Rejected),
        (404, 10059, NotFound),
        (404, 0, NotFound),
        (503, 10077, Unavailable),
        (500, 10047, Unavailable),
        (408, 1, Unavailable),
    ],
)
def test_errors_of_the_api_by_their_code(code: int, number: int, kind: type[IndustrialMindError]) -> None:
    with pytest.raises(kind):
        raise_api_error({"code": code, "err_code": number, "description": "d"}, "x")


async def test_a_scoring_state_is_replaced_only_over_the_one_that_was_read(control: ControlPlane) -> None:
    assert await control.scoring_state("m1") == (0, b"")
    first = await control.keep_scoring_state("m1", b"one", 0)
    with pytest.raises(Conflict):
        await control.keep_scoring_state("m1", b"late", 0)
    assert await control.scoring_state("m1") == (first, b"one")
    other = await control.keep_scoring_state("m2", b"two", 0)
    second = await control.keep_scoring_state("m1", b"three", first)
    assert first < other < second
    assert await control.scoring_state("m1") == (second, b"three")


async def test_assignments_are_kept_and_watched(control: ControlPlane) -> None:
    await control.assign("s1", "m1", "e1")
    watch = control.watch_assignments()
    async with asyncio.timeout(10):
        assert await anext(watch) == ("m1", ("s1", "e1"))
        assert await anext(watch) is None
        await control.assign("s1", "m2", "e2")
        assert await anext(watch) == ("m2", ("s1", "e2"))
        await control.assign("s1", "m1", "e2")
        assert await anext(watch) == ("m1", ("s1", "e2"))
    assert await control.assignments() == {"m1": ("s1", "e2"), "m2": ("s1", "e2")}


async def test_more_keys_than_a_page_holds(control: ControlPlane) -> None:
    for start in range(0, 700, 100):
        await asyncio.gather(*(control.assign("s1", f"m{n}", "e1") for n in range(start, start + 100)))
    assert len(await control.assignments()) == 700


async def test_desired_and_reported_are_an_edges_own(control: ControlPlane) -> None:
    await control.desire("e1", "machine.m1", b"\x00model")
    await control.report("e1", "state", b"running")
    assert await control.reported("e1") == {"state": b"running"}
    assert await control.reported("e2") == {}
    empty, full = control.watch_desired("e2"), control.watch_desired("e1")
    async with asyncio.timeout(10):
        assert await anext(empty) is None
        assert [await anext(full), await anext(full)] == [("machine.m1", b"\x00model"), None]
        await control.desire("e2", "machine.m9", b"")
        assert await anext(empty) == ("machine.m9", b"")


async def test_a_deleted_key_is_seen_as_none(nats_server: NatsServer, control: ControlPlane) -> None:
    await control.report("e1", "a", b"1")
    await control.report("e1", "gone", b"1")
    async with open_link(nats_server.url, credentials=nats_server.credentials) as link:
        delete = {"KV-Operation": "DEL"}
        await link.session().store("$KV.reported-e1.gone", b"", headers=delete)
        watch = control.watch_reported("e1")
        assert [await anext(watch), await anext(watch)] == [("a", b"1"), None]
        await link.session().store("$KV.reported-e1.a", b"", headers=delete)
        assert await asyncio.wait_for(anext(watch), 5) == ("a", None)
    assert await control.reported("e1") == {}


async def test_watches_and_values_survive_the_servers_kill(
    nats_server: NatsServer, control: ControlPlane
) -> None:
    await control.desire("e1", "a", b"1")
    watch = control.watch_desired("e1")
    assert [await anext(watch), await anext(watch)] == [("a", b"1"), None]
    coming = asyncio.ensure_future(anext(watch))
    await asyncio.to_thread(nats_server.kill)
    with pytest.raises(Unavailable):
        await control.reported("e1")
    with pytest.raises(Unavailable):
        await control.desire("e1", "b", b"2")
    await asyncio.to_thread(nats_server.start)
    async with asyncio.timeout(10):
        while True:
            try:
                await control.desire("e1", "b", b"2")
                break
            except Unavailable:
                await asyncio.sleep(0.02)
        assert await coming == ("b", b"2")
    assert await control.reported("e1") == {}


async def test_a_frozen_server_is_unavailable_and_comes_back(nats_server: NatsServer) -> None:
    timeouts = Timeouts(connect=1, request=0.3, produce=0.3)
    async with open_control(
        nats_server.url, credentials=nats_server.credentials, timeouts=timeouts
    ) as control:
        await control.ensure_buckets(["e1"])
        nats_server.pause()
        with pytest.raises(Unavailable, match="no answer within"):
            await control.report("e1", "a", b"1")
        nats_server.resume()
        await control.report("e1", "a", b"2")
        assert await control.reported("e1") == {"a": b"2"}


async def test_a_model_comes_back_whole_and_is_replaced_at_once(
    nats_server: NatsServer, control: ControlPlane
) -> None:
    first, second = os.urandom(3_000_001), os.urandom(128 << 10)
    assert await control.put_model("fan/1", first) == hashlib.sha256(first).hexdigest()
    assert await control.get_model("fan/1") == first
    for data in (second, b"", first):
        await control.put_model("fan/1", data)
        assert await control.get_model("fan/1") == data
    async with open_link(nats_server.url, credentials=nats_server.credentials) as link:
        state = (await link.session().api("STREAM.INFO.OBJ_models"))["state"]
    assert state["bytes"] < 3_300_000  # what was replaced takes no room
    with pytest.raises(NotFound):
        await control.get_model("fan/2")


async def test_a_damaged_model_is_kept_out(nats_server: NatsServer, control: ControlPlane) -> None:
    await control.put_model("m", b"x" * 300_000)
    async with open_link(nats_server.url, credentials=nats_server.credentials) as link:
        await link.session().api("STREAM.MSG.DELETE.OBJ_models", {"seq": 2})
    with pytest.raises(Unavailable, match="hash"):
        await control.get_model("m")


async def test_a_full_object_store_is_unavailable_and_keeps_the_former(control: ControlPlane) -> None:
    await control.put_model("m", b"first")
    with pytest.raises(Unavailable):
        await control.put_model("m", os.urandom(9 << 20))
    assert await control.get_model("m") == b"first"
    with pytest.raises(Rejected):
        await control.put_model("m", bytes((64 << 20) + 1))


@pytest.mark.parametrize("key", ["", "a b", "a*", ">", "a..b", ".a", "a.", "ä"])
async def test_a_bad_key_or_a_large_value_is_rejected(control: ControlPlane, key: str) -> None:
    with pytest.raises(Rejected):
        await control.report("e1", key, b"1")
    with pytest.raises(Rejected):
        await control.report("e1", "a", bytes((256 << 10) + 1))


async def test_an_edge_may_start_before_the_server(nats_server: NatsServer) -> None:
    nats_server.kill()
    async with open_control(
        nats_server.url, credentials=nats_server.credentials, timeouts=QUICK, wait=False
    ) as control:
        with pytest.raises(Unavailable):
            await control.reported("e1")
        watch = control.watch_desired("e1")
        coming = asyncio.ensure_future(anext(watch))
        await asyncio.to_thread(nats_server.start)
        async with open_control(nats_server.url, credentials=nats_server.credentials) as admin:
            await admin.ensure_buckets(["e1"])
        assert await asyncio.wait_for(coming, 10) is None


async def test_no_server_is_unavailable_within_the_connect_time(nats_server: NatsServer) -> None:
    nats_server.kill()
    with pytest.raises(Unavailable):
        async with open_control(nats_server.url, timeouts=Timeouts(connect=0.3)):
            pass


async def test_a_loss_is_seen_at_once_in_the_middle_of_writing(nats_server: NatsServer) -> None:
    """The server is killed while much is on its way to it, so that the dead socket refuses the rest."""
    async with open_link(nats_server.url, credentials=nats_server.credentials, timeouts=QUICK) as link:
        for _ in range(3):
            session = await link.connected()
            writers = [asyncio.create_task(write_until_lost(session)) for _ in range(3)]
            await session.flush()
            nats_server.kill()
            async with asyncio.timeout(5):
                await session.lost.wait()
                await asyncio.gather(*writers)
            nats_server.start()


async def write_until_lost(session: Session) -> None:
    while not session.lost.is_set():
        with suppress(IndustrialMindError):
            for _ in range(20):
                await session.publish("nobody.there", bytes(2000))
        await asyncio.sleep(0)


async def test_a_request_that_nobody_answers_fails_at_once(nats_server: NatsServer) -> None:
    async with open_link(nats_server.url, credentials=nats_server.credentials) as link:
        with pytest.raises(Unavailable, match="nobody answers"):
            await link.session().request("nobody.there", b"")
        with pytest.raises(Unavailable, match="nobody answers"):
            await link.session().page("no-such-stream", {"seq": 1, "batch": 1})
        with pytest.raises(NotFound):
            await link.session().api("STREAM.INFO.no-such-stream")
        with pytest.raises(Rejected):
            await link.session().publish("not a subject", b"")
        with pytest.raises(Rejected):
            await link.session().publish("large", bytes(2 << 20))


async def test_topics_are_made_again_without_a_change(nats_server: NatsServer) -> None:
    budgets = default_budgets(256 << 20)
    assert set(budgets) == set(names.LOG_TOPICS)
    assert budgets[names.SENSOR_READINGS].max_age_s == 30 * 86_400
    assert budgets[names.MODELS].max_age_s is None
    for _ in range(2):
        await ensure_topics(nats_server.url, credentials=nats_server.credentials, max_file_store=256 << 20)
    async with open_link(nats_server.url, credentials=nats_server.credentials) as link:
        listed = (await link.session().api("STREAM.LIST"))["streams"]
    configs = {stream["config"]["name"]: stream["config"] for stream in listed}
    assert {f"log-{topic}" for topic in names.LOG_TOPICS} | {"KV_leases"} == set(configs)
    assert all(config["max_bytes"] > 0 and config["discard"] == "new" for config in configs.values())
    assert sum(config["max_bytes"] for config in configs.values()) < 0.8 * (256 << 20)


async def test_budgets_beyond_the_store_are_misconfigured(nats_server: NatsServer) -> None:
    with pytest.raises(Misconfigured, match="budgets"):
        await ensure_topics(
            nats_server.url,
            credentials=nats_server.credentials,
            budgets={names.AUDIT: TopicBudget(1 << 30)},
            max_file_store=1 << 30,
        )


async def test_a_stream_beyond_the_servers_store_is_unavailable(nats_server: NatsServer) -> None:
    with pytest.raises(Unavailable):
        await ensure_topics(
            nats_server.url,
            credentials=nats_server.credentials,
            budgets={names.AUDIT: TopicBudget(2 << 30)},
            max_file_store=1 << 40,
        )


async def test_a_flush_whose_caller_is_gone_costs_no_connection(nats_server: NatsServer) -> None:
    async with open_link(nats_server.url, credentials=nats_server.credentials, timeouts=QUICK) as link:
        session = link.session()
        for _ in range(50):
            flushing = asyncio.create_task(session.flush())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            flushing.cancel()
            await asyncio.gather(flushing, return_exceptions=True)
            assert flushing.cancelled()
        await session.flush()
        assert link.session() is session
        assert not session.lost.is_set()
