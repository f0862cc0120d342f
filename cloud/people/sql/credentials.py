"""API tokens and sessions in SQL, found by the hash of their secret."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from cloud.people.logic import MAX_SESSIONS, MAX_TOKENS, USED_AFTER_US, ApiToken, Credential, Session
from cloud.people.port import Tell
from cloud.people.sql.outbox import queue
from cloud.people.sql.tables import SESSIONS, TOKENS, USERS
from shared.access import Right, Role, Via
from shared.clock import Clock
from shared.errors import NotFound, Rejected
from shared.events import Event
from shared.sqlalchemy import Database


class SqlCredentials:
    """See the port."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock

    async def find(self, digest: bytes) -> Credential | None:
        """See the port."""
        return await self._database.read(lambda connection: _find(connection, digest))

    async def used(self, found: Credential, now_us: int) -> None:
        """See the port."""
        if now_us < found.used_us + USED_AFTER_US:
            return
        table, column = (SESSIONS, "seen_us") if found.via is Via.SESSION else (TOKENS, "used_us")
        work = table.update().where(table.c.id == found.id).values({column: now_us})
        await self._database.write(lambda connection: connection.execute(work))

    async def tokens(self, owner: str | None = None) -> list[ApiToken]:
        """See the port."""
        wanted = sa.select(TOKENS).order_by(TOKENS.c.created_us, TOKENS.c.id)
        if owner is not None:
            wanted = wanted.where(TOKENS.c.owner == owner)
        return [_token(row) for row in await self._database.read(lambda c: c.execute(wanted).all())]

    async def add_token(self, token: ApiToken, digest: bytes, event: Event) -> None:
        """See the port. The user's expired ones go."""

        def work(connection: Connection) -> None:
            _owner(connection, token.owner)
            mine = TOKENS.c.owner == token.owner
            over = sa.and_(TOKENS.c.expires_us != 0, TOKENS.c.expires_us <= token.created_us)
            connection.execute(TOKENS.delete().where(mine, over))
            wanted = sa.select(sa.func.count()).select_from(TOKENS).where(mine)
            if connection.execute(wanted).scalar_one() >= MAX_TOKENS:
                raise Rejected(f"{token.owner} has {MAX_TOKENS} tokens: revoke some first")
            connection.execute(
                TOKENS.insert().values(
                    digest=digest,
                    id=token.id,
                    owner=token.owner,
                    label=token.label,
                    scopes=" ".join(sorted(token.scopes)),
                    created_us=token.created_us,
                    expires_us=token.expires_us,
                    used_us=0,
                )
            )
            queue(connection, event)

        await self._database.write(work)

    async def drop_token(self, token: str, owner: str | None, tell: Tell) -> None:
        """See the port."""
        await self._drop(TOKENS, token, owner, tell)

    async def sessions(self, owner: str) -> list[Session]:
        """See the port."""
        wanted = (
            sa.select(SESSIONS)
            .where(SESSIONS.c.owner == owner, SESSIONS.c.expires_us > self._clock.now_us())
            .order_by(SESSIONS.c.created_us.desc(), SESSIONS.c.id)
        )
        found = await self._database.read(lambda connection: connection.execute(wanted).all())
        return [
            Session(row.id, row.owner, row.method, row.created_us, row.expires_us, row.seen_us)
            for row in found
        ]

    async def add_session(self, session: Session, digest: bytes, event: Event) -> None:
        """See the port. Sessions that are over go, everybody's."""

        def work(connection: Connection) -> None:
            _owner(connection, session.owner)
            mine = SESSIONS.c.owner == session.owner
            newest = (
                sa.select(SESSIONS.c.id)
                .where(mine)
                .order_by(SESSIONS.c.seen_us.desc(), SESSIONS.c.id)
                .limit(MAX_SESSIONS - 1)
            )
            connection.execute(SESSIONS.delete().where(SESSIONS.c.expires_us <= session.created_us))
            connection.execute(SESSIONS.delete().where(mine, SESSIONS.c.id.not_in(newest)))
            connection.execute(
                SESSIONS.insert().values(
                    digest=digest,
                    id=session.id,
                    owner=session.owner,
                    method=session.method,
                    created_us=session.created_us,
                    expires_us=session.expires_us,
                    seen_us=session.seen_us,
                )
            )
            queue(connection, event)

        await self._database.write(work)

    async def drop_session(self, session: str, owner: str | None, tell: Tell) -> None:
        """See the port."""
        await self._drop(SESSIONS, session, owner, tell)

    async def _drop(self, table: sa.Table, key: str, owner: str | None, tell: Tell) -> None:
        where = [table.c.id == key] if owner is None else [table.c.id == key, table.c.owner == owner]

        def work(connection: Connection) -> None:
            whose = connection.execute(sa.select(table.c.owner).where(*where)).scalar()
            if whose is None or not connection.execute(table.delete().where(*where)).rowcount:
                raise NotFound(f"there is no {key[:40]!r}")
            queue(connection, tell(whose))

        await self._database.write(work)


def _owner(connection: Connection, name: str) -> None:
    if connection.execute(sa.select(USERS.c.name).where(USERS.c.name == name)).one_or_none() is None:
        raise NotFound(f"there is no user {name[:40]!r}")


def _find(connection: Connection, digest: bytes) -> Credential | None:
    of_owner = USERS.c.name
    session = connection.execute(
        sa.select(SESSIONS, USERS.c.role, USERS.c.active)
        .join(USERS, of_owner == SESSIONS.c.owner)
        .where(SESSIONS.c.digest == digest)
    ).one_or_none()
    if session is not None:
        return _credential(Via.SESSION, session, None, session.seen_us)
    token = connection.execute(
        sa.select(TOKENS, USERS.c.role, USERS.c.active)
        .join(USERS, of_owner == TOKENS.c.owner)
        .where(TOKENS.c.digest == digest)
    ).one_or_none()
    return None if token is None else _credential(Via.TOKEN, token, _scopes(token.scopes), token.used_us)


def _credential(via: Via, row: Row[Any], scopes: frozenset[Right] | None, used_us: int) -> Credential:
    return Credential(
        via, row.id, row.owner, Role(row.role), bool(row.active), scopes, row.expires_us, used_us
    )


def _token(row: Row[Any]) -> ApiToken:
    return ApiToken(
        row.id, row.owner, row.label, _scopes(row.scopes), row.created_us, row.expires_us, row.used_us
    )


def _scopes(text: str) -> frozenset[Right]:
    return frozenset(Right(word) for word in text.split())
