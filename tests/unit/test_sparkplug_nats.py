"""The Sparkplug host on the embedded server: its rights there, its STATE, data to the log, and a log that is away."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.lane import Known
from gateway.settings import GatewaySettings
from gateway.sparkplug.lane import Announcer, SparkplugLane
from gateway.sparkplug.opening import open_sparkplug
from industrialmind.embedded import EmbeddedNats
from industrialmind.grants import EdgeScope
from shared import names
from shared.clock import ManualClock, SystemClock
from shared.errors import Misconfigured, Unavailable
from shared.eventlog import EventLog, Position, Record
from shared.events import NodeOffline, parse_event
from shared.frame_codec import decode
from shared.frames import Readings
from shared.jetstream import ensure_topics, open_jetstream
from shared.sparkplug.state import HostState
from shared.sparkplug.topics import NodeId
from shared.supervise import free_ports
from tests.sparkplug_node import SparkplugNode

HOST = "host-1"


class Away:
    """The log, and a switch that takes it away."""

    def __init__(self, log: EventLog) -> None:
        self.away = False
        self._log = log

    async def append(
        self, topic: str, key: str, records: list[Record], *, fence: Position | None = None
    ) -> Position:
        if self.away:
            raise Unavailable("switched off")
        return await self._log.append(topic, key, records, fence=fence)


class Plant:
    def __init__(self, server: EmbeddedNats, log: EventLog) -> None:
        self.server, self.log = server, log
        self.switch = Away(log)
        self.registry = CollectorRegistry()

    def settings(self, **changes: object) -> GatewaySettings:
        gateway = self.server.credentials("gateway")
        flags = {
            "mqtt_url": self.server.mqtt_url,
            "mqtt_username": gateway.name,
            "mqtt_password": gateway.password,
            "sparkplug_host_id": HOST,
            "retry_cap_seconds": 0.1,
        }
        return GatewaySettings.load(environ={}, flags=flags | changes)

    @asynccontextmanager
    async def host(self) -> AsyncIterator[SparkplugLane]:
        known, stop = Known(), asyncio.Event()
        known.loaded.set()
        async with open_sparkplug(
            self.settings(),
            event_log=self.switch,  # type: ignore[arg-type]
            known=known,
            registry=self.registry,
            clock=SystemClock(),
        ) as lane:
            task = asyncio.create_task(lane.run(stop))
            try:
                await until(lambda: not lane.problem())
                yield lane
            finally:
                stop.set()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def node(self, name: str) -> SparkplugNode:
        devices = self.server.credentials("devices")
        port = int(self.server.mqtt_url.rsplit(":", 1)[1])
        return SparkplugNode(
            port, NodeId("Plant.A", name), host=HOST, username=devices.name, password=devices.password
        )

    async def values(self, count: int) -> list[float]:
        """The node's temperatures in the log, once there are so many."""
        async with asyncio.timeout(15):
            while True:
                found: list[float] = []
                async for record in self.log.read(names.SENSOR_READINGS):
                    header, body = decode(record.value)
                    assert isinstance(body, Readings)
                    found += body.value.tolist() if header.machine == "node-1" else []
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.02)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    folder: Path = tmp_path_factory.mktemp("data")
    nats_port, mqtt_port = free_ports(2)
    server = EmbeddedNats(folder, (EdgeScope("s1", "e1", ("m1",)),), nats_port=nats_port, mqtt_port=mqtt_port)
    server.write_config()

    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(server.command(), stderr=log)
    asyncio.run(server.wait_ready())
    yield server
    process.terminate()
    process.wait(10)


@pytest.fixture
async def plant(server: EmbeddedNats) -> AsyncIterator[Plant]:
    admin = server.credentials("admin").userinfo
    await ensure_topics(server.nats_url, credentials=admin)
    async with open_jetstream(server.nats_url, credentials=admin) as log:
        yield Plant(server, log)


