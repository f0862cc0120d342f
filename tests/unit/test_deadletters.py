"""Dead letters on a real log: pages, one letter, and inputs sent again through broker, gateway and ingest's store."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
import pytest
from prometheus_client import CollectorRegistry

from cloud.deadletters.app import DeadLetters, Metrics, publisher
from cloud.deadletters.logic import RESEND_US, Letter, Place, Wanted
from cloud.ingest.logic import read_batch
from cloud.telemetry.port import open_store
from gateway.app import run
from gateway.settings import GatewaySettings
from shared import names
from shared.clock import SystemClock
from shared.dead_letter import MAX_PAYLOAD, DeadLetter
from shared.errors import Conflict, NotFound, Rejected, Unavailable
from shared.eventlog import EventLog, Position, Record, Stored
from shared.events import DeadLetterReplayed, parse_event
from shared.jetstream import default_budgets, ensure_topics, open_jetstream
from shared.nats import ControlPlane, open_control
from shared.nats.link import open_link
from shared.paho import open_mqtt
from shared.supervise import free_ports
from tests.servers import NatsServer
from tests.unit.ledger_plant import EDGE, MACHINE, open_plant, rows


class LaterClock(SystemClock):
    """Some minutes ahead: letters are as old as that."""

    def now_us(self) -> int:
        return super().now_us() + 2 * RESEND_US


class Plant:
    """Log, control plane and the service on one server."""

    def __init__(self, server: NatsServer, log: EventLog, control: ControlPlane) -> None:
        self.server, self.log, self.control = server, log, control
        self.mqtt_url = f"mqtt://127.0.0.1:{server.mqtt_port}"
        self.registry = CollectorRegistry()
        self.letters = DeadLetters(
            log,
            control.assignments,
            LaterClock(),
            publish=publisher(self.mqtt_url, "admin", "secret"),
            metrics=Metrics(self.registry),
        )

    async def refuse(self, topic: str, payload: bytes, **more: str) -> Place:
        letter = DeadLetter.of(more.get("reason", "no"), topic, payload, source="gateway-1", received_us=5)
        return await self.append(letter)

    async def append(self, letter: DeadLetter, headers: dict[str, str] | None = None) -> Place:
        position = await self.log.append(names.DEAD_LETTER, "k", [Record(letter.encode(), headers or {})])
        return Place("0", position["0"])

    async def open_ones(self, count: int) -> list[Letter]:
        """Open letters, newest first, once there are so many."""
        async with asyncio.timeout(15):
            while True:
                page = await self.letters.page(Wanted(), {}, 50)
                if len(page.letters) == count:
                    return [seen.letter for seen in page.letters]
                await asyncio.sleep(0.02)

    async def records(self, topic: str) -> list[Stored]:
        return [record async for record in self.log.read(topic)]

    async def take_no_resends(self) -> None:
        """Let the log forget a record's id after a tenth of a second, as it does after two minutes."""
        async with open_link(self.server.url, credentials=self.server.credentials) as link:
            stream = f"log-{names.DEAD_LETTER}"
            config = (await link.session().api(f"STREAM.INFO.{stream}"))["config"]
            await link.session().api(f"STREAM.UPDATE.{stream}", {**config, "duplicate_window": 100_000_000})

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[None]:
        (port,) = free_ports(1)
        settings = GatewaySettings.load(
            environ={},
            flags={
                "mqtt_url": self.mqtt_url,
                "mqtt_username": "admin",
                "mqtt_password": "secret",
                "nats_url": self.server.url,
                "credentials": self.server.credentials,
                "port": port,
            },
        )
        stop = asyncio.Event()
        task = asyncio.create_task(run(settings, stop))
        try:
            yield
        finally:
            stop.set()
            with contextlib.suppress(asyncio.CancelledError):
                async with asyncio.timeout(10):
                    await task

    async def send(self, topic: str, payload: bytes) -> None:
        """Publish as a device or an edge; the gateway is up, or its session waits."""
        async with open_mqtt(
            self.mqtt_url, client_id="sender", username="admin", password="secret", clean=True
        ) as c:
            await c.wait_connected(5)
            await c.publish(topic, payload)


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await found():
            await asyncio.sleep(0.02)


