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
from gateway.sparkplug.lane import SparkplugLane
from gateway.sparkplug.opening import open_sparkplug
from industrialmind.embedded import EmbeddedNats
from industrialmind.grants import EdgeScope
from shared import names
from shared.clock import SystemClock
from shared.errors import Misconfigured, Unavailable
from shared.eventlog import EventLog, Position, Record
from shared.events import NodeOffline, parse_event
from shared.frame_codec import decode
from shared.frames import Readings
from shared.jetstream import ensure_topics, open_jetstream
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
