"""The whole gateway between a real broker and the real log: what comes in is in the log, then acknowledged."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import orjson
import pytest

from gateway.app import run
from gateway.settings import GatewaySettings
from shared import names
from shared.dead_letter import DeadLetter
from shared.errors import Unavailable
from shared.eventlog import EventLog, Stored
from shared.frame_codec import decode, encode
from shared.frames import Body, Header, Kind, Readings, Records
from shared.jetstream import TopicBudget, default_budgets, ensure_topics, open_jetstream
from shared.nats import ControlPlane, open_control
from shared.paho import MqttClient, open_mqtt
from shared.ranges import RangeSet
from shared.supervise import free_ports
from shared.uplink import Ack
from tests.servers import NatsServer

EPOCH = bytes(range(16))


def frame(first: int, count: int = 20, *, machine: str = "m1") -> bytes:
    body = Readings(
        ("temp",),
        ("degC",),
        np.zeros(count, np.int64),
        np.arange(first, first + count, dtype=np.int64) + 1_700_000_000_000_000,
        np.arange(first, first + count, dtype=np.int64) + 1_700_000_000_000_000,
        np.linspace(0, 1, count),
        np.zeros(count, np.uint8),
    )
    return made(body, Kind.READINGS, first, machine)


def made(body: Body, kind: Kind, first: int, machine: str = "m1") -> bytes:
    return encode(Header("s1", "e1", machine, kind, EPOCH, first, len(body)), body)


class Edge:
    """An edge's end of the uplink: sends frames and keeps the acknowledged ranges."""

    def __init__(self, client: MqttClient) -> None:
        self.client = client
        self.acked = RangeSet()

    async def send(self, payload: bytes, channel: str = "frames") -> None:
        await self.client.publish(f"im/v1/s1/e1/{channel}", payload)

    async def wait_acked(self, first: int, last: int) -> None:
        async with asyncio.timeout(15):
            while not self.acked.covers(first, last):
                for message in await self.client.receive(100):
                    ack = Ack.decode(message.payload)
                    assert (ack.edge, ack.epoch) == ("e1", EPOCH)
                    for each in ack.ranges:
                        self.acked.add(*each)


class Stack:
    """Broker, log and control plane, and a gateway that can be started and ended."""

    def __init__(self, server: NatsServer, log: EventLog, control: ControlPlane) -> None:
        self.server, self.log, self.control = server, log, control
        self.mqtt_url = f"mqtt://127.0.0.1:{server.mqtt_port}"
        self.settings = GatewaySettings.load(
            environ={},
            flags={
                "mqtt_url": self.mqtt_url,
                "mqtt_username": "admin",
                "mqtt_password": "secret",
                "nats_url": server.url,
                "credentials": server.credentials,
                "retry_cap_seconds": 0.2,
                "grace_seconds": 2,
            },
        )
        self.stop = asyncio.Event()
        self.port = 0

    @asynccontextmanager
    async def gateway(self, **changes: object) -> AsyncIterator["asyncio.Task[None]"]:
        self.stop = asyncio.Event()
        (self.port,) = free_ports(1)
        settings = self.settings.model_copy(update={"port": self.port, **changes})
        task = asyncio.create_task(run(settings, self.stop))
        try:
            await self.wait_ready()
            yield task
        finally:
            self.stop.set()
            with contextlib.suppress(asyncio.CancelledError):
                async with asyncio.timeout(10):
                    await task

    async def allow_readings(self, max_bytes: int) -> None:
        """Set how much the log keeps of readings."""
        await ensure_topics(
            self.server.url,
            credentials=self.server.credentials,
            budgets={names.SENSOR_READINGS: TopicBudget(max_bytes)},
            max_file_store=self.server.max_file_store,
        )

    async def ready(self) -> bool:
        """What /readyz says."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.startswith(b"HTTP/1.1 200")

    async def wait_ready(self, *, ready: bool = True) -> None:
        async with asyncio.timeout(15):
            while await self.ready() is not ready:
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def client(self, name: str) -> AsyncIterator[MqttClient]:
        async with open_mqtt(self.mqtt_url, client_id=name, username="admin", password="secret") as client:
            yield client

    @asynccontextmanager
    async def edge(self) -> AsyncIterator[Edge]:
        async with self.client("edge") as client:
            await client.subscribe("im/v1/s1/e1/acks", qos=0)
            yield Edge(client)

    async def records(self, topic: str, until: Callable[[list[Stored]], bool] = bool) -> list[Stored]:
        """The topic's records, read again until they satisfy `until`."""
        async with asyncio.timeout(15):
            while True:
                with contextlib.suppress(Unavailable):
                    found = [record async for record in self.log.read(topic)]
                    if until(found):
                        return found
                await asyncio.sleep(0.02)


