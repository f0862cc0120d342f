"""Commands to an edge: carried out once, refused aloud, expired by the edge's own clock; on a real outbox and NATS."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from edge.agent import run
from edge.commands import Commands
from edge.outbox import open_outbox
from edge.reload import Again
from edge.settings import EdgeSettings
from shared.clock import SystemClock
from shared.commands import (
    KINDS,
    Answer,
    Command,
    Maintenance,
    Outcome,
    decode_answers,
    decode_commands,
    encode,
    parse_arguments,
)
from shared.errors import Rejected
from shared.names import COMMANDS_KEY
from shared.nats import ControlPlane
from tests.servers import NatsServer
from tests.unit.test_edge_agent import control, settings

MINUTE_US = 60_000_000


def command(name: str, kind: str, *, age_us: int = 0, life_us: int = MINUTE_US, **arguments: Any) -> Command:  # noqa: ANN401
    issued = SystemClock().now_us() - age_us
    return Command(name, kind, arguments, "ada", issued, issued + life_us)


@asynccontextmanager
async def obeying(
    plane: ControlPlane, folder: Path, prepare: Callable[[Commands], None]
) -> AsyncIterator[Commands]:
    async with open_outbox(folder / "outbox.db", site="s1", edge="e1", clock=SystemClock()) as outbox:
        commands = Commands(outbox, SystemClock(), CollectorRegistry(), edge="e1")
        prepare(commands)
        await commands.resume()
        loops = [asyncio.create_task(commands.watch(plane)), asyncio.create_task(commands.tell(plane))]
        try:
            yield commands
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)


async def answers(plane: ControlPlane, *names: str) -> dict[str, Answer]:
    async with asyncio.timeout(20):
        while True:
            found = {one.id: one for one in decode_answers((await plane.reported("e1")).get(COMMANDS_KEY))}
            if set(names) <= set(found):
                return found
            await asyncio.sleep(0.01)


async def test_each_command_is_carried_out_once_or_refused_or_too_late(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    asked: list[Maintenance] = []

    async def maintain(wanted: Maintenance) -> str:
        if wanted.machine != "pump":
            raise Rejected(f"{wanted.machine} is not this agent's")
        asked.append(wanted)
        return "in maintenance"

    def prepare(commands: Commands) -> None:
        commands.handle("maintenance", maintain)

    wanted = [
        command("c1", "maintenance", machine="pump", on=True, minutes=30),
        command("c2", "maintenance", machine="other", on=True),
        command("c3", "maintenance", age_us=MINUTE_US + 5_000_000, machine="pump", on=False),
        command("c4", "waveform", machine="pump"),
        command("c5", "maintenance", machine="pump", on="perhaps"),
    ]
    async with control(nats_server) as plane:
        await plane.desire("e1", COMMANDS_KEY, encode(wanted))
        async with obeying(plane, tmp_path, prepare):
            found = await answers(plane, "c1", "c2", "c3", "c4", "c5")
            assert {name: one.outcome for name, one in found.items()} == {
                "c1": Outcome.DONE,
                "c2": Outcome.REFUSED,
                "c3": Outcome.EXPIRED,
                "c4": Outcome.REFUSED,
                "c5": Outcome.REFUSED,
            }
            assert found["c1"].detail == "in maintenance"
            assert "other is not" in found["c2"].detail
            assert "5 s after it expired" in found["c3"].detail
            assert "can't waveform" in found["c4"].detail
            await plane.desire("e1", COMMANDS_KEY, encode([*wanted, command("c6", "restart")]))
            await answers(plane, "c6")
        # Another life of the agent meets the same list, and does nothing a second time.
        async with obeying(plane, tmp_path, prepare):
            await plane.desire(
                "e1", COMMANDS_KEY, encode([*wanted, command("c7", "maintenance", machine="pump", on=False)])
            )
            await answers(plane, "c7")
    assert [one.on for one in asked] == [True, False]


@pytest.mark.parametrize(("kind", "outcome"), [("restart", Outcome.DONE), ("rebirth", Outcome.INTERRUPTED)])
async def test_a_command_that_ends_the_agent_is_not_carried_out_again(
    nats_server: NatsServer, tmp_path: Path, kind: str, outcome: Outcome
) -> None:
    begun = asyncio.Event()

    async def dies(_: object) -> str:
        begun.set()
        await asyncio.Event().wait()
        return ""

    async def forbidden(_: object) -> str:
        raise AssertionError("carried out a second time")

    async with control(nats_server) as plane:
        await plane.desire("e1", COMMANDS_KEY, encode([command("c1", kind)]))
        async with (
            obeying(plane, tmp_path, lambda commands: commands.handle(kind, dies)),
            asyncio.timeout(20),
        ):
            await begun.wait()
        async with obeying(plane, tmp_path, lambda commands: commands.handle(kind, forbidden)):
            assert (await answers(plane, "c1"))["c1"].outcome is outcome


async def test_the_agent_restarts_on_command_and_says_that_it_is_back(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    chosen = settings(nats_server, tmp_path)
    async with control(nats_server) as plane, asyncio.timeout(30):
        wanted = [
            command("c0", "rebirth"),
            command("c1", "interval", seconds=0.3),
            command("c2", "settings", values={"receive_batch": 9, "site": "s2"}),
            command("c3", "restart"),
        ]
        await plane.desire("e1", COMMANDS_KEY, encode(wanted))
        read: list[Mapping[str, Any]] = []

        def reread(values: Mapping[str, Any]) -> EdgeSettings:
            read.append(values)
            return chosen.model_copy(update=dict(values))

        await run(chosen, asyncio.Event(), Again(reread, asyncio.Event()))  # ends by itself
        stop = asyncio.Event()
        again = asyncio.create_task(run(chosen, stop, Again(reread, asyncio.Event())))
        found = await answers(plane, "c0", "c1", "c2", "c3")
        stop.set()
        await again
    assert [found[one.id].outcome.value for one in wanted] == ["done", "done", "refused", "done"]
    assert found["c1"].detail == "changed report_seconds"
    assert "edge.site can't change" in found["c2"].detail
    assert read == [{"report_seconds": 0.3}, {"report_seconds": 0.3}]  # asked for, and after the restart
    assert found["c3"].detail == "the agent is back"


@pytest.mark.parametrize(
    "data", [b"{", b"{}", b"[1]", b'[{"id": "x"}]', b'[{"id":"x","outcome":"perhaps","detail":"","at_us":1}]']
)
def test_what_is_no_list_of_commands_is_rejected(data: bytes) -> None:
    with pytest.raises(Rejected):
        decode_commands(data)
    with pytest.raises(Rejected):
        decode_answers(data)


def test_arguments_are_checked_by_kind() -> None:
    with pytest.raises(Rejected, match="no command"):
        parse_arguments("explode", {})
    with pytest.raises(Rejected, match="seconds"):
        parse_arguments("interval", {"seconds": 0})
    with pytest.raises(Rejected, match="machine"):
        parse_arguments("waveform", {"machine": "Not An Id"})
    assert all(kind.expires_s > 0 for kind in KINDS.values())
