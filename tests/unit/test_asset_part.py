"""What the owner of the assets sees: assignments, series, births, sites of live frames."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cloud.api.fleet import Reported
from cloud.api.live import Broadcaster
from cloud.assets.model import Kind
from cloud.assets.sightings import assets_of
from cloud.telemetry.port import TelemetryStore, open_store
from industrialmind.asset_part import Counting, Eyes
from industrialmind.model_answers import ModelAnswers
from shared.clock import SystemClock
from shared.eventlog import Stored
from shared.events import EdgeStarted, at
from shared.frame_codec import encode
from shared.frames import Header
from shared.frames import Kind as FrameKind
from shared.jetstream import default_budgets, ensure_topics, open_jetstream
from shared.machine_events import MachineCounted
from shared.names import SENSOR_READINGS
from shared.nats import open_control
from tests.servers import NatsServer
from tests.unit.assets_plant import assets_on
from tests.unit.front_door import event, readings
from tests.unit.ledger_plant import rows


class Plant:
    """Eyes, and what they look at."""

    def __init__(self, eyes: Eyes, store: TelemetryStore, live: Broadcaster, control: Any) -> None:  # noqa: ANN401
        self.eyes, self.store, self.live, self.control = eyes, store, live, control

    async def software(self, edge: str) -> object:
        seen = assets_of(await self.eyes.see())
        return seen.get((Kind.EDGE, edge), {}).get("software")


def started(edge: str, seconds: int, software: str) -> EdgeStarted:
    return EdgeStarted(
        source=f"edge/{edge}",
        subject=edge,
        occurred_at=at(1_750_000_000_000_000 + seconds * 1_000_000),
        epoch="00",
        software=software,
    )


@pytest.fixture
async def plant(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Plant]:
    url, credentials, clock = nats_server.url, nats_server.credentials, SystemClock()
    await ensure_topics(url, credentials=credentials, budgets=default_budgets(nats_server.max_file_store))
    async with (
        open_jetstream(url, credentials=credentials) as log,
        open_control(url, credentials=credentials) as control,
        open_store(f"sqlite:///{tmp_path}/telemetry.db") as store,
    ):
        await control.ensure_buckets(["e1"], models_bytes=1 << 20)
        live = Broadcaster(Reported(control), clock, stale_after=10)
        yield Plant(Eyes(control, store, live, ModelAnswers(log, control, clock)), store, live, control)


async def test_everything_that_the_plant_knows_is_seen(plant: Plant) -> None:
    assert assets_of(await plant.eyes.see()) == {}
    await plant.control.assign("s1", "pump-1", "e1")
    await plant.store.write([readings(2, machine="lone")])
    header = Header("s2", "gateway-1", "lone", FrameKind.READINGS, b"e" * 16, 1, 4)
    plant.live.take(Stored(SENSOR_READINGS, "lone", encode(header, rows(4)), {}, "0", 1, 5))
    seen = assets_of(await plant.eyes.see())
    assert seen[Kind.MACHINE, "pump-1"] == {"site": "s1", "edge": "e1"}
    assert seen[Kind.MACHINE, "lone"] == {"site": "s2"}
    assert seen[Kind.SENSOR, "lone.flow"] == {"unit": "l/min"}
    assert {asset for kind, asset in seen if kind is Kind.SITE} == {"s1", "s2"}


async def test_the_last_birth_counts_and_is_not_forgotten(plant: Plant) -> None:
    await plant.store.write([event(1, started("e1", 5, "0.1"))])
    for _ in range(2):  # whoever could not write it down sees it again
        assert await plant.software("e1") == "0.1"
    await plant.store.write([event(2, started("e1", 9, "0.2")), event(3, started("e2", 1, "0.1"))])
    assert await plant.software("e1") == "0.2"
    await plant.store.write([event(4, started("e1", 7, "late"))])
    assert await plant.software("e1") == "0.2"
    assert await plant.software("e2") == "0.1"


async def test_births_of_a_store_that_was_made_anew_are_found(plant: Plant, tmp_path: Path) -> None:
    await plant.store.write([event(n, started("e1", n, f"0.{n}")) for n in range(1, 6)])
    assert await plant.software("e1") == "0.5"
    url = f"sqlite:///{tmp_path}/copy.db"
    async with open_store(url) as copy:
        await copy.write([event(6, started("e1", 6, "0.6"))])
    await plant.store.replace(url)
    assert await plant.software("e1") == "0.6"


async def test_counters_follow_what_edges_count_through_the_store_and_survive_its_renewal(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    def hour(number: int) -> MachineCounted:
        since = 1_750_000_000_000_000 + number * 3_600_000_000
        return MachineCounted(
            source="edge/e1",
            subject="pump-1",
            occurred_at=at(since + 3_600_000_000),
            edge="e1",
            since=at(since),
            run_hours=0.5,
            starts=1,
            cycles=0,
            total_run_hours=number,
            total_starts=number,
            total_cycles=0,
        )

    url = f"sqlite:///{tmp_path}/copy.db"
    async with (
        assets_on(nats_server, tmp_path / "app.db") as assets,
        open_store(f"sqlite:///{tmp_path}/telemetry.db") as store,
    ):
        counting = Counting(assets.owner, store)
        assert not await counting.look()
        await store.write([event(n, hour(n)) for n in range(1, 5)])
        assert not await counting.look()
        again = Counting(assets.owner, store)  # as after a restart: everything is read, nothing counted twice
        assert not await again.look()
        async with open_store(url) as copy:
            await copy.write([event(5, hour(4)), event(6, hour(5))])
        await store.replace(url)
        assert await counting.look()
        assert not await counting.look()
        await assets.owner.save()
        held, _ = await assets.tables.load()
        assert {name: each.value for name, each in held.counters.items()} == {
            "pump-1.run-hours": 2.5,
            "pump-1.starts": 5,
        }