@pytest.fixture
async def plant(nats_server: NatsServer) -> AsyncIterator[Plant]:
    url, credentials = nats_server.url, nats_server.credentials
    await ensure_topics(url, credentials=credentials, budgets=default_budgets(nats_server.max_file_store))
    async with (
        open_jetstream(url, credentials=credentials) as log,
        open_control(url, credentials=credentials) as control,
    ):
        await control.ensure_buckets(["e1"], models_bytes=1 << 20)
        yield Plant(nats_server, log, control)


async def test_letters_are_listed_newest_first_page_by_page(plant: Plant) -> None:
    assert (await plant.letters.page(Wanted(), {}, 5)).letters == ()
    letters = [
        DeadLetter.of(f"r{n % 7}", f"plant/a/b/{n}", b"x" * n, source="e", received_us=n)
        for n in range(1, 601)
    ]
    for start in range(0, 600, 100):
        await plant.log.append(
            names.DEAD_LETTER, "k", [Record(letter.encode()) for letter in letters[start : start + 100]]
        )
    first = await plant.letters.page(Wanted(), {}, 10)
    assert [seen.letter.content.received_us for seen in first.letters] == list(range(600, 590, -1))
    assert first.letters[0].letter.content.payload == b""
    assert first.before == {"0": 591}
    second = await plant.letters.page(Wanted(), first.before, 10)
    assert second.letters[0].letter.place == Place("0", 590)
    some = await plant.letters.page(Wanted(reason="R3"), {}, 500)
    assert len(some.letters) == 86
    assert (some.before, some.scanned) == ({}, 600)


async def test_a_letter_is_shown_with_all_of_it_and_what_is_not_there_is_not(plant: Plant) -> None:
    place = await plant.refuse("plant/s1/lone/t", b"\x00\xff")
    await plant.log.append(names.DEAD_LETTER, "k", [Record(b"garbage")])
    seen = await plant.letters.show(place)
    assert (seen.letter.content.payload, seen.via, seen.fate) == (b"\x00\xff", "mqtt", None)
    odd = await plant.letters.show(Place("0", 2))
    assert (odd.via, odd.letter.content.payload) == (None, b"garbage")
    for missing in (Place("0", 0), Place("0", 3), Place("1", 1)):
        with pytest.raises(NotFound):
            await plant.letters.show(missing)


async def test_json_that_is_refused_again_is_a_new_letter(plant: Plant) -> None:
    await plant.take_no_resends()
    payload = orjson.dumps({"ts": 1_700_000_000_000, "value": 1.5, "unit": "ell"})
    async with plant.gateway():
        await until(lambda: _subscribed(plant))
        await plant.send("plant/s1/lone/temp", payload)
        [first] = await plant.open_ones(1)
        await until(lambda: _older(first, 300_000))
        done = await plant.letters.replay(first.place, request="r1", by="cli", at_once=False, again=False)
        assert (done.fate.outcome, done.fate.note, done.changed) == ("replayed", "plant/s1/lone/temp", True)
        [second] = await plant.open_ones(1)
    assert second.place != first.place
    assert second.content.reason == first.content.reason == "unknown unit 'ell'"
    [event] = [parse_event(record.value) for record in await plant.records(names.AUDIT)]
    assert isinstance(event, DeadLetterReplayed)
    assert (event.letter, event.by, event.via, event.correlation_id) == (
        str(first.place),
        "cli",
        "mqtt",
        "r1",
    )
    assert plant.registry.get_sample_value("im_dead_letters_handled_total", {"outcome": "replayed"}) == 1


async def _older(letter: Letter, microseconds: int) -> bool:
    return SystemClock().now_us() > letter.time_us + microseconds


async def _subscribed(plant: Plant) -> bool:
    """Whether the gateway takes what comes: a probe of its own has become a letter or a frame."""
    await plant.send("plant/s1/probe/temp", b'{"ts":1700000000000,"value":1,"unit":"degC"}')
    return any(record.key == "probe" for record in await plant.records(names.SENSOR_READINGS))


