"""The embedded telemetry store: one SQLite file in WAL mode, written by one process, read by any number.

SQLite runs in a thread of its own, so that a commit's wait for the disk never holds the event loop. The writer
holds a lock on `PATH.lock`; a second one gets Unavailable and no chance to write.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Concatenate, Final, ParamSpec, TypeVar

from cloud.telemetry import sqlite_expired as expired
from cloud.telemetry import sqlite_read as read
from cloud.telemetry import sqlite_rebuild as rebuild
from cloud.telemetry import sqlite_rollup_read as rollup_read
from cloud.telemetry import sqlite_scored as scored
from cloud.telemetry import sqlite_trend as trend
from cloud.telemetry.lateness import ByStage, LateBounds
from cloud.telemetry.port import (
    BEGIN_US,
    END_US,
    Columns,
    ConflictFact,
    Counters,
    Entry,
    Latest,
    Retention,
    Rollups,
    ScoreTrend,
    Series,
    Source,
    StoredEvent,
    StoredRanges,
    TelemetryReader,
    Told,
    Trend,
    WriteResult,
    untold,
)
from cloud.telemetry.sqlite_processes import NoReader, Readers, reader_processes
from cloud.telemetry.sqlite_schema import connect_reader, connect_writer, mapped
from cloud.telemetry.sqlite_worker import in_one_state
from cloud.telemetry.sqlite_write import Writer, transaction
from shared.clock import Clock
from shared.errors import Misconfigured, Unavailable
from shared.frames import Aggregates, Scores

READERS: Final = 3
"""Connections of a reader: a query that walks a month must not hold up all others."""

P = ParamSpec("P")
T = TypeVar("T")


def path_of(url: str) -> Path:
    """The file of `sqlite:///PATH`."""
    return Path(url.removeprefix("sqlite:///"))


class SqliteReader:
    """Queries, each on one of the connections, at most as many at a time as there are: one a thread."""

    def __init__(
        self,
        path: Path,
        connections: Sequence[sqlite3.Connection],
        threads: ThreadPoolExecutor,
        processes: Readers | None = None,
    ) -> None:
        self._path = path
        self._processes = processes
        self._threads = threads
        self._connections = tuple(connections)
        self._free: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for connection in self._connections:
            self._free.put(connection)

    async def _run(
        self, call: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """In a process if there is one, else in a thread."""
        if self._processes is not None:
            with mapped(self._path), suppress(NoReader):
                found: T = await self._processes.ask(call, *args, **kwargs)
                return found
        return await self._work(lambda db: in_one_state(db, call, *args, **kwargs))

    async def _work(self, call: Callable[[sqlite3.Connection], T]) -> T:
        def work() -> T:
            db = self._free.get()
            try:
                with mapped(self._path):
                    return call(db)
            finally:
                self._free.put(db)

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def series(self, machine: str | None = None) -> list[Series]:
        """See the port."""
        return await self._run(read.series, machine)

    async def count(self, machine: str) -> int:
        """See the port."""
        return await self._run(read.count, machine)

    async def latest(self, machine: str) -> list[Latest]:
        """See the port."""
        return await self._run(read.latest, machine)

    async def readings(
        self, machine: str, sensor: str, from_us: int, to_us: int, limit: int, *, newest: bool = False
    ) -> Columns:
        """See the port."""
        return await self._run(read.readings, machine, sensor, from_us, to_us, limit, newest=newest)

    async def columns(
        self,
        machine: str,
        sensors: Sequence[str] | None = None,
        from_us: int = BEGIN_US,
        to_us: int = END_US,
        *,
        chunk: int = 100_000,
    ) -> AsyncIterator[Columns]:
        """See the port."""
        names = [name for _, name in await self._run(read.sensor_ids, machine, sensors)]
        at: int | None = from_us if names else None
        while at is not None:
            part, at = await self._run(read.chunk, machine, names, at, to_us, chunk)
            if len(part):
                yield part

    async def aggregates(self, machine: str, sensor: str, from_us: int, to_us: int) -> list[Aggregates]:
        """See the port."""
        return await self._run(read.aggregates, machine, sensor, from_us, to_us)

    async def scores(
        self, machine: str, from_us: int, to_us: int, limit: int, *, newest: bool = False
    ) -> list[Scores]:
        """See the port."""
        return await self._run(read.scores, machine, from_us, to_us, limit, newest=newest)

    async def trends(
        self, machine: str, sensors: Sequence[str] | None, from_us: int, to_us: int, most: int
    ) -> list[Trend]:
        """See the port."""
        return await self._run(trend.trends, machine, sensors, from_us, to_us, most)

    async def rollups(
        self, machine: str, sensors: Sequence[str] | None, width_us: int, from_us: int, to_us: int
    ) -> list[Rollups]:
        """See the port."""
        return await self._run(rollup_read.rollups, machine, sensors, width_us, from_us, to_us)

    async def score_trend(self, machine: str, from_us: int, to_us: int, most: int) -> ScoreTrend:
        """See the port."""
        return await self._run(scored.score_trend, machine, from_us, to_us, most)

    async def events(
        self,
        machine: str | None = None,
        types: Sequence[str] = (),
        since_us: int = BEGIN_US,
        limit: int = 1000,
        *,
        after_seq: int | None = None,
        before: tuple[int, int] | None = None,
    ) -> list[StoredEvent]:
        """See the port."""
        return await self._run(
            read.events, machine, types, since_us, limit, after_seq=after_seq, before=before
        )

    async def stored_ranges(self, edge: str | None = None) -> Mapping[Source, StoredRanges]:
        """See the port."""
        return await self._run(read.stored_ranges, edge)

    async def counters(self) -> Mapping[Source, Counters]:
        """See the port."""
        return await self._run(read.counters)

    async def lateness(self) -> Mapping[Source, ByStage]:
        """See the port."""
        return await self._run(read.lateness)

    async def conflicts(self, limit: int = 1000) -> list[ConflictFact]:
        """See the port."""
        return await self._run(read.conflicts, limit)

    async def expired_us(self, machine: str) -> int:
        """See the port."""
        return (await self._run(expired.expired, machine)).raw_us

    async def positions(self) -> Mapping[str, Mapping[str, int]]:
        """See the port."""
        return await self._run(read.positions)


class SqliteStore(SqliteReader):
    """The store; without a writer it refuses to write."""

    def __init__(
        self,
        path: Path,
        connections: Sequence[sqlite3.Connection],
        threads: ThreadPoolExecutor,
        writer: Writer | None,
        clock: Clock | None = None,
        processes: Readers | None = None,
    ) -> None:
        super().__init__(path, connections, threads, processes)
        self._writer = writer
        self._clock = clock

    async def write(self, entries: Sequence[Entry], /) -> WriteResult:
        """See the port."""
        writer, clock = self._written(), self._clock
        return await self._work(lambda _: writer.write(entries, clock.now_us() if clock else None))

    async def expire(self, retention: Retention, now_us: int) -> int:
        """See the port."""
        self._written()

        def work(db: sqlite3.Connection) -> int:
            with transaction(db):
                return expired.expire(db, retention, now_us)

        return await self._work(work)

    async def take_over(
        self, old: str, held: Mapping[Source, StoredRanges], *, events: bool = False, told: Told = untold
    ) -> int:
        """See the port."""
        writer = self._written()

        def work(db: sqlite3.Connection) -> int:
            try:
                return rebuild.take_over(db, path_of(old), held, events=events, told=told)
            finally:
                writer.forget()

        return await self._work(work)

    async def replace(self, copy: str, told: Told = untold) -> None:
        """See the port."""
        writer = self._written()

        def work(db: sqlite3.Connection) -> None:
            try:
                rebuild.replace(db, path_of(copy), told)
            finally:
                writer.forget()

        await self._work(work)

    def _written(self) -> Writer:
        if self._writer is None:
            raise Misconfigured(
                f"telemetry store {self._path} is open for reading", hint="only ingest writes it"
            )
        return self._writer

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[TelemetryReader]:
        """A reader inside one read transaction. While it is open the WAL can't be folded into the file."""
        async with _thread() as thread:
            connection = await _connect(thread, connect_reader, self._path)
            reader = SqliteReader(self._path, [connection], thread)
            try:
                # BEGIN alone takes no snapshot: the first read does.
                await reader._work(lambda db: db.execute("BEGIN"))  # noqa: SLF001 - own class
                await reader.positions()
                yield reader
            finally:
                thread.submit(connection.close)


