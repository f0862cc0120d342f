"""The ledger as a service over a real log and store."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from cloud.ledger.app import Ledger, Metrics, edge_reports
from cloud.ledger.report import EdgeReport
from shared import names
from shared.clock import SystemClock
from shared.nats import open_control
from tests.servers import NatsServer
from tests.unit.ledger_plant import EDGE, MACHINE, Plant, open_plant, rows


@pytest.fixture
async def plant(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Plant]:
    async with open_plant(nats_server, tmp_path) as opened:
        yield opened


def ledger_of(plant: Plant, registry: CollectorRegistry, *, snapshot: bool = True) -> Ledger:
    async def reports() -> Mapping[str, EdgeReport]:
        return plant.report()

    return Ledger(
        plant.log,
        plant.store,
        reports,
        plant.folder / "ledger.json" if snapshot else None,
        Metrics(registry),
        SystemClock(),
        save_seconds=0.05,
        catch_up_seconds=1.0,
    )


async def test_it_follows_the_log_and_goes_on_from_its_snapshot(plant: Plant) -> None:
    await plant.move(rows(10), rows(10, 10))
    registry = CollectorRegistry()
    ledger = ledger_of(plant, registry)
    stop = asyncio.Event()
    task = asyncio.create_task(ledger.run(stop))
    report = await ledger.report()
    assert report.findings == ()
    assert report.notes == ()
    assert [(s.produced, s.logged, s.stored) for s in report.sources] == [(20, 20, 20)]
    assert 'im_ledger_rows{place="logged"} 20.0' in generate_latest(registry).decode()
    stop.set()
    await task
    await plant.move(rows(10, 20))
    again = ledger_of(plant, CollectorRegistry())
    assert len(next(iter(again.fold.sources.values())).logged) == 20
    stop = asyncio.Event()
    task = asyncio.create_task(again.run(stop))
    assert [(s.logged, s.resent) for s in (await again.report()).sources] == [(30, 0)]
    stop.set()
    await task


async def test_a_lost_row_is_a_finding_and_the_rest_is_pending(plant: Plant) -> None:
    await plant.move(rows(10))
    lost = plant.cut(rows(10, 10))
    del lost
    with plant.file.transaction():
        plant.file.free([(11, 20)])
    await plant.send(plant.cut(rows(5, 20)))
    registry = CollectorRegistry()
    ledger = ledger_of(plant, registry, snapshot=False)
    stop = asyncio.Event()
    task = asyncio.create_task(ledger.run(stop))
    report = await ledger.report()
    assert [(f.stage, f.what, f.identities) for f in report.findings] == [
        ("uplink", "missing", ("rows 11-20",))
    ]
    assert any("pending rows" in note for note in report.notes)
    assert 'im_ledger_findings{stage="uplink"} 1.0' in generate_latest(registry).decode()
    stop.set()
    await task
    assert not (plant.folder / "ledger.json").exists()


async def test_before_the_log_is_read_nothing_is_judged(plant: Plant) -> None:
    await plant.move(rows(10))
    ledger = ledger_of(plant, CollectorRegistry())
    report = await ledger.report()  # nobody follows the log
    assert report.findings == ()
    assert any("not read the log to its end" in note for note in report.notes)


async def test_a_damaged_snapshot_is_made_again(plant: Plant) -> None:
    (plant.folder / "ledger.json").write_bytes(b"damaged")
    (plant.folder / "ledger.json.part").mkdir()  # so that no new one can be saved
    await plant.move(rows(10))
    ledger = ledger_of(plant, CollectorRegistry())
    stop = asyncio.Event()
    task = asyncio.create_task(ledger.run(stop))
    assert [s.logged for s in (await ledger.report()).sources] == [10]
    stop.set()
    await task
    assert (plant.folder / "ledger.json").read_bytes() == b"damaged"


async def test_edges_reports_come_from_the_control_plane(plant: Plant) -> None:
    server = plant.server
    plant.cut(rows(10))
    async with open_control(server.url, credentials=server.credentials) as control:
        await control.ensure_buckets([EDGE, "edge-2"], models_bytes=1 << 20)
        await control.assign("s1", MACHINE, EDGE)
        await control.assign("s1", "fan-1", "edge-2")
        assert await edge_reports(control) == {}
        made = plant.report()
        told = made[EDGE].model_dump_json().encode()
        await control.report(EDGE, "ledger", told)
        await control.report("edge-2", "ledger", b"no report")
        assert await edge_reports(control) == made
    assert names.reported_bucket(EDGE) == f"reported-{EDGE}"