async def test_a_frame_of_a_machine_that_is_assigned_by_now_ends_in_the_log_and_the_store(
    plant: Plant, nats_server: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with open_plant(nats_server, tmp_path_factory.mktemp("edge")) as edge:
        await plant.control.ensure_buckets([EDGE], models_bytes=1 << 20)
        frame = edge.cut(rows(20))
        async with plant.gateway():
            await until(lambda: _subscribed(plant))
            await plant.send(f"im/v1/s1/{EDGE}/frames", frame)
            [refused] = await plant.open_ones(1)
            assert "not assigned" in refused.content.reason
            edge.file.free([(1, 20)])
            await edge.ingest()
            await plant.control.assign("s1", MACHINE, EDGE)
            await plant.letters.replay(refused.place, request="r1", by="cli", at_once=False, again=False)
            await until(lambda: _has(plant, frame))
        await edge.ingest()
        assert (await plant.letters.page(Wanted(), {}, 5)).letters == ()
        report = await edge.audit()
        assert report.findings == ()
        [source] = [source for source in report.sources if source.edge == EDGE]
        assert (source.stored, source.rejected) == (20, 0)


async def _has(plant: Plant, frame: bytes) -> bool:
    return any(record.value == frame for record in await plant.records(names.SENSOR_READINGS))


async def test_a_letter_of_ingest_is_appended_again_and_stored_once_it_can_be(
    plant: Plant, tmp_path_factory: pytest.TempPathFactory
) -> None:
    event = b'{"id":"i","type":"t","subject":"m1","time":"2026-01-01T00:00:00Z"}'
    headers = {
        names.HEADER_SITE: "s1",
        names.HEADER_EDGE: "e1",
        names.HEADER_EPOCH: "ab" * 16,
        names.HEADER_ROW: "1",
    }
    broken = Record(event.replace(b'"i"', b"null") + b" " * MAX_PAYLOAD, headers)
    await plant.log.append(names.MACHINE_EVENTS, "m1", [broken])
    [record] = await plant.records(names.MACHINE_EVENTS)
    _, [letter] = read_batch([record])
    await plant.log.append(names.DEAD_LETTER, "m1", [letter.to_record()])
    [seen] = await plant.open_ones(1)
    assert not seen.content.whole
    await plant.letters.replay(seen.place, request="r1", by="cli", at_once=False, again=False)
    first, second = await plant.records(names.MACHINE_EVENTS)
    assert (second.value, second.headers, second.key) == (first.value, first.headers, first.key)
    async with open_store(f"sqlite:///{tmp_path_factory.mktemp('store')}/t.db") as store:
        await store.write(read_batch([first])[0])
        [(ranges)] = (await store.stored_ranges()).values()
        assert list(ranges.rejected) == [(1, 1)]
        mended = Stored(
            second.topic, "m1", event, second.headers, "0", second.offset, 5
        )  # a later release reads it
        await store.write(read_batch([mended])[0])
        [(ranges)] = (await store.stored_ranges()).values()
        assert (list(ranges.stored), list(ranges.rejected)) == ([(1, 1)], [])
        assert len(await store.events("m1")) == 1


async def test_an_input_that_aged_out_of_its_topic_can_not_be_appended_again(plant: Plant) -> None:
    place = await plant.append(
        DeadLetter.of("no", names.SCORES, b"x", source="ingest", received_us=5, position={"0": 44})
    )
    with pytest.raises(NotFound, match="aged out"):
        await plant.letters.replay(place, request="r1", by="cli", at_once=False, again=False)
    assert await plant.records(names.AUDIT) == []


async def test_a_letter_is_seen_to_once_unless_again(plant: Plant) -> None:
    place = await plant.refuse("plant/s1/lone/t", b"x")
    dropped = await plant.letters.drop(place, "a test", by="cli", request="k")
    assert (dropped.fate.outcome, dropped.fate.note, dropped.changed) == ("dropped", "a test", True)
    assert not (await plant.letters.drop(place, "a test", by="cli", request="k")).changed
    with pytest.raises(Conflict, match="dropped by cli already"):
        await plant.letters.drop(place, "a test", by="cli", request="other")
    with pytest.raises(Conflict, match="dropped by cli already"):
        await plant.letters.replay(place, request="other", by="cli", at_once=False, again=False)
    done = await plant.letters.replay(place, by="cli", request="other", again=True, at_once=True)
    assert done.fate.outcome == "replayed"
    assert not (
        await plant.letters.replay(place, request="other", by="cli", at_once=False, again=False)
    ).changed
    assert (await plant.letters.page(Wanted(), {}, 5)).letters == ()
    [all_of_them] = (await plant.letters.page(Wanted(handled=True), {}, 5)).letters
    assert all_of_them.fate == done.fate
    with pytest.raises(NotFound):
        await plant.letters.drop(Place("0", 9), "none", by="cli", request="n")


async def test_a_young_letter_waits_because_a_second_refusal_would_not_show(plant: Plant) -> None:
    young = DeadLetters(
        plant.log,
        plant.control.assignments,
        SystemClock(),
        publish=publisher(plant.mqtt_url, "admin", "secret"),
    )
    place = await plant.refuse("plant/s1/lone/t", b"x")
    with pytest.raises(Conflict, match=r"too young.*wait 1\d\d s"):
        await young.replay(place, request="k", by="cli", at_once=False, again=False)
    assert (await young.replay(place, by="cli", request="k", again=False, at_once=True)).changed


async def test_nothing_is_written_down_when_nothing_was_sent(plant: Plant) -> None:
    place = await plant.refuse("plant/s1/lone/t", b"x")
    [nowhere] = free_ports(1)
    for publish in (None, publisher(f"mqtt://127.0.0.1:{nowhere}", "admin", "secret")):
        with pytest.MonkeyPatch.context() as quick:
            quick.setattr("cloud.deadletters.app.PUBLISH_SECONDS", 0.2)
            away = DeadLetters(plant.log, plant.control.assignments, LaterClock(), publish=publish)
            with pytest.raises(Unavailable):
                await away.replay(place, request="k", by="cli", at_once=False, again=False)
    with pytest.raises(Rejected, match="nobody takes"):
        await plant.letters.replay(
            await plant.refuse("other", b"x"), request="k", by="cli", at_once=False, again=False
        )
    assert await plant.records(names.AUDIT) == []


class Racing:
    """The log, where somebody writes an event of another kind just before each of our first writes."""

    def __init__(self, log: EventLog, times: int) -> None:
        self._log, self._times = log, times
        self.read, self.end = log.read, log.end

    async def append(
        self, topic: str, key: str, records: list[Record], *, fence: Position | None = None
    ) -> Position:
        if self._times and topic == names.AUDIT:
            self._times -= 1
            await self._log.append(topic, key, [Record(b"{}")])
        return await self._log.append(topic, key, records, fence=fence)


@pytest.mark.parametrize(("times", "works"), [(2, True), (9, False)])
async def test_another_writer_of_the_topic_is_read_first(plant: Plant, times: int, works: bool) -> None:  # noqa: FBT001 - a case
    place = await plant.refuse("plant/s1/lone/t", b"x")
    racing: EventLog = Racing(plant.log, times)  # type: ignore[assignment]
    letters = DeadLetters(racing, plant.control.assignments, LaterClock())
    if works:
        done = await letters.drop(place, "why", by="cli", request="k")
        assert done.position == {"0": times + 1}
        return
    with pytest.raises(Conflict, match="moved on"):
        await letters.drop(place, "why", by="cli", request="k")


class Forgetful:
    """The log, whose confirmation of our write is lost once, as a retry that Conflicts."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.read, self.end = log.read, log.end

    async def append(
        self, topic: str, key: str, records: list[Record], *, fence: Position | None = None
    ) -> Position:
        await self._log.append(topic, key, records, fence=fence)
        raise Conflict("the topic moved on")


async def test_a_write_whose_confirmation_was_lost_is_found(plant: Plant) -> None:
    place = await plant.refuse("plant/s1/lone/t", b"x")
    forgetful: EventLog = Forgetful(plant.log)  # type: ignore[assignment]
    letters = DeadLetters(forgetful, plant.control.assignments, LaterClock())
    assert (await letters.drop(place, "why", by="cli", request="k")).changed
    assert len(await plant.records(names.AUDIT)) == 1
