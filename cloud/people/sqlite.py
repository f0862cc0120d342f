"""What is kept about people in SQLite: `app.db`, written by the cloud process alone, readable by its owner alone."""

import asyncio
import secrets
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from cloud.people.logic import CODE_BYTES, LIFE_US, MAX_OPEN, LoginLink, digest
from shared.clock import Clock
from shared.errors import Misconfigured, NotFound, Unavailable

SCHEMA_VERSION: Final = 1
SCHEMA: Final = """
CREATE TABLE login_links (digest BLOB PRIMARY KEY, expires_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""
_BUSY_MS: Final = 5_000
_NO_DATABASE: Final = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


class SqliteLoginLinks:
    """See the port. A link that was used is gone, so nothing can use it twice."""

    def __init__(self, path: Path, connection: sqlite3.Connection, clock: Clock) -> None:
        self._path = path
        self._db = connection
        self._clock = clock
        self._one_by_one = asyncio.Lock()

    async def make(self) -> LoginLink:
        """See the port. Expired links go, and of too many open ones those that expire first."""
        link = LoginLink(secrets.token_urlsafe(CODE_BYTES), self._clock.now_us() + LIFE_US)
        async with self._one_by_one:
            await asyncio.to_thread(self._insert, link)
        return link

    async def redeem(self, code: str) -> None:
        """See the port."""
        async with self._one_by_one:
            if not await asyncio.to_thread(self._delete, digest(code)):
                raise NotFound("this login link was used, has expired, or never was")

    def _insert(self, link: LoginLink) -> None:
        with _mapped(self._path), self._db:
            self._db.execute("DELETE FROM login_links WHERE expires_us <= ?", (self._clock.now_us(),))
            self._db.execute(
                "DELETE FROM login_links WHERE digest NOT IN"
                " (SELECT digest FROM login_links ORDER BY expires_us DESC LIMIT ?)",
                (MAX_OPEN - 1,),
            )
            self._db.execute("INSERT INTO login_links VALUES (?, ?)", (digest(link.code), link.expires_us))

    def _delete(self, key: bytes) -> bool:
        with _mapped(self._path), self._db:
            done = self._db.execute(
                "DELETE FROM login_links WHERE digest = ? AND expires_us > ?", (key, self._clock.now_us())
            )
        return done.rowcount == 1


@asynccontextmanager
async def open_sqlite(path: str | Path, clock: Clock) -> AsyncIterator[SqliteLoginLinks]:
    """Open or make the file. Raises Misconfigured (not such a file, a later release's), Unavailable."""
    place = Path(path)
    connection = await asyncio.to_thread(_connect, place)
    try:
        yield SqliteLoginLinks(place, connection, clock)
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise Misconfigured(
            f"can't write {path}: {error.strerror}", hint="check the folder of api.app_url and its rights"
        ) from error
    with _mapped(path):
        connection = sqlite3.connect(path, check_same_thread=False)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Make the table if it is missing. Every commit is on the disk when it returns."""
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    elif version != SCHEMA_VERSION:
        raise Misconfigured(
            f"{path} has schema {version}, this release {SCHEMA_VERSION}",
            hint="use the release that wrote it, or give api.app_url another file",
        )


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    """SQLite's errors as ours: what can be waited out is Unavailable."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NO_DATABASE:
            raise Misconfigured(f"{path}: {error}", hint="move the file away: a new one is made") from error
        raise Unavailable(f"{path}: {error}") from error
