"""Users in SQL."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from cloud.people.logic import MAX_USERS, User
from cloud.people.port import Change
from cloud.people.sql.outbox import queue
from cloud.people.sql.tables import SESSIONS, USERS
from shared.access import Role
from shared.clock import Clock
from shared.errors import Conflict, NotFound, Rejected
from shared.events import Event
from shared.sqlalchemy import Database


class SqlUsers:
    """See the port."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    async def all(self) -> list[User]:
        """See the port."""
        wanted = sa.select(USERS).order_by(USERS.c.name)
        return [_user(row) for row in await self._database.read(lambda c: c.execute(wanted).all())]

    async def one(self, name: str) -> User:
        """See the port."""
        return await self._database.read(lambda connection: _one(connection, USERS.c.name == name))

    async def by_subject(self, subject: str) -> User:
        """See the port."""
        return await self._database.read(lambda connection: _one(connection, USERS.c.subject == subject))

    async def password(self, name: str) -> str | None:
        """See the port."""
        wanted = sa.select(USERS.c.password).where(USERS.c.name == name)
        return await self._database.read(lambda connection: connection.execute(wanted).scalar())

    async def add(self, user: User, password: str | None, event: Event) -> None:
        """See the port."""

        def work(connection: Connection) -> None:
            count = connection.execute(sa.select(sa.func.count()).select_from(USERS)).scalar_one()
            if count >= MAX_USERS:
                raise Rejected(f"there are {count} users already")
            connection.execute(
                USERS.insert().values(
                    name=user.name,
                    display_name=user.display_name,
                    role=user.role.value,
                    active=user.active,
                    subject=user.subject or None,
                    password=password,
                    created_us=self._clock.now_us(),
                )
            )
            queue(connection, event)

        try:
            await self._database.write(work)
        except Conflict as error:
            raise Conflict(f"there is a user {user.name!r} already, or one of the same subject") from error

    async def change(self, name: str, change: Change, event: Event) -> User:
        """See the port."""
        values: dict[str, Any] = {}
        if change.role is not None:
            values["role"] = change.role.value
        if change.active is not None:
            values["active"] = change.active
        if change.display_name is not None:
            values["display_name"] = change.display_name

        def work(connection: Connection) -> User:
            if values:
                connection.execute(USERS.update().where(USERS.c.name == name).values(**values))
            found = _one(connection, USERS.c.name == name)
            if not found.active:
                connection.execute(SESSIONS.delete().where(SESSIONS.c.owner == name))
            queue(connection, event)
            return found

        return await self._database.write(work)

    async def set_password(self, name: str, password: str, event: Event, *, keep: str = "") -> None:
        """See the port."""

        def work(connection: Connection) -> None:
            connection.execute(USERS.update().where(USERS.c.name == name).values(password=password))
            _one(connection, USERS.c.name == name)
            connection.execute(SESSIONS.delete().where(SESSIONS.c.owner == name, SESSIONS.c.id != keep))
            queue(connection, event)

        await self._database.write(work)

    async def rehash(self, name: str, old: str, new: str) -> None:
        """See the port."""
        work = USERS.update().where(USERS.c.name == name, USERS.c.password == old).values(password=new)
        await self._database.write(lambda connection: connection.execute(work))


def _one(connection: Connection, where: sa.ColumnElement[bool]) -> User:
    row = connection.execute(sa.select(USERS).where(where)).one_or_none()
    if row is None:
        raise NotFound("there is no such user")
    return _user(row)


def _user(row: Row[Any]) -> User:
    return User(
        row.name,
        row.display_name,
        Role(row.role),
        active=bool(row.active),
        subject=row.subject or "",
        has_password=row.password is not None,
        created_us=row.created_us,
    )