@asynccontextmanager
async def open_sqlite(
    path: str | Path,
    *,
    read_only: bool,
    bounds: LateBounds | None = None,
    clock: Clock | None = None,
    processes: int = 0,
) -> AsyncIterator[SqliteStore]:
    """Open or make the file at `path`. Raises Unavailable, Misconfigured (see `open_store`)."""
    place = Path(path)
    async with _thread(READERS if read_only else 1) as thread:
        if read_only:
            connections: list[sqlite3.Connection] = []
            try:
                while len(connections) < READERS:
                    connections.append(await _connect(thread, connect_reader, place))
                async with reader_processes(place, processes) as readers:
                    yield SqliteStore(
                        place, connections, thread, None, processes=readers if processes else None
                    )
            finally:
                await asyncio.to_thread(_close, connections, thread)
        else:
            with _only_writer(place):
                connection = await _connect(thread, connect_writer, place)
                try:
                    writer = Writer(connection, bounds or LateBounds())
                    yield SqliteStore(place, [connection], thread, writer, clock)
                finally:
                    # The lock is given back only after the last write ended.
                    await asyncio.wrap_future(thread.submit(connection.close))


def _close(connections: Sequence[sqlite3.Connection], threads: ThreadPoolExecutor) -> None:
    threads.shutdown()
    for connection in connections:
        connection.close()


async def _connect(
    thread: ThreadPoolExecutor, connect: Callable[[Path], sqlite3.Connection], path: Path
) -> sqlite3.Connection:
    return await asyncio.get_running_loop().run_in_executor(thread, connect, path)


@asynccontextmanager
async def _thread(count: int = 1) -> AsyncIterator[ThreadPoolExecutor]:
    """A thread for each connection; what they have begun ends before the block does."""
    thread = ThreadPoolExecutor(max_workers=count, thread_name_prefix="telemetry")
    try:
        yield thread
    finally:
        await asyncio.to_thread(thread.shutdown)


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Hold the writer's lock; the system frees it when the process dies, however it dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Misconfigured(
            f"can't write beside {path}: {error.strerror}", hint="check the store's folder and its rights"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise Unavailable(f"another process writes the telemetry store {path}") from error
    try:
        yield
    finally:
        os.close(handle)