@pytest.fixture
async def stack(nats_server: NatsServer) -> AsyncIterator[Stack]:
    credentials = nats_server.credentials
    budgets = default_budgets(nats_server.max_file_store)
    await ensure_topics(nats_server.url, credentials=credentials, budgets=budgets)
    async with (
        open_jetstream(nats_server.url, credentials=credentials) as log,
        open_control(nats_server.url, credentials=credentials) as control,
    ):
        await control.ensure_buckets(["e1"], models_bytes=1 << 20)
        await control.assign("s1", "m1", "e1")
        yield Stack(nats_server, log, control)


async def test_frames_are_in_the_log_byte_for_byte_and_acknowledged(stack: Stack) -> None:
    async with stack.gateway(), stack.edge() as edge:
        frames = [frame(first) for first in range(1, 201, 20)]
        event = made(Records((b'{"a":1}', b'{"b":2}')), Kind.EVENT, 201)
        await asyncio.gather(*(edge.send(each) for each in frames), edge.send(event, "urgent"))
        await edge.wait_acked(1, 202)
    stored = await stack.records(names.SENSOR_READINGS)
    assert sorted(record.value for record in stored) == sorted(frames)
    assert {record.key for record in stored} == {"m1"}
    events = await stack.records(names.MACHINE_EVENTS)
    assert [record.value for record in events] == [b'{"a":1}', b'{"b":2}']
    assert [record.headers[names.HEADER_ROW] for record in events] == ["201", "202"]


async def test_frames_sent_before_the_gateway_ran_and_a_resend_are_in_the_log_once(stack: Stack) -> None:
    async with stack.gateway(), stack.edge() as edge:
        await edge.send(frame(1))
        await edge.wait_acked(1, 20)
    async with stack.edge() as edge:
        await edge.send(frame(1))  # the ack was lost
        await edge.send(frame(21))  # nobody is there to take it
        async with stack.gateway():
            await edge.wait_acked(1, 40)
    assert [record.value for record in await stack.records(names.SENSOR_READINGS)] == [frame(1), frame(21)]


async def test_a_killed_server_loses_nothing_that_was_acknowledged(stack: Stack) -> None:
    async with stack.gateway(), stack.edge() as edge:
        await edge.send(frame(1))
        await edge.wait_acked(1, 20)
        sending = [asyncio.create_task(edge.send(frame(first))) for first in range(21, 421, 20)]
        await asyncio.sleep(0)
        stack.server.kill()
        stack.server.start()
        await asyncio.gather(*sending)
        resent = [asyncio.create_task(edge.send(frame(first))) for first in range(21, 421, 20)]
        await asyncio.gather(*resent)
        await edge.wait_acked(1, 420)
    stored = await stack.records(names.SENSOR_READINGS)
    assert {record.value for record in stored} == {frame(first) for first in range(1, 421, 20)}


async def test_a_gateway_that_dies_before_its_acks_gets_the_frames_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    appended = asyncio.Event()

    async def never(*_: object) -> None:
        appended.set()
        await asyncio.Event().wait()

    async with stack.edge() as edge:
        with monkeypatch.context() as dying:
            dying.setattr("gateway.lane.Lane._done", never)
            async with stack.gateway(grace_seconds=0.01) as task:
                sending = asyncio.create_task(edge.send(frame(1)))
                async with asyncio.timeout(10):
                    await appended.wait()
                    await sending
                task.cancel()
        async with stack.gateway():
            await edge.wait_acked(1, 20)
    assert {record.value for record in await stack.records(names.SENSOR_READINGS)} == {frame(1)}


