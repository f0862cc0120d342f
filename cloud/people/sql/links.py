"""Login links, gone once they were used, and the pairs that sign access tokens."""

import sqlalchemy as sa
from sqlalchemy import Connection

from cloud.people.logic import LIFE_US, MAX_OPEN, LoginLink, digest, new_secret
from cloud.people.sql.outbox import queue
from cloud.people.sql.tables import KEYS, LINKS
from shared.clock import Clock
from shared.errors import NotFound
from shared.events import Event
from shared.sqlalchemy import Database


class SqlLoginLinks:
    """See the port. A link that was used is gone, so nothing can use it twice."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    async def make(self, event: Event) -> LoginLink:
        """See the port. Expired links go, and of too many open ones those that expire first."""
        now_us = self._clock.now_us()
        link = LoginLink(new_secret(), now_us + LIFE_US)

        def work(connection: Connection) -> None:
            newest = sa.select(LINKS.c.digest).order_by(LINKS.c.expires_us.desc()).limit(MAX_OPEN - 1)
            connection.execute(LINKS.delete().where(LINKS.c.expires_us <= now_us))
            connection.execute(LINKS.delete().where(LINKS.c.digest.not_in(newest)))
            connection.execute(LINKS.insert().values(digest=digest(link.code), expires_us=link.expires_us))
            queue(connection, event)

        await self._database.write(work)
        return link

    async def redeem(self, code: str) -> None:
        """See the port."""
        used = LINKS.delete().where(LINKS.c.digest == digest(code), LINKS.c.expires_us > self._clock.now_us())
        if not await self._database.write(lambda connection: connection.execute(used).rowcount):
            raise NotFound("this login link was used, has expired, or never was")


class SqlKeys:
    """See the port."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    async def all(self) -> list[str]:
        """See the port."""
        now_us = self._clock.now_us()
        wanted = (
            sa.select(KEYS.c.pair)
            .where(sa.or_(KEYS.c.until_us == 0, KEYS.c.until_us > now_us))
            .order_by(KEYS.c.until_us == 0, KEYS.c.created_us)
        )
        found = await self._database.read(lambda connection: connection.execute(wanted).scalars().all())
        return list(reversed(found))

    async def add(self, key_id: str, pair: str, old_until_us: int, event: Event) -> None:
        """See the port."""
        now_us = self._clock.now_us()

        def work(connection: Connection) -> None:
            over = sa.and_(KEYS.c.until_us != 0, KEYS.c.until_us <= now_us)
            longer = sa.or_(KEYS.c.until_us == 0, KEYS.c.until_us > old_until_us)
            connection.execute(KEYS.delete().where(over))
            connection.execute(KEYS.update().where(longer).values(until_us=old_until_us))
            connection.execute(KEYS.insert().values(id=key_id, pair=pair, created_us=now_us, until_us=0))
            queue(connection, event)

        await self._database.write(work)
