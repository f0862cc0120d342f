"""Machine-hours whose rollups are still to be made, and before which times what has expired."""

import secrets
from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from sqlalchemy import Connection

from cloud.telemetry.sql.known import insert
from cloud.telemetry.sql.tables import DIRTY, EXPIRED

Hour = tuple[str, int, int]
"""Machine, start of the hour in µs, and the count of writes that touched it."""


def touch(connection: Connection, hours: Iterable[tuple[str, int]]) -> None:
    """These hours have readings that their rollups lack."""
    # A new row's count begins anywhere, so that it is never taken for one that was there before.
    begin = secrets.randbits(40)
    rows = [{"machine": machine, "hour_us": hour, "touches": begin} for machine, hour in sorted(hours)]
    if rows:
        statement = insert(connection, DIRTY).on_conflict_do_update(
            index_elements=list(DIRTY.primary_key), set_={"touches": DIRTY.c.touches + 1}
        )
        connection.execute(statement, rows)


def hours(connection: Connection, machine: str, from_us: int, to_us: int) -> list[int]:
    """A machine's hours in a range, in order."""
    query = sa.select(DIRTY.c.hour_us).where(
        DIRTY.c.machine == machine, DIRTY.c.hour_us >= from_us, DIRTY.c.hour_us < to_us
    )
    return list(connection.execute(query.order_by(DIRTY.c.hour_us)).scalars())


def every(connection: Connection, most: int, before_us: int | None = None) -> list[Hour]:
    """The oldest hours of all machines, by machine and time."""
    query = sa.select(DIRTY)
    if before_us is not None:
        query = query.where(DIRTY.c.hour_us < before_us)
    found = connection.execute(query.order_by(DIRTY.c.hour_us).limit(most)).all()
    return sorted((row.machine, row.hour_us, row.touches) for row in found)


def made(connection: Connection, done: Iterable[Hour]) -> None:
    """The hours' rollups were written from readings as of these counts.

    Whoever touched one since, or made it meanwhile from older readings, leaves another count or none: then it is made again.
    """
    again = []
    for machine, hour, touches in done:
        where = (DIRTY.c.machine == machine, DIRTY.c.hour_us == hour, DIRTY.c.touches == touches)
        if not connection.execute(sa.delete(DIRTY).where(*where)).rowcount:
            again.append((machine, hour))
    touch(connection, again)


def expired(connection: Connection) -> dict[str, int]:
    """Before which times readings ("raw"), minutes and hours have expired."""
    return {what: before for what, before in connection.execute(sa.select(EXPIRED))}  # noqa: C416 - rows are no pairs


def expire(connection: Connection, before: Mapping[str, int]) -> None:
    """Say what has expired; never less than before."""
    for what, before_us in sorted(before.items()):
        statement = insert(connection, EXPIRED)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[EXPIRED.c.what],
                set_={"before_us": statement.excluded.before_us},
                where=EXPIRED.c.before_us < statement.excluded.before_us,
            ),
            {"what": what, "before_us": before_us},
        )
