"""States and alarms on the devices' broker: retained, with no uplink, the same ids as upstream; and scoring's budgets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from edge.local import alarms_of, state_of
from edge.meter import ScoreMeter
from edge.scoring import MachineScoring
from edge.settings import Limits
from shared.event import at
from shared.events import AnomalyStarted, Event, parse_event
from shared.frames import Records
from shared.machine_events import LimitCrossed, alarm_id
from shared.paho import open_mqtt
from tests.servers import NatsServer
from tests.unit.edge_models import START, loaded, plant, rows
from tests.unit.test_edge_agent import agent, device, publish, settings


def test_the_alarms_that_are_on_have_the_ids_of_the_events_upstream() -> None:
    scoring = MachineScoring("e1", "pump", {"temperature": Limits(high=45, high_high=46)}, None)
    assert alarms_of("pump", scoring) == []
    scoring.install(loaded(), START)
    outcome = scoring.take(rows(plant(200, 3, fault_from=100)))
    events: list[Event] = [
        parse_event(record) for i in outcome.items if isinstance(i.body, Records) for record in i.body.record
    ]
    raised = [event for event in events if isinstance(event, LimitCrossed | AnomalyStarted)]
    alarms = alarms_of("pump", scoring)
    assert {each["id"] for each in alarms} == {event.correlation_id for event in raised}
    assert {(each["rule"], each["urgent"]) for each in alarms} == {
        ("anomaly", False),
        ("limit/temperature/high", False),
        ("limit/temperature/high-high", True),
    }
    [anomaly] = [event for event in raised if isinstance(event, AnomalyStarted)]
    assert anomaly.correlation_id == alarm_id("anomaly", "pump", anomaly.onset)
    assert [each["onset"] for each in alarms] == sorted(each["onset"] for each in alarms)
    said = state_of("pump", scoring, START)
    assert said["state"] == "anomalous"
    assert said["window"] == at(scoring.window_us).isoformat()
    assert said["score"] > said["limit"]
    assert said["leading"][0]["sensor"] == "temperature"
    scoring.take(rows(plant(100, 4), 200))
    assert alarms_of("pump", scoring) == []


class Panel:
    """What stands on the broker under the edge's local topics."""

    def __init__(self) -> None:
        self.said: dict[str, Any] = {}
        self.changed = asyncio.Event()

    async def until(self, topic: str, **wanted: Any) -> Any:  # noqa: ANN401
        async with asyncio.timeout(20):
            while not wanted.items() <= self.said.get(topic, {}).items():
                self.changed.clear()
                await self.changed.wait()
        return self.said[topic]


@asynccontextmanager
async def panel(server: NatsServer, name: str) -> AsyncIterator[Panel]:
    seen = Panel()

    async def watch() -> None:
        while True:
            for message in await client.receive(100):
                prefix = "im/v1/s1/e1/local/"
                assert message.topic.startswith(prefix)
                seen.said[message.topic.removeprefix(prefix)] = orjson.loads(message.payload)
                seen.changed.set()

    url = f"mqtt://127.0.0.1:{server.mqtt_port}"
    async with open_mqtt(url, client_id=name, username="admin", password="secret", clean=True) as client:
        await client.subscribe("im/v1/s1/e1/local/#")
        task = asyncio.create_task(watch())
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_panel_sees_states_and_alarms_with_no_uplink_whenever_it_comes(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    nowhere = {"url": "mqtt://127.0.0.1:1", "client_id": "e1-uplink", "username": "", "password": ""}
    chosen = settings(nats_server, tmp_path, uplink=nowhere, nats_url="")
    async with panel(nats_server, "early") as early, device(nats_server) as client:
        async with agent(chosen):
            await early.until("agent", online=True)
            await early.until("fan/alarms", alarms=[])
            await publish(client, "fan", "speed", 101.0, unit="rpm")
            while not (await early.until("fan/alarms", machine="fan"))["alarms"]:
                early.changed.clear()
                await early.changed.wait()
            async with panel(nats_server, "late") as late:
                [alarm] = (await late.until("fan/alarms", machine="fan"))["alarms"]
                assert (alarm["rule"], alarm["value"], alarm["limit"]) == ("limit/speed/high", 101.0, 100.0)
                state = await late.until("fan/state", state="learning")
                assert state["operating"] == "unknown"
            await publish(client, "fan", "speed", 99.0, first=1, unit="rpm")
            await early.until("fan/alarms", alarms=[])
        await early.until("agent", online=False)


def test_scoring_keeps_to_its_share_and_says_how_late_it_is() -> None:
    registry = CollectorRegistry()
    meter = ScoreMeter(registry, budget_s=0.05, share=0.25)
    assert meter.pause(0.01) == pytest.approx(0.03)
    for _ in range(99):
        meter.scored(0.002)
    meter.scored(0.2)
    text = generate_latest(registry).decode()
    assert "im_edge_score_over_budget_total 1.0" in text
    assert 'im_edge_score_quantile_seconds{quantile="0.5"} 0.002' in text
    assert meter.quantile(0.99) > 0.002
    assert ScoreMeter(CollectorRegistry(), budget_s=1, share=1.0).pause(0.5) == 0
