"""The telemetry store on InfluxDB 2.7: readings and scores as points there, the books in SQL beside it."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cloud.telemetry.access import Access
from cloud.telemetry.influx.client import InfluxClient, Place, open_client
from cloud.telemetry.influx.opening import check_buckets, make_buckets
from cloud.telemetry.influx.reader import InfluxReader
from cloud.telemetry.influx.retention import expire
from cloud.telemetry.influx.rollups import Maker
from cloud.telemetry.influx.snapshot import InfluxSnapshot, take
from cloud.telemetry.influx.writer import Writer
from cloud.telemetry.lateness import LateBounds
from cloud.telemetry.port import (
    Entry,
    Retention,
    Source,
    StoredRanges,
    TelemetryReader,
    Told,
    WriteResult,
    untold,
)
from cloud.telemetry.sql import migrations, tables
from shared.clock import Clock, SystemClock
from shared.errors import Misconfigured, Unavailable
from shared.sqlalchemy import Database, migrate, open_database

_BOOKS: Final = "telemetry_books_url"
_STEPS: Final = Path(migrations.__file__).parent


class InfluxStore(InfluxReader):
    """The store; without a writer it refuses to write."""

    def __init__(
        self,
        client: InfluxClient,
        books: Database,
        writing: tuple[Writer, Maker] | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(client, books)
        self._writing = writing
        self._clock = clock or SystemClock()

    async def write(self, entries: Sequence[Entry], /) -> WriteResult:
        """See the port."""
        writer, _ = self._written()
        return await writer.write(entries)

    async def expire(self, retention: Retention, now_us: int) -> int:
        """See the port. All of it at once; the server removes it a shard at a time."""
        _, maker = self._written()
        return await expire(self._client, self._books, maker, self._clock, retention, now_us)

    async def make_rollups(self) -> int:
        """Make the rollups of every hour that waits for it now; returns how many hours."""
        _, maker = self._written()
        return await maker.make_all()

    async def take_over(
        self, old: str, held: Mapping[Source, StoredRanges], *, events: bool = False, told: Told = untold
    ) -> int:
        """Not here: see `replace`."""
        del held, events, told
        raise _no_copies(old)

    async def replace(self, copy: str, told: Told = untold) -> None:
        """Not here: a bucket can't be replaced by another at once."""
        del told
        raise _no_copies(copy)

    def _written(self) -> tuple[Writer, Maker]:
        if self._writing is None:
            raise Misconfigured("the telemetry store is open for reading", hint="only ingest writes it")
        return self._writing

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[TelemetryReader]:
        """See the port."""
        yield InfluxSnapshot(self._client, self._books, await self._books.read(take))


def _no_copies(url: str) -> Misconfigured:
    return Misconfigured(
        f"a telemetry store on InfluxDB is not rebuilt from a copy such as {urlsplit(url).scheme}:",
        hint="name a new bucket and new books in ingest's settings: it fills them from the log by itself",
    )


@asynccontextmanager
async def open_influx(
    url: str, access: Access, *, read_only: bool, bounds: LateBounds | None, clock: Clock | None
) -> AsyncIterator[InfluxStore]:
    """Open the bucket and its books; a writer makes what is missing. Raises Unavailable, Misconfigured (see `open_store`)."""
    place = Place.of(url)
    if not access.books_url:
        raise Misconfigured(
            f"{url} needs books beside it: no {_BOOKS}",
            hint=f"set {_BOOKS} to sqlite:///PATH (one process of ingest) or postgresql://USER:PASSWORD@HOST:PORT/NAME",
        )
    async with AsyncExitStack() as stack:
        if read_only:
            _made(access.books_url)
        else:
            stack.enter_context(_only_writer(access.books_url))
        books = await stack.enter_async_context(open_database(access.books_url, setting=_BOOKS))
        client = await stack.enter_async_context(open_client(place, access.token))
        if read_only:
            await check_buckets(client)
            await books.read(tables.check)
            yield InfluxStore(client, books)
            return
        await make_buckets(client)
        await migrate(books, "telemetry", _STEPS)
        writer = Writer(client, books, bounds or LateBounds(), clock)
        maker = Maker(client, books, clock or SystemClock())
        stack.push_async_callback(writer.close)
        making = asyncio.create_task(maker.run(), name="rollups")
        try:
            yield InfluxStore(client, books, (writer, maker), clock)
        finally:
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)


def _made(books_url: str) -> None:
    """Reading makes no file. Raises Unavailable."""
    if urlsplit(books_url).scheme == "sqlite" and not Path(books_url.removeprefix("sqlite:///")).exists():
        raise Unavailable(f"the telemetry store's books {books_url} are not there yet: `ingest` makes them")


@contextmanager
def _only_writer(books_url: str) -> Iterator[None]:
    """Books in a file have one writing process; the system frees the lock when it dies. Those of a server have any number."""
    parts = urlsplit(books_url)
    if parts.scheme != "sqlite":
        yield
        return
    path = Path(books_url.removeprefix("sqlite:///"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Misconfigured(
            f"can't write beside {path}: {error.strerror}",
            hint=f"check the folder of {_BOOKS} and its rights",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise Unavailable(f"another process writes the telemetry store's books {path}") from error
    else:
        yield
    finally:
        os.close(handle)
