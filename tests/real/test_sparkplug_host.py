"""The Sparkplug host between mosquitto and the log, with simulated nodes: what they publish is in the log."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import aiomqtt
import pytest
from prometheus_client import CollectorRegistry

from deploy.servers.mosquitto import Mosquitto
from gateway.lane import Known
from gateway.settings import GatewaySettings
from gateway.sparkplug.opening import open_sparkplug
from shared import names
from shared.clock import SystemClock
from shared.dead_letter import DeadLetter
from shared.eventlog import EventLog
from shared.events import Event, NodeGap, NodeOffline, NodeOnline, SparkplugMetric, parse_event
from shared.frame_codec import decode
from shared.frames import Readings
from shared.jetstream import default_budgets, ensure_topics, open_jetstream
from shared.sparkplug.state import HostState
from shared.sparkplug.topics import NodeId
from tests.servers import NatsServer
from tests.sparkplug_node import SparkplugNode

pytestmark = pytest.mark.real

HOST = "host-1"
NODE = NodeId("Plant A", "Node 1")
Reading = tuple[str, str, float]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("mosquitto"), persistence=False) as running:
        yield running


class Plant:
    """Broker and log; the host runs inside `host()`."""

    def __init__(self, broker: Mosquitto, log: EventLog) -> None:
        self.broker, self.log = broker, log
        self.registry = CollectorRegistry()
        self.settings = GatewaySettings.load(
            environ={},
            flags={
                "mqtt_url": broker.url,
                "mqtt_username": broker.username,
                "mqtt_password": broker.password,
                "sparkplug_host_id": HOST,
                "sparkplug_reorder_seconds": 0.5,
                "sparkplug_rebirth_seconds": 0.5,
            },
        )

    @asynccontextmanager
    async def host(self) -> AsyncIterator[None]:
        known, stop = Known(), asyncio.Event()
        known.loaded.set()
        self.registry = CollectorRegistry()
        async with open_sparkplug(
            self.settings, event_log=self.log, known=known, registry=self.registry, clock=SystemClock()
        ) as lane:
            task = asyncio.create_task(lane.run(stop))
            try:
                async with asyncio.timeout(15):
                    while lane.problem():
                        await asyncio.sleep(0.01)
                yield
            finally:
                stop.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def node(self, bd_seq: int = 0, *, obedient: bool = True, node: NodeId = NODE) -> SparkplugNode:
        return SparkplugNode(self.broker.port, node, host=HOST, bd_seq=bd_seq, obedient=obedient)

    def counted(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"im_gateway_sparkplug_{name}", labels) or 0.0

    async def count_reaches(self, wanted: float, name: str, **labels: str) -> None:
        """Return once the figure is there: it is counted after the log has what it counts."""
        async with asyncio.timeout(15):
            while self.counted(name, **labels) != wanted:
                await asyncio.sleep(0.01)

    async def readings(self, until: Callable[[list[Reading]], bool]) -> list[Reading]:
        """(machine, sensor, value) of what the log has, in its order, once it satisfies `until`."""
        async with asyncio.timeout(15):
            while True:
                found: list[Reading] = []
                async for record in self.log.read(names.SENSOR_READINGS):
                    header, body = decode(record.value)
                    assert header.edge == "gateway-1"
                    assert isinstance(body, Readings)
                    found += [
                        (header.machine, body.sensor_names[i], value)
                        for i, value in zip(body.sensor.tolist(), body.value.tolist(), strict=True)
                    ]
                if until(found):
                    return found
                await asyncio.sleep(0.05)

    async def events(self, until: Callable[[list[Event]], bool]) -> list[Event]:
        async with asyncio.timeout(15):
            while True:
                found = [parse_event(each.value) async for each in self.log.read(names.MACHINE_EVENTS)]
                if until(found):
                    return found
                await asyncio.sleep(0.05)

    async def letters(self) -> list[DeadLetter]:
        return [DeadLetter.decode(each.value) async for each in self.log.read(names.DEAD_LETTER)]

    async def state(self) -> HostState | None:
        """The host's retained STATE, as one who just came hears it."""
        async with aiomqtt.Client(
            "127.0.0.1", self.broker.port, username=self.broker.username, password=self.broker.password
        ) as client:
            await client.subscribe(f"spBv1.0/STATE/{HOST}", qos=1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    async for message in client.messages:
                        assert isinstance(message.payload, bytes)
                        assert message.retain
                        assert message.qos == 1
                        return HostState.decode(message.payload)
        return None


@pytest.fixture
async def plant(broker: Mosquitto, nats_server: NatsServer) -> AsyncIterator[Plant]:
    credentials = nats_server.credentials
    await ensure_topics(
        nats_server.url, credentials=credentials, budgets=default_budgets(nats_server.max_file_store)
    )
    async with open_jetstream(nats_server.url, credentials=credentials) as log:
        yield Plant(broker, log)


def has(*wanted: Reading) -> Callable[[list[Reading]], bool]:
    return lambda found: not Counter(wanted) - Counter(found)


def offline(device: str) -> Callable[[list[Event]], bool]:
    return lambda found: any(isinstance(each, NodeOffline) and each.device == device for each in found)


async def test_birth_and_data_are_in_the_log_with_their_values_units_and_times(plant: Plant) -> None:
    async with plant.host(), plant.node() as node:
        await node.birth()
        for value in range(300):
            await node.temp(float(value))
        await node.flow(2.5)
        wanted: list[Reading] = [("node-1", "supply-temp", float(value)) for value in (20, *range(300))]
        flows: list[Reading] = [("node-1-pump", "flow", 1.5), ("node-1-pump", "flow", 2.5)]
        found = await plant.readings(has(*wanted, *flows))
        assert [each for each in found if each[0] == "node-1"] == wanted
        assert Counter(found) == Counter([*wanted, *flows])
        kinds = {"node.online", "sparkplug.metric"}
        events = await plant.events(lambda found: {each.type for each in found} == kinds and len(found) == 3)
    assert {each.device for each in events if isinstance(each, NodeOnline)} == {"", "Pump"}
    assert [each.value for each in events if isinstance(each, SparkplugMetric)] == ["auto"]
    assert await plant.letters() == []
    async for record in plant.log.read(names.SENSOR_READINGS):
        body = decode(record.value)[1]
        assert isinstance(body, Readings)
        assert set(body.units) <= {"degC", "m3/h"}


async def test_a_killed_node_is_offline_with_its_device_and_comes_back(plant: Plant) -> None:
    async with plant.host():
        async with plant.node(bd_seq=3) as node:
            await node.birth()
            await plant.readings(has(("node-1-pump", "flow", 1.5)))
            node.die()
            events = await plant.events(offline(""))
        gone = [each for each in events if isinstance(each, NodeOffline)]
        assert {(each.device, each.bd_seq, each.reason) for each in gone} == {
            ("", 3, "NDEATH"),
            ("Pump", 3, "NDEATH"),
        }
        async with plant.node(bd_seq=4) as node:
            await node.birth()
            await node.temp(77.0)
            await plant.readings(has(("node-1", "supply-temp", 77.0)))
            await node.death_of_device()
            await plant.events(
                lambda found: any(isinstance(e, NodeOffline) and e.reason == "DDEATH" for e in found)
            )
    assert await plant.letters() == []


async def test_a_gap_is_told_and_a_rebirth_asked_for_and_nothing_that_came_is_lost(plant: Plant) -> None:
    async with plant.host(), plant.node() as node:
        await node.birth()
        node.skip(5)
        await node.temp(1.0)
        await node.temp(2.0)
        await node.until(lambda node: node.rebirths >= 1)
        await plant.readings(has(("node-1", "supply-temp", 1.0), ("node-1", "supply-temp", 2.0)))
        events = await plant.events(lambda found: any(isinstance(each, NodeGap) for each in found))
        [gap] = [each for each in events if isinstance(each, NodeGap)]
        assert (gap.expected, gap.missed) == (2, 5)
        assert node.commands == {(0, False)}
        await node.temp(3.0)
        await plant.readings(has(("node-1", "supply-temp", 3.0)))
        await plant.count_reaches(1, "gaps_total")
        await plant.count_reaches(5, "missed_total")


async def test_an_unknown_alias_is_a_dead_letter_and_a_rebirth_is_asked_for(plant: Plant) -> None:
    async with plant.host(), plant.node() as node:
        await node.birth()
        await node.stranger()
        await node.until(lambda node: node.rebirths >= 1)
        await plant.readings(lambda found: found.count(("node-1", "supply-temp", 20.0)) == 2)
    assert [letter.reason for letter in await plant.letters()] == ["'alias 99' is in no birth"]


async def test_history_is_stored_with_its_time(plant: Plant) -> None:
    async with plant.host(), plant.node() as node:
        await node.birth()
        await node.temp(5.0, ago_ms=3_600_000)
        await plant.readings(has(("node-1", "supply-temp", 5.0)))
        await plant.count_reaches(1, "metrics_total", outcome="historical")
    times: dict[float, int] = {}
    async for record in plant.log.read(names.SENSOR_READINGS):
        body = decode(record.value)[1]
        assert isinstance(body, Readings)
        times |= dict(zip(body.value.tolist(), (body.arrival_us - body.time_us).tolist(), strict=True))
    assert times[5.0] == pytest.approx(3_600_000_000, abs=60_000_000)


async def test_a_host_that_comes_late_asks_and_one_that_goes_says_so(plant: Plant) -> None:
    async with plant.node() as node:
        await node.birth()
        await node.temp(1.0)
        for _ in range(2):  # it starts again
            asked = node.rebirths
            async with plant.host():
                online = await node.until_host(online=True)
                await node.temp(2.0)  # nobody knows what it means
                await node.until(lambda node: node.rebirths > asked)  # noqa: B023 - awaited here
                assert await plant.state() == online
            offline = await node.until_host(online=False)
            assert offline.timestamp_ms >= online.timestamp_ms
            assert await plant.state() == offline
    found = await plant.readings(has(("node-1", "supply-temp", 20.0)))
    assert ("node-1", "supply-temp", 2.0) not in found
    assert {letter.reason for letter in await plant.letters()} == {"no birth of the node was heard"}


async def test_a_host_that_vanishes_is_said_to_be_offline_at_its_birth_s_time(plant: Plant) -> None:
    async with plant.node() as node, plant.host():
        born = await node.until_host(online=True)
        with contextlib.suppress(aiomqtt.MqttError):  # the host takes its session back
            async with aiomqtt.Client(
                "127.0.0.1",
                plant.broker.port,
                username=plant.broker.username,
                password=plant.broker.password,
                identifier="gateway-sparkplug",  # a session that is taken over ends without good-bye
            ):
                gone = await node.until_host(online=False)
        assert gone == HostState(online=False, timestamp_ms=born.timestamp_ms)
        again = await node.until_host(online=True)
        assert again.timestamp_ms > born.timestamp_ms


async def test_another_s_word_that_the_host_is_offline_is_answered(plant: Plant) -> None:
    async with plant.host(), plant.node() as node:
        await node.until_host(online=True)
        await asyncio.sleep(1.1)  # two hosts of one name do not argue faster than once a second
        lie = HostState(online=False, timestamp_ms=1)
        await node._mqtt.publish(f"spBv1.0/STATE/{HOST}", lie.encode(), qos=1, retain=True)
        await node.until(lambda node: lie in node.states)
        await node.until_host(online=True)


async def test_a_lost_broker_makes_nodes_stale_until_they_are_born_again(plant: Plant) -> None:
    async with plant.host():
        async with plant.node() as node:
            await node.birth()
            await plant.readings(has(("node-1", "supply-temp", 20.0), ("node-1-pump", "flow", 1.5)))
        plant.broker.kill()
        await plant.events(offline("Pump"))
        plant.broker.start()
        async with plant.node(bd_seq=1) as node:
            await node.until_host(online=True)
            await node.birth()
            await node.temp(8.0)
            await plant.readings(has(("node-1", "supply-temp", 8.0)))
