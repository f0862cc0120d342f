"""Commands from the data API to a real agent and back, on a real log and control plane."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from cloud.commands.app import Dispatcher
from cloud.commands.logic import MAX_REMEMBERED, State, decide_issue
from cloud.commands.port import OPEN, Asked
from edge.agent import run
from shared.access import Role
from shared.clock import SystemClock
from shared.command_events import CommandAnswered, CommandIssued
from shared.commands import MAX_OPEN, Answer, Outcome, decode_commands, encode
from shared.errors import Conflict, NotFound, Rejected
from shared.event import at
from shared.eventlog import EventLog
from shared.events import parse_event
from shared.jetstream import default_budgets, ensure_topics, open_jetstream
from shared.names import COMMANDS, COMMANDS_KEY
from shared.nats import ControlPlane, open_control
from tests.servers import NatsServer
from tests.unit.people_api import Plant, people_plant
from tests.unit.test_edge_agent import settings

NOW_US = 1_770_000_000_000_000
RESTART = Asked("e1", "restart", {}, "ada", "k1")


@dataclass
class Cloud:
    log: EventLog
    plane: ControlPlane
    dispatcher: Dispatcher

    async def events(self) -> list[CommandIssued | CommandAnswered]:
        found = [parse_event(stored.value) async for stored in self.log.read(COMMANDS)]
        return [event for event in found if isinstance(event, CommandIssued | CommandAnswered)]

    async def desired(self) -> list[str]:
        return [one.id for one in decode_commands((await self.plane.desired("e1")).get(COMMANDS_KEY))]


@pytest.fixture
async def cloud(nats_server: NatsServer) -> AsyncIterator[Cloud]:
    budgets = default_budgets(nats_server.max_file_store)
    await ensure_topics(nats_server.url, credentials=nats_server.credentials, budgets=budgets)
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(
            open_jetstream(nats_server.url, credentials=nats_server.credentials)
        )
        plane = await stack.enter_async_context(
            open_control(nats_server.url, credentials=nats_server.credentials)
        )
        await plane.ensure_buckets(["e1", "e2"], models_bytes=64 << 20)
        await plane.assign("s1", "pump", "e1")
        await plane.assign("s1", "lathe", "e2")
        yield Cloud(log, plane, Dispatcher(log, plane, SystemClock()))


async def test_a_command_reaches_the_agent_and_its_answer_the_log(
    cloud: Cloud, nats_server: NatsServer, tmp_path: Path
) -> None:
    stop = asyncio.Event()
    agent = asyncio.create_task(run(settings(nats_server, tmp_path), stop))
    loop = asyncio.create_task(cloud.dispatcher.run())
    issued = await cloud.dispatcher.issue(Asked("e1", "rebirth", {}, "ada", "k1"))
    async with asyncio.timeout(20):
        while (await cloud.dispatcher.one(issued.command.id))[0].outcome == OPEN:
            await asyncio.sleep(0.02)
    stop.set()
    await agent
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    asked, answered = await cloud.events()
    assert isinstance(asked, CommandIssued)
    assert isinstance(answered, CommandAnswered)
    assert (asked.by, asked.correlation_id, answered.outcome) == ("ada", "k1", "done")
    assert answered.source == "edge/e1"
    assert await cloud.desired() == []
    assert [one.outcome for one in (await cloud.dispatcher.newest("", 10))[0]] == ["done"]


async def test_the_same_key_is_one_command_and_another_request_under_it_a_conflict(cloud: Cloud) -> None:
    first = await cloud.dispatcher.issue(RESTART)
    again = await cloud.dispatcher.issue(RESTART)
    assert (first.changed, again.changed, first.command.id) == (True, False, again.command.id)
    with pytest.raises(Conflict, match="something else"):
        await cloud.dispatcher.issue(replace(RESTART, kind="rebirth"))
    with pytest.raises(NotFound):
        await cloud.dispatcher.issue(replace(RESTART, edge="e9"))
    with pytest.raises(NotFound):
        await cloud.dispatcher.one("cmd-none")
    with pytest.raises(Rejected, match="seconds"):
        await cloud.dispatcher.issue(replace(RESTART, kind="interval", request="k2"))
    assert len(await cloud.events()) == 1
    assert await cloud.desired() == [first.command.id]


async def test_a_later_life_of_the_cloud_hands_over_what_an_earlier_one_wrote_down(cloud: Cloud) -> None:
    issued = await cloud.dispatcher.issue(RESTART)
    await cloud.plane.desire("e1", COMMANDS_KEY, b"[]")  # as if it had died before
    later = Dispatcher(cloud.log, cloud.plane, SystemClock())
    await later.look()
    assert await cloud.desired() == [issued.command.id]


async def test_an_edge_answers_for_its_own_commands_only(cloud: Cloud) -> None:
    issued = await cloud.dispatcher.issue(RESTART)
    other = await cloud.dispatcher.issue(replace(RESTART, edge="e2"))
    answer = Answer(issued.command.id, Outcome.DONE, "", NOW_US)
    await cloud.plane.report("e2", COMMANDS_KEY, encode([answer, answer]))
    await cloud.plane.report("e1", COMMANDS_KEY, b"nonsense")
    await cloud.dispatcher.look()
    assert len(await cloud.events()) == 2
    await cloud.plane.report("e1", COMMANDS_KEY, encode([answer]))
    await cloud.dispatcher.look()
    await cloud.dispatcher.look()
    assert [event.subject for event in await cloud.events()] == [
        issued.command.id,
        other.command.id,
        issued.command.id,
    ]
    assert await cloud.desired() == []


def test_what_waits_and_what_is_remembered_is_bounded() -> None:
    state = State()
    for number in range(MAX_OPEN):
        for event in decide_issue(state, replace(RESTART, request=f"k{number}"), at(NOW_US)):
            state.take(event)
    with pytest.raises(Conflict, match="wait for e1"):
        decide_issue(state, replace(RESTART, request="one more"), at(NOW_US))
    with pytest.raises(Rejected, match="expires"):
        decide_issue(state, replace(RESTART, request="long", expires_s=1e9), at(NOW_US))
    (made,) = decide_issue(state, replace(RESTART, edge="e2", expires_s=7), at(NOW_US))
    assert isinstance(made, CommandIssued)
    assert made.expires_at - made.occurred_at == timedelta(seconds=7)
    for number in range(MAX_REMEMBERED + 5):
        state.take(made.model_copy(update={"subject": f"cmd-{number}"}))
    assert len(state.commands) == len(state.requests) == MAX_REMEMBERED


@pytest.fixture
async def plant(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Plant]:
    budgets = default_budgets(nats_server.max_file_store)
    await ensure_topics(nats_server.url, credentials=nats_server.credentials, budgets=budgets)
    async with people_plant(tmp_path, nats_server) as made:
        yield made


async def test_a_technician_may_ask_for_maintenance_and_not_for_a_restart(plant: Plant) -> None:
    await plant.api.control.ensure_buckets(["e1"], models_bytes=64 << 20)
    await plant.api.control.assign("s1", "pump", "e1")
    sessions = {}
    for role in (Role.OPERATOR, Role.TECHNICIAN, Role.ENGINEER):
        await plant.add(role.value, role)
        sessions[role.value] = await plant.session(role.value)
    path = "/v1/edges/e1/commands"
    on = {"kind": "maintenance", "arguments": {"machine": "pump", "on": True}}
    calls = 0

    async def ask(role: str, status: int, **body: object) -> dict[str, object]:
        nonlocal calls
        calls += 1
        headers = {"Authorization": f"Bearer {sessions[role]}", "Idempotency-Key": f"k{calls}"}
        answer = await plant.http.post(path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        found: dict[str, object] = answer.json()
        return found

    await ask("operator", 403, **on)
    done = await ask("technician", 201, **on)
    assert isinstance(done["command"], dict)
    assert (done["command"]["by"], done["command"]["outcome"]) == ("technician", "open")
    await ask("technician", 403, kind="restart")
    await ask("technician", 403, kind="explode")
    await ask("engineer", 422, kind="explode")
    await ask("engineer", 422, kind="maintenance", arguments={"machine": "pump"})
    await ask("engineer", 201, kind="restart", expires_in_seconds=5)
    headers = {"Authorization": f"Bearer {sessions['operator']}"}
    listed = (await plant.http.get("/v1/commands", params={"edge": "e1"}, headers=headers)).json()
    assert [one["kind"] for one in listed["commands"]] == ["restart", "maintenance"]
    one = await plant.http.get(f"/v1/commands/{listed['commands'][0]['id']}", headers=headers)
    assert one.json() == listed["commands"][0]