async def test_a_frame_on_anothers_topic_and_garbage_are_dead_letters_without_ack(stack: Stack) -> None:
    async with stack.gateway(), stack.edge() as edge:
        await edge.client.publish("im/v1/s1/e2/frames", frame(1))
        await edge.send(b"\xff\xffgarbage")
        await edge.send(frame(21))
        await edge.wait_acked(21, 40)
        assert list(edge.acked) == [(21, 40)]
        letters = await stack.records(names.DEAD_LETTER, lambda found: len(found) == 2)
    parsed = {DeadLetter.decode(record.value).topic: record for record in letters}
    assert set(parsed) == {"im/v1/s1/e2/frames", "im/v1/s1/e1/frames"}
    assert DeadLetter.decode(parsed["im/v1/s1/e2/frames"].value).payload == frame(1)


async def test_a_machine_of_nobody_is_a_dead_letter_whose_rows_are_freed(stack: Stack) -> None:
    async with stack.gateway(), stack.edge() as edge:
        await edge.send(frame(1, machine="stranger"))
        await edge.wait_acked(1, 20)
        (letter,) = await stack.records(names.DEAD_LETTER)
        assert letter.headers[names.HEADER_ROWS] == "20"
        await stack.control.assign("s1", "stranger", "e1")
        await edge.send(frame(21, machine="stranger"))  # right after: the gateway looks before it refuses
        await edge.wait_acked(21, 40)
    (stored,) = await stack.records(names.SENSOR_READINGS)
    assert stored.key == "stranger"


async def test_json_of_a_machine_with_no_edge_is_framed(stack: Stack) -> None:
    good = {"ts": 1_700_000_000_000.5, "value": 21.5, "unit": "degC"}
    async with stack.gateway(), stack.client("device") as device:
        await device.publish("plant/s1/lone/temp", orjson.dumps(good))
        await device.publish("plant/s1/m1/temp", orjson.dumps(good))  # its edge has it
        await device.publish("plant/s1/lone/temp", b'{"ts":1700000000000,"value":NaN,"unit":"degC"}')
        await device.publish("plant/s1/lone/temp", orjson.dumps([{**good, "unit": "ell"}]))
        letters = await stack.records(names.DEAD_LETTER, lambda found: len(found) == 2)
        (stored,) = await stack.records(names.SENSOR_READINGS)
    assert stored.key == "lone"
    header, body = decode(stored.value)
    assert (header.edge, header.first) == ("gateway-1", 1)
    assert isinstance(body, Readings)
    assert body.time_us[0] == 1_700_000_000_000_500
    reasons = " ".join(DeadLetter.decode(record.value).reason for record in letters)
    assert "unknown unit 'ell'" in reasons
    assert "not JSON" in reasons


async def test_nothing_is_acknowledged_while_the_log_is_full(stack: Stack) -> None:
    await stack.allow_readings(200_000)
    last = 40_000
    async with stack.gateway(), stack.edge() as edge:
        for first in range(1, last, 1000):
            await edge.send(frame(first, 1000))
        await stack.wait_ready(ready=False)
        await edge.send(made(Records((b"{}",)), Kind.EVENT, 100_000), "urgent")
        await edge.wait_acked(100_000, 100_000)  # urgent events do not wait behind telemetry
        assert not edge.acked.covers(1, last)
        held = RangeSet()
        for record in await stack.records(names.SENSOR_READINGS):
            header, _ = decode(record.value)
            held.add(header.first, header.last)
        assert all(held.covers(*each) for each in edge.acked if each[0] <= last)
        await stack.allow_readings(20_000_000)
        await edge.wait_acked(1, last)
        await stack.wait_ready()
