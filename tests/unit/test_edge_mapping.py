"""An agent with a mapping, on a real nats-server: foreign messages in, readings with value, unit and time in the frames."""

import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from shared.dead_letter import DeadLetter
from shared.event import to_us
from shared.events import NodeOnline
from shared.frames import Kind
from shared.machine_events import ReadingsHeld
from shared.paho import open_mqtt
from shared.sparkplug.datatypes import DataType
from shared.sparkplug.payload import metric
from shared.sparkplug.topics import MessageType, NodeId
from tests.servers import NatsServer
from tests.sparkplug_messages import definition, made, nbirth
from tests.unit.test_edge_agent import agent, control, gateway, reported, settings, until

NODE = NodeId("hall", "press-7")
START_MS = time.time_ns() // 1_000_000 - 60_000
MAPPING = """
version: 1
rules:
  - topic: factory/{line}/{machine}/{tag}
    machine: "{machine}"
    name: "{tag}"
    value: /v
    time: {at: /t, as: s}
    sensors:
      temperature: {unit: degC}
      pressure: {unit: bar, from: kPa, deadband: 0.5}
  - topic: nested/{machine}
    machine: "{machine}"
    time: {at: /ts, as: ms}
    sensors:
      /a/value: {sensor: flow, unit: l/min, unit_at: /a/unit}
      /b: {sensor: speed, unit: rpm}
sparkplug:
  - {group: hall, node: press-7, machine: press-7}
"""


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """One that lets a session have many subscriptions."""
    server = NatsServer(tmp_path / "nats", max_ack_pending=2000)
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def test_foreign_messages_become_readings_and_letters(nats_server: NatsServer, tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(MAPPING)
    chosen = settings(
        nats_server, tmp_path, machines=["pump", "fan", "press-7"], mapping=str(path), limits={}
    )
    url = f"mqtt://127.0.0.1:{nats_server.mqtt_port}"
    async with (
        control(nats_server) as plane,
        gateway(nats_server) as far,
        open_mqtt(url, client_id="plant", username="admin", password="secret") as plant,
        agent(chosen),
    ):
        await reported(plane, lambda x: x["listening"], "the agent listens")

        async def say(topic: str, payload: object) -> None:
            await plant.publish(topic, payload if isinstance(payload, bytes) else orjson.dumps(payload))

        for n in range(5):
            at = START_MS + n * 1000
            await say("factory/l1/pump/temperature", {"v": 20 + n, "t": at / 1000})
            await say("factory/l1/pump/pressure", {"v": 250, "t": at / 1000})
            await say("nested/fan", {"ts": at, "a": {"value": 1.5 + n, "unit": "m³/h"}, "b": 900 + n})
        await say("factory/l1/pump/temperature", {"v": "hot", "t": START_MS / 1000})
        await say("nested/stranger", {"ts": START_MS, "b": 1})
        birth = nbirth(definition(value=20.0), node=NODE, sent=START_MS)
        data = metric(None, DataType.DOUBLE, 41.5, alias=1, timestamp=START_MS + 7, typeless=True)
        later = made(MessageType.NDATA, data, seq=1, node=NODE, sent=START_MS + 7)
        for each in (birth, later):
            await say(str(each.topic), each.raw)
        await until(lambda: len(far.rows()) == 5 + 1 + 10 + 2, "all readings are there")
        await until(lambda: sum(map(len, far.bodies(Kind.REJECT))) == 2, "both dead letters are there")
        await until(
            lambda: {"node.online", "readings.held"} <= {each.type for each in far.events()},
            "both events are there",
        )
        found = {
            (body.sensor_names[index], body.units[index], at_us, value)
            for body in far.bodies(Kind.READINGS)
            for index, at_us, value in zip(
                body.sensor, body.time_us.tolist(), body.value.tolist(), strict=True
            )
        }
        for n in range(5):
            at_us = (START_MS + n * 1000) * 1000
            assert ("temperature", "degC", at_us, 20.0 + n) in found
            assert ("speed", "rpm", at_us, 900.0 + n) in found
            assert any(
                name == "flow"
                and unit == "l/min"
                and at == at_us
                and value == pytest.approx((1.5 + n) * 1000 / 60)
                for name, unit, at, value in found
            )
        assert ("pressure", "bar", START_MS * 1000, 2.5) in found
        assert ("temp", "degC", (START_MS + 7) * 1000, 41.5) in found
        letters = [DeadLetter.decode(r) for body in far.bodies(Kind.REJECT) for r in body.record]
        assert sorted(letter.topic for letter in letters) == [
            "factory/l1/pump/temperature",
            "nested/stranger",
        ]
        assert [e.subject for e in far.events() if isinstance(e, NodeOnline)] == ["press-7"]
        state = await reported(plane, lambda x: x["machines"]["pump"]["left_out"], "what is left out is told")
        assert state["machines"]["pump"]["left_out"] == {"pressure": {"deadband": 4}}
        [held] = [e for e in far.events() if isinstance(e, ReadingsHeld)]
        assert (held.subject, held.sensor, held.deadband, held.unit) == ("pump", "pressure", 0.5, "bar")
        assert held.interval_seconds == 1.0
        assert to_us(held.occurred_at) == (START_MS + 1000) * 1000, "the first that it left out"
        assert state["machines"]["fan"]["skew_us"] < -50_000_000
        asked = await reported(
            plane, lambda x: x["machines"]["press-7"]["last"], "the node's values are told"
        )
        assert asked["machines"]["press-7"]["last"]["temp"]["value"] == 41.5
