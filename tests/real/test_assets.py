"""Assets with their log on Kafka and their tables on PostgreSQL, both of which go away in between."""

import asyncio
import secrets

import pytest
from sqlalchemy import text

from cloud.assets.model import Kind
from cloud.assets.sql import open_assets
from deploy.servers.kafka import Kafka
from deploy.servers.postgresql import PostgreSQL
from shared.errors import Unavailable
from shared.kafka import ensure_topics, open_kafka
from shared.names import ASSETS
from shared.sqlalchemy import open_database
from tests.unit.assets_plant import FLOW, SEEN, Assets, ada, owning

pytestmark = pytest.mark.real


async def state_of(assets: Assets) -> tuple[object, ...]:
    """What the tables hold."""
    state, positions = await assets.tables.load()
    return state.assets, state.counters, state.orders, dict(state.requests), positions


async def test_a_plant_is_kept_and_made_anew(kafka: Kafka, postgresql: PostgreSQL) -> None:
    await ensure_topics(kafka.url)
    prefix = f"p{secrets.token_hex(4)}"
    async with open_database(postgresql.url, setting="api.app_url") as database, open_kafka(kafka.url) as log:
        assets = owning(log, await open_assets(database))
        await assets.owner.see(SEEN)
        before = await log.end(ASSETS)
        await assets.commands.change(*FLOW, {"normal_low": 36}, ada(request=f"{prefix}-1"))
        await assets.commands.count("pump-1.starts", 12, None, ada(request=f"{prefix}-2"))
        await assets.commands.open("pump-1", {"title": "Look"}, ada(request=f"{prefix}-3"))
        other = owning(log, assets.tables)
        again = await other.commands.change(*FLOW, {"normal_low": 36}, ada(request=f"{prefix}-1"))
        assert not again.changed
        held = await state_of(assets)
        await other.owner.rebuild(lambda *_: None)
        assert await state_of(assets) == held
        assert len([record async for record in log.read(ASSETS, before)]) == 2


async def test_with_postgresql_away_what_was_decided_is_in_the_log(
    kafka: Kafka, postgresql: PostgreSQL
) -> None:
    await ensure_topics(kafka.url)
    async with open_database(postgresql.url, setting="api.app_url") as database, open_kafka(kafka.url) as log:
        assets = owning(log, await open_assets(database))
        await assets.owner.see(SEEN)
        postgresql.stop()
        try:
            name = f"Flow {secrets.token_hex(4)}"
            done = await assets.commands.change(*FLOW, {"name": name}, ada(request=name))
            with pytest.raises(Unavailable):
                await assets.tables.asset(*FLOW)
        finally:
            postgresql.start()
        async with asyncio.timeout(30):
            while True:
                try:
                    await assets.owner.save()
                    break
                except Unavailable:
                    await asyncio.sleep(0.1)
        assert await assets.tables.asset(*FLOW) == done.thing
        assert (await assets.tables.positions())[ASSETS] == await log.end(ASSETS)


async def test_tables_are_under_their_own_version(postgresql: PostgreSQL) -> None:
    async with open_database(postgresql.url, setting="api.app_url") as database:
        tables = await open_assets(database)
        assert await tables.asset(Kind.SITE, "none") is None
        found = await database.read(
            lambda c: c.execute(text("SELECT version_num FROM assets_version")).scalar()
        )
        assert found == "0001"
