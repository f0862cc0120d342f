"""Audit events on their way to the log: written with the change that they tell of, gone once the log has them."""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection

from cloud.people.sql.tables import OUTBOX
from shared.errors import Unavailable
from shared.events import Event
from shared.sqlalchemy import Database

MAX_WAITING: Final = 10_000
"""Then events that may be spared make room, the oldest first; with none left, changes are refused."""


def queue(connection: Connection, event: Event, *, spare: bool = False) -> bool:
    """Keep an event in this transaction. Returns False if a spare one found no room. Raises Unavailable if another did."""
    count = connection.execute(sa.select(sa.func.count()).select_from(OUTBOX)).scalar_one()
    if count >= MAX_WAITING:
        oldest = connection.execute(
            sa.select(sa.func.min(OUTBOX.c.number)).where(OUTBOX.c.spare.is_(True))
        ).scalar()
        if spare or oldest is None:
            if spare:
                return False
            raise Unavailable(f"{count} audit events wait for the event log: nothing can be changed now")
        connection.execute(OUTBOX.delete().where(OUTBOX.c.number == oldest))
    connection.execute(OUTBOX.insert().values(event=event.to_json(), id=event.id, spare=spare))
    return True


class SqlOutbox:
    """See the port."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, event: Event) -> bool:
        """See the port."""
        return await self._database.write(lambda connection: queue(connection, event, spare=True))

    async def waiting(self, most: int) -> Sequence[tuple[int, str, bytes]]:
        """See the port."""
        wanted = sa.select(OUTBOX.c.number, OUTBOX.c.id, OUTBOX.c.event).order_by(OUTBOX.c.number).limit(most)
        found = await self._database.read(lambda connection: connection.execute(wanted).all())
        return [(number, event_id, bytes(event)) for number, event_id, event in found]

    async def sent(self, through: int) -> None:
        """See the port."""
        gone = OUTBOX.delete().where(OUTBOX.c.number <= through)
        await self._database.write(lambda connection: connection.execute(gone))
