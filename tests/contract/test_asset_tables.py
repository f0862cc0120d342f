"""The tables of assets, on every database: what is written is found, in order, at its position, and again changes nothing."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from cloud.assets.fold import MAX_REQUESTS, State
from cloud.assets.model import Asset, Kind, MeterReading, Reset, Status, WorkOrder
from cloud.assets.port import Projection, Wanted, WantedOrders
from cloud.assets.sql import SqlAssets, open_assets
from shared.names import ASSETS, WORK_ORDERS
from shared.sqlalchemy import Database, open_database

NOW = datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC)


def machine(asset: str, /, **fields: object) -> Asset:
    return Asset(Kind.MACHINE, asset, {"site": "s1"}, fields, 2, NOW, NOW, "ada")


def order(number: int, **more: object) -> WorkOrder:
    made = {"id": f"wo-{number}", "machine": "pump-1", "title": "Look", "created_at": NOW, "revision": 1}
    return WorkOrder(**{**made, **more})  # type: ignore[arg-type]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/app.db"
    else:
        server = request.getfixturevalue("postgresql")
        name = f"t{secrets.token_hex(6)}"
        async with open_database(server.url, setting="x") as admin:
            with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(text(f"CREATE DATABASE {name} LOCALE 'C.UTF-8' TEMPLATE template0"))
        url = f"{server.url.rpartition('/')[0]}/{name}"
    async with open_database(url, setting="api.app_url") as opened:
        yield opened


@pytest.fixture
async def tables(database: Database) -> SqlAssets:
    return await open_assets(database)


async def test_pages_are_in_order_and_show_their_position(tables: Projection) -> None:
    names = ["b-1", "b", "a.b", "a", "a-b", "b0"]
    things = [machine(name) if "." not in name else Asset(Kind.SENSOR, name, revision=1) for name in names]
    await tables.save(things, {}, {ASSETS: {"0": 6}, WORK_ORDERS: {}})
    found: list[str] = []
    after = ("", "")
    while True:
        page = await tables.assets(Wanted(), after, 2)
        assert page.position == {"0": 6}
        found += [asset.id for asset in page.items]
        if not page.more:
            break
        after = page.items[-1].kind, page.items[-1].id
    assert found == ["a", "a-b", "b", "b-1", "b0", "a.b"]


async def test_a_thing_comes_back_whole_and_written_again_is_replaced(tables: Projection) -> None:
    asset = machine(
        "pump-1", name="Größe \N{PILE OF POO} '\"", attributes={"balls": 9, "angle": 0.5, "x": True}
    )
    counter = MeterReading("pump-1.c.run-hours", 3.5, NOW, "ada", (Reset(NOW, "ada", "new", 8120.0),), 4)
    work = order(1, status=Status.CLOSED, closed_at=NOW, anomaly="ab" * 16)
    for _ in range(2):
        await tables.save([asset, counter, work], {"k": ("d", "pump-1")}, {ASSETS: {"0": 3}})
        assert await tables.asset(Kind.MACHINE, "pump-1") == asset
        assert await tables.counter(counter.id) == counter
        assert await tables.order("wo-1") == work
        state, positions = await tables.load()
        assert (state.assets, state.counters, state.orders) == (
            {(Kind.MACHINE, "pump-1"): asset}, {counter.id: counter}, {"wo-1": work},
        )  # fmt: skip
        assert (state.requests, positions) == ({"k": ("d", "pump-1")}, {ASSETS: {"0": 3}})
    await tables.save([machine("pump-1", name="Other")], {}, {ASSETS: {"0": 4}})
    assert (await tables.assets(Wanted(text="OTHER"), ("", ""), 5)).items[0].fields["name"] == "Other"
    assert await tables.positions() == {ASSETS: {"0": 4}}


async def test_filters_find_what_they_name(tables: Projection) -> None:
    retired = Asset(Kind.MACHINE, "old", {"site": "s1"}, revision=2, retired_at=NOW)
    sensor = Asset(Kind.SENSOR, "pump-1.flow", {"unit": "K"}, revision=1)
    things = [machine("pump-1", area="hall", edge="e1", name="100 %_x"), machine("fan"), retired, sensor]
    await tables.save(things, {}, {})

    async def ids(**wanted: object) -> list[str]:
        page = await tables.assets(Wanted(**wanted), ("", ""), 10)  # type: ignore[arg-type]
        return [asset.id for asset in page.items]

    assert await ids(kind=Kind.MACHINE) == ["fan", "pump-1"]
    assert await ids(kind=Kind.MACHINE, retired=True) == ["fan", "old", "pump-1"]
    assert await ids(machine="pump-1") == ["pump-1", "pump-1.flow"]
    assert await ids(site="s1", area="hall") == await ids(edge="e1") == ["pump-1"]
    assert await ids(text="%_X") == ["pump-1"]
    assert await ids(text="1__%") == await ids(text="a\0b") == await ids(site="\0") == []


async def test_orders_come_newest_first_and_counters_by_owner(tables: Projection) -> None:
    orders = [order(n, status=Status.OPEN if n % 2 else Status.CANCELLED) for n in range(1, 12)]
    counters = [MeterReading(name, revision=1) for name in ("m.a", "m.c.a", "n.a")]
    await tables.save([*orders, *counters], {}, {WORK_ORDERS: {"0": 11}})
    page = await tables.orders(WantedOrders(Status.OPEN), 0, 4)
    assert ([one.id for one in page.items], page.more) == (["wo-11", "wo-9", "wo-7", "wo-5"], True)
    rest = await tables.orders(WantedOrders(Status.OPEN), 5, 4)
    assert ([one.id for one in rest.items], rest.more, rest.position) == (["wo-3", "wo-1"], False, {"0": 11})
    assert [one.id for one in (await tables.counters("m", "", 9)).items] == ["m.a", "m.c.a"]
    assert [one.id for one in (await tables.counters("m.c", "", 9)).items] == ["m.c.a"]
    assert [one.id for one in (await tables.counters("", "m.c.a", 9)).items] == ["n.a"]


async def test_requests_are_kept_in_order_and_bounded(tables: Projection) -> None:
    many = {f"k{n}": ("d", "s") for n in range(MAX_REQUESTS + 5)}
    first = dict(list(many.items())[:10])
    await tables.save([], first, {})
    await tables.save([], {key: one for key, one in many.items() if key not in first}, {})
    state, _ = await tables.load()
    assert list(state.requests) == list(many)[5:]


async def test_tables_are_replaced_for_every_reader_at_once(tables: Projection) -> None:
    await tables.save([machine("old")], {"k": ("d", "s")}, {ASSETS: {"0": 1}})
    new = State(assets={(Kind.MACHINE, f"m{n:03}"): machine(f"m{n:03}") for n in range(500)})
    seen: set[tuple[int, int]] = set()

    async def watch() -> None:
        while True:
            page = await tables.assets(Wanted(retired=True), ("", ""), 1000)
            seen.add((len(page.items), page.position["0"]))

    watching = asyncio.create_task(watch())
    await tables.replace(new, {ASSETS: {"0": 500}})
    watching.cancel()
    assert seen <= {(1, 1), (500, 500)}
    state, positions = await tables.load()
    assert (state.assets, dict(state.requests), positions) == (new.assets, {}, {ASSETS: {"0": 500}})


async def test_opened_again_everything_is_there(database: Database, tables: Projection) -> None:
    await tables.save([machine("pump-1")], {}, {ASSETS: {"0": 1}})
    again = await open_assets(database)
    assert await again.asset(Kind.MACHINE, "pump-1") == machine("pump-1")
