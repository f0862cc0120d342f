"""What is kept about people in SQL: `app.db` on a laptop, PostgreSQL in a plant."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from cloud.people.port import PeopleStore
from cloud.people.sql.credentials import SqlCredentials
from cloud.people.sql.links import SqlKeys, SqlLoginLinks
from cloud.people.sql.outbox import SqlOutbox
from cloud.people.sql.users import SqlUsers
from shared.clock import Clock
from shared.sqlalchemy import migrate, open_database

MIGRATIONS: Final = Path(__file__).parent.parent / "migrations"


@asynccontextmanager
async def open_sql(url: str, clock: Clock) -> AsyncIterator[PeopleStore]:
    """See the port."""
    async with open_database(url, setting="api.app_url") as database:
        await migrate(database, "people", MIGRATIONS)
        yield PeopleStore(
            SqlUsers(database, clock),
            SqlCredentials(database, clock),
            SqlLoginLinks(database, clock),
            SqlKeys(database, clock),
            SqlOutbox(database),
            database.ping,
        )
