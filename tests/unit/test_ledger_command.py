"""`industrialmind ledger` on a plant's files and on a running plant: exit code 0 clean, 1 with a finding."""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from cloud.ledger.app import REPORT_KEY
from cloud.ledger.report import Finding, LedgerReport
from cloud.telemetry.port import open_store
from industrialmind.ledger import render
from industrialmind.plant import write_private
from shared.eventlog import open_event_log
from shared.nats import open_control
from tests.servers import NatsServer
from tests.unit import ledger_plant
from tests.unit.front_door import Command, RunningPlant, commanding, stopped_plant


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with commanding(monkeypatch, capsys) as given:
        yield given


async def produce(plant: RunningPlant) -> None:
    """Two frames of one edge through every stage; what the edge says of them."""
    url, credentials = plant.nats.nats_url, plant.nats.credentials("admin").userinfo
    async with (
        open_control(url, credentials=credentials) as control,
        open_event_log(url, credentials=credentials) as log,
        open_store(plant.data.telemetry_url) as store,
    ):
        await control.ensure_buckets([ledger_plant.EDGE])
        await control.assign("s1", ledger_plant.MACHINE, ledger_plant.EDGE)
        unused = NatsServer(plant.data.root / "unused")
        moved = ledger_plant.Plant(unused, plant.data.root, log, store)
        await moved.move(ledger_plant.rows(40), ledger_plant.rows(40, 40))
        await control.report(ledger_plant.EDGE, REPORT_KEY, orjson.dumps(moved.file.report()))
        moved.stop_edge()


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[RunningPlant]:
    """nats-server runs until a test stops it; no process of the plant does."""
    made = RunningPlant(tmp_path / "data", rows=0)
    try:
        made.start_server()
        asyncio.run(produce(made))
        yield made
    finally:
        made.stop()


def source(outcome_json: dict[str, list[dict[str, int]]]) -> dict[str, int]:
    [found] = [each for each in outcome_json["sources"] if each["produced"] is not None]
    return found


def test_a_stopped_plants_files_are_judged_with_a_server_of_its_own(
    command: Command, plant: RunningPlant
) -> None:
    plant.stop()
    root = plant.data.root
    plain = command("ledger", "--data", root, "--json")
    assert plain.code == 0, plain.out + plain.err
    assert (source(plain.json)["produced"], source(plain.json)["stored"]) == (80, 80)
    shown = command("ledger", "--data", root, "--audit")
    assert shown.code == 0
    assert "audited: 80 readings in the log, 80 in the store" in shown.out
    assert "no row is missing, doubled or altered" in shown.out
    db = sqlite3.connect(plant.data.telemetry)
    with db:
        assert db.execute("DELETE FROM readings WHERE time_us = ?", (ledger_plant.T0,)).rowcount == 1
    db.close()
    lost = command("ledger", "--data", root, "--audit")
    assert lost.code == 1
    assert "FINDING: 1 rows missing at stage store" in lost.out


def test_a_running_plant_is_asked_on_its_own_server(command: Command, plant: RunningPlant) -> None:
    run = {"pid": os.getpid(), "nats": plant.nats.nats_url}
    write_private(plant.data.run_file, orjson.dumps(run).decode())
    outcome = command("ledger", "--data", plant.data.root, "--json")
    assert outcome.code == 0, outcome.out + outcome.err
    assert source(outcome.json)["stored"] == 80
    assert command("ledger", "--data", plant.data.root, "--audit", "--json").json["rows_in_store"] == 80


def test_a_folder_without_readings_is_no_plant(command: Command, tmp_path: Path) -> None:
    outcome = command("ledger", "--data", tmp_path / "none")
    assert outcome.code == 1
    assert "holds no readings yet" in outcome.err


def test_a_folder_that_something_else_holds_is_in_use(command: Command, tmp_path: Path) -> None:
    data = stopped_plant(tmp_path)
    with data.locked():
        outcome = command("ledger", "--data", tmp_path)
    assert outcome.code == 2
    assert "in use" in outcome.err


def test_findings_are_sentences_and_only_the_first_fifty(capsys: pytest.CaptureFixture[str]) -> None:
    def found(rows: int) -> Finding:
        return Finding(
            stage="log",
            what="missing",
            edge="edge-1",
            epoch="ab" * 16,
            machine="pump-1",
            rows=rows,
            identities=("row [7]",),
            advice="Ask the edge.",
        )

    render(
        LedgerReport(
            findings=tuple(found(n) for n in range(53)), resolved=(found(99),), notes=("[odd] note",)
        )
    )
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("FINDING") == 50
    assert "and 3 more: --json lists all" in out
    assert "7 rows missing at stage log (edge-1 abababab pump-1): row [7]. Ask the edge." in out
    assert "resolved: 99 rows" in out
    assert "note: [odd] note" in out
