"""`industrialmind dlq` as its user gives it: on a running plant, and on a stopped one's files."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from industrialmind.dlq import write_payload
from industrialmind.plant import DataDir
from shared import names
from shared.dead_letter import MAX_PAYLOAD, DeadLetter
from shared.errors import Misconfigured
from shared.eventlog import EventLog, Record, open_event_log
from shared.paho import open_mqtt
from tests.unit.front_door import Command, RunningPlant, commanding, running_plant

EVIL = "\x1b[31m[bold]evil[/bold]\u202e"
EDGES = {names.HEADER_SITE: "s1", names.HEADER_EDGE: "edge-pump-1", names.HEADER_ROW: "7"}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlant]:
    with running_plant(tmp_path_factory.mktemp("plant") / "data") as running:
        yield running


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


def refuse(plant: RunningPlant, *letters: tuple[str, str, bytes], edge: bool = True) -> list[str]:
    """Ids of letters that an edge (else the gateway) wrote: (reason, topic, payload)."""

    async def append(log: EventLog) -> list[str]:
        ids = []
        for reason, topic, payload in letters:
            letter = DeadLetter.of(reason, topic, payload, source="tester", received_us=5)
            record = Record(letter.encode(), EDGES if edge else {})
            ids.append(f"0-{(await log.append(names.DEAD_LETTER, 'pump-1', [record]))['0']}")
        return ids

    async def opened() -> list[str]:
        admin = plant.nats.credentials("admin").userinfo
        async with open_event_log(plant.nats.nats_url, credentials=admin) as log:
            return await append(log)

    return asyncio.run(opened())


def received(
    plant: RunningPlant, command: Command, *words: str | Path
) -> tuple[object, list[tuple[str, bytes]]]:
    """A command, and what came to the broker from it."""
    came: list[tuple[str, bytes]] = []

    async def listening() -> object:
        account = plant.nats.credentials("admin")
        async with open_mqtt(
            plant.nats.mqtt_url,
            client_id=f"{account.client_id}-ear",
            username=account.name,
            password=account.password,
            clean=True,
        ) as client:
            await client.wait_connected(5)
            await client.subscribe("plant/#")
            outcome = await asyncio.to_thread(command, *words)
            async with asyncio.timeout(5):
                came.extend((m.topic, m.payload) for m in await client.receive(100))
            return outcome

    return asyncio.run(listening()), came


def test_letters_are_listed_and_shown_escaped(command: Command, plant: RunningPlant, tmp_path: Path) -> None:
    data = ("--data", plant.data.root)
    [first, second] = refuse(
        plant, (EVIL, "plant/s1/pump-1/a", EVIL.encode()), ("odd", "plant/a", b"\xff\x00")
    )
    listed = command("dlq", "list", *data)
    assert listed.code == 0
    assert r"\x1b[31m[bold]evil[/bold]\u202e" in listed.out
    assert "\x1b[31m" not in listed.out
    assert listed.out.index(second) < listed.out.index(first)
    found = command(
        "dlq", "list", "--reason", "EVIL", "--source", "tester", "--since", "-1h", "--json", *data
    )
    assert found.out.isascii()
    assert [letter["id"] for letter in found.json["letters"]] == [first]
    older = command("dlq", "list", "--limit", "1", "--before", second, "--json", *data).json
    assert [letter["id"] for letter in older["letters"]] == [first]
    assert command("dlq", "list", "--limit", "1", *data).out.rstrip().endswith(f"--before {second}")
    assert r"  \x1b[31m[bold]evil[/bold]\u202e" in command("dlq", "show", first, *data).out
    assert "ff 00" in command("dlq", "show", second, *data).out
    assert command("dlq", "show", second, "--json", *data).json["payload"] == "/wA="
    out = tmp_path / "payload"
    assert command("dlq", "show", second, "--out", out, *data).code == 0
    assert out.read_bytes() == b"\xff\x00"
    assert command("dlq", "show", second, "--out", tmp_path, *data).code == 2
    assert command("dlq", "show", "0-999", *data).code == 1
    assert command("dlq", "show", "none", *data).code == 2


def test_raw_bytes_go_to_a_pipe_and_to_no_terminal(
    command: Command, plant: RunningPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    [letter] = refuse(plant, ("raw", "plant/s1/pump-1/a", b"\x1b[1m" * MAX_PAYLOAD))
    raw = command("dlq", "show", letter, "--raw", "--data", plant.data.root)
    assert raw.out == "\x1b[1m" * 1024
    assert "only the first 4096 of 262144 bytes were kept" in raw.err
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal, os.fdopen(master, "rb"):
        monkeypatch.setattr(sys, "stdout", terminal)
        with pytest.raises(Misconfigured, match="not written to a terminal"):
            write_payload({"payload": "e30=", "whole": True}, None)


def test_replays_go_to_the_broker_once_and_what_can_not_go_is_said(
    command: Command, plant: RunningPlant
) -> None:
    data = ("--data", plant.data.root)
    topic = "plant/s1/pump-1/b"
    good, foreign, long = refuse(
        plant,
        ("r1", topic, b"again"),
        ("r1", "plant/s1/fan-1/b", b"x"),
        ("r1", topic, b"x" * (MAX_PAYLOAD + 1)),
    )
    outcome, came = received(plant, command, "dlq", "replay", good, foreign, long, "0-999", *data)
    assert outcome.code == 1  # type: ignore[attr-defined]
    assert outcome.out == f"{good} sent again on {topic}\n"  # type: ignore[attr-defined]
    for said in (f"{foreign}: ", f"{long}: ", "0-999: ", "what is refused again is a new letter"):
        assert said in outcome.err  # type: ignore[attr-defined]
    assert came == [(topic, b"again")]
    taken = command("dlq", "replay", good, "--json", *data)
    assert (taken.code, taken.json["done"]) == (1, [])
    assert "replayed by cli already" in taken.json["failed"][0]["error"]
    _, came = received(plant, command, "dlq", "replay", good, "--again", *data)
    assert came == [(topic, b"again")]
    assert "replayed by cli at" in command("dlq", "show", good, *data).out


def test_a_young_letter_of_the_gateway_is_waited_for(
    command: Command, plant: RunningPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--data", plant.data.root)
    [letter] = refuse(plant, ("young", "plant/s1/lone/b", b"x"), edge=False)
    waited: list[float] = []
    monkeypatch.setattr("industrialmind.dlq.time.sleep", waited.append)
    early = command("dlq", "replay", letter, *data)
    assert early.code == 1
    assert "Waiting 1" in early.err
    assert "too young" in early.err
    assert 100 < waited[0] < 121
    assert command("dlq", "replay", letter, "--now", *data).code == 0


def test_a_filter_needs_a_yes_and_takes_the_oldest_first(command: Command, plant: RunningPlant) -> None:
    data = ("--data", plant.data.root)
    ids = refuse(plant, *(("bulk", f"plant/s1/pump-1/c{n}", b"x") for n in range(5)))
    for words in ((), ("0-1", "--reason", "bulk", "--yes"), ("--yes",)):
        assert command("dlq", "drop", "--why", "w", *words, *data).code == 2
    asked = command("dlq", "drop", "--reason", "bulk", "--why", "w", *data)
    assert (asked.code, "5 letters match" in asked.err) == (2, True)
    assert command("dlq", "drop", "--reason", "bulk", "--yes", *data).code == 2
    done = command("dlq", "drop", "--reason", "bulk", "--limit", "3", "--why", EVIL, "--yes", *data)
    assert done.code == 0
    assert done.out.splitlines() == [
        rf"{i} dropped because: \x1b[31m[bold]evil[/bold]\u202e" for i in ids[2:]
    ]
    assert "there are more" in done.err
    rest = command(
        "dlq",
        "drop",
        "--topic",
        "plant/+/pump-1/#",
        "--reason",
        "bulk",
        "--why",
        "w",
        "--yes",
        "--json",
        *data,
    )
    assert [answer["id"] for answer in rest.json["done"]] == ids[:2]
    left = command("dlq", "list", "--reason", "bulk", *data)
    assert "no dead letters" in left.out
    assert "dropped" in command("dlq", "list", "--reason", "bulk", "--all", *data).out


def test_a_stopped_plants_letters_are_read_from_its_files_and_none_is_changed(
    command: Command, tmp_path: Path
) -> None:
    with running_plant(tmp_path / "data") as plant:
        [letter] = refuse(plant, ("kept", "plant/s1/pump-1/d", b"{}"))
    data = ("--data", plant.data.root)
    found = command("dlq", "list", "--since", "-1h", "--json", *data)
    assert [one["id"] for one in found.json["letters"]] == [letter]
    assert "over MQTT, on its topic" in command("dlq", "show", letter, *data).out
    for words in (("replay", letter), ("drop", letter, "--why", "w")):
        outcome = command("dlq", *words, *data)
        assert outcome.code == 3
        assert "no plant is running" in outcome.err
    assert command("dlq", "list", "--data", tmp_path / "none").code == 1
    with DataDir(plant.data.root).locked():
        assert command("dlq", "list", *data).code == 2
