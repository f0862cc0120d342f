"""A database: transactions that run in threads, and SQL errors as ours.

Tables are SQLAlchemy Core: the same statements serve `sqlite:///PATH` (embedded, one writing process a file) and
`postgresql://user:password@host:port/name`. Every commit is durable when it returns.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from shared.errors import Conflict, Misconfigured, Unavailable

T = TypeVar("T")

_BUSY_SECONDS: Final = 5
_CONNECT_SECONDS: Final = 5
_STATEMENT_MS: Final = 30_000
_READ_SECONDS: Final = 10.0
_WRITE_SECONDS: Final = 30.0
_LOST_MS: Final = 15_000  # until a peer that acknowledges nothing any more counts as gone
_CONNECTIONS: Final = 4
_WRITES: Final = "industrialmind_writes"
_NO_DATABASE: Final = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


class Database:
    """Runs functions of a connection, each in one transaction and in a thread of this database's own."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self._writing = engine.execution_options(**{_WRITES: True})
        self.name = name
        """The URL without its password."""
        self._writes = ThreadPoolExecutor(1, thread_name_prefix="sql-write")
        self._reads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="sql-read")

    async def write(
        self, work: Callable[[Connection], T], *, answer_seconds: float | None = _WRITE_SECONDS
    ) -> T:
        """Run `work` in a transaction, one after another in this process; committed on return.

        Raises Unavailable (away, locked, full: nothing was written; no answer in `answer_seconds`: what had begun may
        still be written), Conflict (a constraint was violated).
        """
        return await self._answered(self._writes, self._writing, work, answer_seconds)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, in a transaction; several at once. Raises Unavailable."""
        return await self._answered(self._reads, self.engine, work, _READ_SECONDS)

    async def ping(self) -> None:
        """Return if it answers. Raises Unavailable."""
        await self.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())

    async def _answered(
        self, pool: ThreadPoolExecutor, engine: Engine, work: Callable[[Connection], T], seconds: float | None
    ) -> T:
        """A server that hangs holds its thread: who waits behind it gives up, and its work then never begins."""
        running = asyncio.get_running_loop().run_in_executor(pool, self._transaction, engine, work)
        try:
            done, _ = await asyncio.wait({running}, timeout=seconds)
            if not done:
                raise Unavailable(f"{self.name} did not answer within {seconds:g} s")
            return running.result()
        finally:
            running.cancel()

    def _transaction(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        with mapped(self.name), engine.begin() as connection:
            return work(connection)

    async def close(self) -> None:
        """Wait for what runs and close every connection."""
        for pool in (self._writes, self._reads):
            await asyncio.to_thread(pool.shutdown)
        await asyncio.to_thread(self.engine.dispose)


@asynccontextmanager
async def open_database(url: str, *, setting: str) -> AsyncIterator[Database]:
    """The database behind `url`. `setting` is named in hints.

    A SQLite file is made if it is missing, readable by its owner alone. Raises Misconfigured (unknown scheme, no such
    folder, not a database); that a server is away shows at the first transaction, as Unavailable.
    """
    database = Database(_engine(url, setting), make_url(url).render_as_string(hide_password=True))
    try:
        yield database
    finally:
        await database.close()


def _engine(url: str, setting: str) -> Engine:
    match urlsplit(url).scheme:
        case "sqlite":
            path = Path(url.removeprefix("sqlite:///"))
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch(mode=0o600)
            except OSError as error:
                raise Misconfigured(
                    f"can't write {path}: {error.strerror}",
                    hint=f"check the folder of {setting} and its rights",
                ) from error
            engine = create_engine(
                url,
                poolclass=QueuePool,
                pool_size=_CONNECTIONS + 1,
                max_overflow=0,
                connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
            )
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        case "postgresql":
            try:
                return create_engine(
                    make_url(url).set(drivername="postgresql+psycopg"),
                    pool_size=_CONNECTIONS + 1,
                    max_overflow=0,
                    pool_pre_ping=True,
                    connect_args={
                        "connect_timeout": _CONNECT_SECONDS,
                        "options": f"-c statement_timeout={_STATEMENT_MS}",
                        "tcp_user_timeout": _LOST_MS,
                    },
                )
            except ArgumentError as error:
                raise Misconfigured(
                    f"{setting}: {error}", hint="use postgresql://USER:PASSWORD@HOST:PORT/NAME"
                ) from error
        case scheme:
            raise Misconfigured(
                f"{setting}: no database for {scheme!r}",
                hint="use sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME",
            )


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:  # noqa: ANN401 - SQLAlchemy's hook
    connection.isolation_level = None  # SQLAlchemy's BEGIN is sent by `_begin_sqlite`, also before DDL
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and then writes is refused at once if somebody else wrote in between, whatever the
    # time-out: a writer takes its place in the queue at the start.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def mapped(name: str) -> Iterator[None]:
    """SQL errors as ours: what can be waited out is Unavailable, a violated constraint Conflict; others are bugs."""
    try:
        yield
    except IntegrityError as error:
        raise Conflict(f"{name}: {error.orig}") from error
    except OperationalError as error:
        if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _NO_DATABASE:
            raise Misconfigured(
                f"{name}: {error.orig}", hint="move the file away: a new one is made"
            ) from error
        raise Unavailable(f"{name}: {error.orig}") from error
    except PoolTimeoutError as error:
        raise Unavailable(f"{name}: every connection is busy") from error
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.DatabaseError) and (
            getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _NO_DATABASE
        ):
            raise Misconfigured(
                f"{name}: {error.orig}", hint="move the file away: a new one is made"
            ) from error
        if error.connection_invalidated:
            raise Unavailable(f"{name}: {error.orig}") from error
        raise
