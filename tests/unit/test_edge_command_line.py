"""`industrialmind edge command` on a running plant whose edge answers by hand."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from industrialmind.commands_edge import parsed
from shared.commands import Answer, Outcome, decode_answers, decode_commands, encode
from shared.errors import Misconfigured
from shared.names import COMMANDS_KEY
from shared.nats import open_control
from tests.unit.front_door import Command, RunningPlant, commanding

EDGE = "edge-pump-1"


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlant]:
    running = RunningPlant(tmp_path_factory.mktemp("plant") / "data", rows=0)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


def answer_next(plant: RunningPlant, outcome: Outcome) -> threading.Thread:
    """Be the edge: answer the command for maintenance once it is there."""

    async def answer() -> None:
        credentials = plant.nats.credentials("admin").userinfo
        async with open_control(plant.nats.nats_url, credentials=credentials) as control:
            before = decode_answers((await control.reported(EDGE)).get(COMMANDS_KEY))
            done = {one.id for one in before}
            async for change in control.watch_desired(EDGE):
                found = decode_commands(change[1]) if change and change[0] == COMMANDS_KEY else []
                found = [one for one in found if one.kind == "maintenance" and one.id not in done]
                for one in found:
                    told = Answer(
                        one.id, outcome, f"{one.kind} {dict(one.arguments)}", time.time_ns() // 1000
                    )
                    await control.report(EDGE, COMMANDS_KEY, encode([told]))
                if found:
                    return

    thread = threading.Thread(target=lambda: asyncio.run(answer()))
    thread.start()
    return thread


@pytest.mark.parametrize(("outcome", "code"), [(Outcome.DONE, 0), (Outcome.EXPIRED, 1)])
def test_a_command_prints_what_the_edge_answered(
    plant: RunningPlant, command: Command, outcome: Outcome, code: int
) -> None:
    edge = answer_next(plant, outcome)
    words = ("maintenance", "machine=pump-1", "on=true", "minutes=5")
    found = command("edge", "command", EDGE, *words, "--data", plant.data.root)
    edge.join(20)
    assert found.code == code
    assert f"{EDGE} maintenance {outcome.value}: maintenance " in found.out
    assert "'minutes': 5" in found.out


def test_mistakes_and_silence_are_told(plant: RunningPlant, command: Command) -> None:
    root = plant.data.root
    assert command("edge", "command", EDGE, "explode", "--data", root).code == 2
    assert command("edge", "command", "edge-none", "restart", "--data", root).code == 1
    sent = command("edge", "command", EDGE, "restart", "--wait", "0", "--data", root, "--json")
    assert (sent.code, sent.json["outcome"], sent.json["by"]) == (0, "open", "cli")
    silent = command("edge", "command", EDGE, "rebirth", "--wait", "0.2", "--data", root)
    assert (silent.code, "did not answer" in silent.err) == (3, True)


def test_rules_by_certificate_are_written_as_the_running_plant_says(
    plant: RunningPlant, command: Command, tmp_path: Path
) -> None:
    at = ("--folder", tmp_path / "pki")
    assert command("pki", "init", *at).code == 0
    for name in (EDGE, "edge-fan-1"):
        assert command("pki", "issue", name, *at).code == 0
    assert command("pki", "revoke", "edge-fan-1", *at).code == 0
    found = command("pki", "rules", *at, "--data", plant.data.root, "--log-denied", "--json")
    acl, mosquitto, nats = (Path(name).read_text() for name in found.json["files"])
    assert f"user {EDGE}\n" in acl
    assert "topic read plant/s1/pump-1/+" in acl
    assert "user device.fan-1\ntopic write plant/s1/fan-1/+" in acl
    assert "log_type debug" in mosquitto
    assert f'user: "{EDGE}.g1"' in nats
    assert "edge-fan-1.g" not in nats


def test_values_are_json_or_text() -> None:
    assert parsed("waveform", ["machine=pump-1", "sensor=3"]) == {"machine": "pump-1", "sensor": 3}
    assert parsed("settings", ["report_seconds=2.5"]) == {"values": {"report_seconds": 2.5}}
    with pytest.raises(Misconfigured):
        parsed("restart", ["now"])