async def test_a_host_is_online_takes_what_nodes_say_and_waits_for_the_log(plant: Plant) -> None:
    async with plant.node("Node.1") as node, plant.host() as lane:
        await node.until_host(online=True)
        await node.birth()
        await node.temp(1.0)
        assert await plant.values(2) == [20.0, 1.0]
        plant.switch.away = True
        await node.temp(2.0)
        await until(lambda: lane.problem() == "switched off")
        await node.temp(3.0)
        plant.switch.away = False
        assert await plant.values(4) == [20.0, 1.0, 2.0, 3.0]
        await node.stranger()
        await node.until(lambda node: node.rebirths == 1)
    assert plant.registry.get_sample_value("im_gateway_sparkplug_rebirths_total") == 1
    assert plant.registry.get_sample_value("im_gateway_sparkplug_gaps_total") == 0


async def test_a_host_that_stops_while_the_log_is_away_ends_and_says_what_is_lost(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    async with plant.node("Node.2") as node:
        async with plant.host() as lane:
            await node.birth()
            await until(lambda: plant.registry.get_sample_value("im_gateway_sparkplug_nodes") == 1)
            plant.switch.away = True
            await node.temp(9.0)
            await until(lambda: lane.problem() == "switched off")
        await node.until_host(online=False)
        node.die()
    assert "rows of Sparkplug messages are lost" in "".join(capsys.readouterr())
    events = [parse_event(each.value) async for each in plant.log.read(names.MACHINE_EVENTS)]
    assert not any(isinstance(each, NodeOffline) and each.subject == "node-2" for each in events)


async def test_a_host_id_that_is_no_topic_level_is_misconfigured(plant: Plant) -> None:
    with pytest.raises(Misconfigured, match="host id"):
        async with open_sparkplug(
            plant.settings(sparkplug_host_id="a/b"),
            event_log=plant.log,
            known=Known(),
            registry=CollectorRegistry(),
            clock=SystemClock(),
        ):
            pass


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_the_host_s_connect_is_a_clean_session_with_its_will(plant: Plant, version: str) -> None:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not heard.done():
            heard.set_result(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as scripted:
        port = scripted.sockets[0].getsockname()[1]
        settings = plant.settings(mqtt_url=f"mqtt://127.0.0.1:{port}", mqtt_version=version)
        async with open_sparkplug(
            settings, event_log=plant.log, known=Known(), registry=CollectorRegistry(), clock=SystemClock()
        ):
            packet = await asyncio.wait_for(heard, 10)
    head, _, rest = packet.partition(b"MQTT")
    level, flags = rest[0], rest[1]
    assert (head[0], level) == (0x10, 4 if version == "3.1.1" else 5)
    assert flags & 0x02, "clean session or clean start"
    assert flags & 0x04, "a will"
    assert flags >> 3 & 0x03 == 1, "its QoS"
    assert flags & 0x20, "it is retained"
    if level == 5:
        properties = rest[5 : 5 + rest[4]]
        assert b"\x11\0\0\0\0" in properties, "a session expiry interval of 0: it ends with the connection"
    topic = b"spBv1.0/STATE/host-1"
    assert topic in rest
    will = rest.split(topic, 1)[1]
    state = HostState.decode(will[2 : 2 + int.from_bytes(will[:2], "big")])
    assert not state.online


def test_will_and_birth_of_one_connection_share_a_time_that_no_other_has() -> None:
    clock = ManualClock()
    announcer = Announcer(HOST, clock)
    times = []
    for _ in range(3):  # at one moment
        will = announcer.will()
        state = HostState.decode(will.payload)
        assert (will.topic, will.qos, will.retain) == (f"spBv1.0/STATE/{HOST}", 1, True)
        assert HostState.decode(announcer.birth()) == HostState(online=True, timestamp_ms=state.timestamp_ms)
        times.append(state.timestamp_ms)
    assert len(set(times)) == 3
    assert HostState.decode(announcer.death()) == HostState(online=False, timestamp_ms=times[-1])
