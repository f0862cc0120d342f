"""The telemetry store's port: readings by identity, scores, events, and which rows of which edge it holds.

Identity of a reading is (machine, sensor, event time); its unit is recorded with it and is part of its value, not
of its identity, so that a sensor whose unit changes keeps one history. Content depends on the rows written and
not on their order: of several rows with one identity the highest (arrival, epoch, row) stays.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol
from urllib.parse import urlsplit

from cloud.telemetry.access import Access
from cloud.telemetry.facts import (
    BEGIN_US,
    DAY_US,
    END_US,
    HOUR_US,
    MINUTE_US,
    Columns,
    ConflictFact,
    Content,
    Counters,
    Entry,
    EventFact,
    Ints,
    Latest,
    Retention,
    Rollups,
    ScoreTrend,
    Series,
    Source,
    StoredEvent,
    StoredRanges,
    Told,
    Trend,
    WriteResult,
    untold,
)
from cloud.telemetry.lateness import ByStage, LateBounds
from shared.clock import Clock
from shared.errors import Misconfigured
from shared.frames import Aggregates, Scores

__all__ = [
    "BEGIN_US",
    "DAY_US",
    "END_US",
    "HOUR_US",
    "MINUTE_US",
    "Columns",
    "ConflictFact",
    "Content",
    "Counters",
    "Entry",
    "EventFact",
    "Ints",
    "Latest",
    "Retention",
    "Rollups",
    "ScoreTrend",
    "Series",
    "Source",
    "StoredEvent",
    "StoredRanges",
    "TelemetryReader",
    "TelemetryStore",
    "Told",
    "Trend",
    "WriteResult",
    "open_store",
    "untold",
]


class TelemetryReader(Protocol):
    """The reading side. Times are µs of event time, ranges half-open [from, to). Every method raises Unavailable."""

    async def series(self, machine: str | None = None) -> list[Series]:
        """Every sensor, by machine and name."""
        ...

    async def count(self, machine: str) -> int:
        """How many readings the machine has."""
        ...

    async def latest(self, machine: str) -> list[Latest]:
        """The newest reading of each of the machine's sensors, by sensor; none of one whose readings have all expired."""
        ...

    async def readings(
        self, machine: str, sensor: str, from_us: int, to_us: int, limit: int, *, newest: bool = False
    ) -> Columns:
        """At most `limit` readings in order of time: the range's first ones, or its last ones."""
        ...

    def columns(
        self,
        machine: str,
        sensors: Sequence[str] | None = None,
        from_us: int = BEGIN_US,
        to_us: int = END_US,
        *,
        chunk: int = 100_000,
    ) -> AsyncIterator[Columns]:
        """The history in chunks of at most `chunk` rows (at least one a sensor), ordered by time across chunks.

        A time never spans two chunks, so a chunk is a whole part of the grid's input. Sensors that the machine
        lacks give no rows; None takes all.
        """
        ...

    async def aggregates(self, machine: str, sensor: str, from_us: int, to_us: int) -> list[Aggregates]:
        """Buckets that replaced raw rows at a full edge, one item a (unit, width). Raw rows outrank them."""
        ...

    async def scores(
        self, machine: str, from_us: int, to_us: int, limit: int, *, newest: bool = False
    ) -> list[Scores]:
        """At most `limit` scored windows, one item for each model version, limit and set of sensors."""
        ...

    async def trends(
        self, machine: str, sensors: Sequence[str] | None, from_us: int, to_us: int, most: int
    ) -> list[Trend]:
        """Each sensor's curve in at most `most` points, by name; None takes all sensors, those it lacks give none.

        Made from readings where the range has at most `most` of them, else from the coarsest of readings, minutes and
        hours of which at least `most` fit between its first and its last reading. A point is then a stretch of equal
        length; a minute or an hour belongs to the point in which it starts. The range's own ends are exact: parts of
        a minute or hour there come from readings. Where readings have expired, minutes answer, and hours where those
        have; such a bucket is in the range if its start is.
        """
        ...

    async def rollups(
        self, machine: str, sensors: Sequence[str] | None, width_us: int, from_us: int, to_us: int
    ) -> list[Rollups]:
        """Each sensor's minutes (`width_us` MINUTE_US) or hours (HOUR_US) that start in the range, by name.

        None takes all sensors; those that the machine lacks give none. They are those of the readings that the store
        holds or held, whatever order, repetition or conflict they came with; a conflict that comes for a reading which
        has expired corrects nothing any more. Aggregates of a full edge are not in them. Raises ValueError (width).
        """
        ...

    async def score_trend(self, machine: str, from_us: int, to_us: int, most: int) -> ScoreTrend:
        """The machine's score in at most `most` points; windows without a score are no point."""
        ...

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
        """Events that occurred at or after `since_us`, newest first; with `after_seq` in the store's order instead.

        `before`: only those whose (time, seq) is smaller: the last one of a page leads to the page after it.
        """
        ...

    async def stored_ranges(self, edge: str | None = None) -> Mapping[Source, StoredRanges]:
        """Which rows of which edge and epoch the store holds."""
        ...

    async def counters(self) -> Mapping[Source, Counters]:
        """Duplicates, conflicts and redelivered rows of each source."""
        ...

    async def lateness(self) -> Mapping[Source, ByStage]:
        """How long each source's readings took through each stage."""
        ...

    async def conflicts(self, limit: int = 1000) -> list[ConflictFact]:
        """The newest conflicts (the store keeps the last 10,000)."""
        ...

    async def expired_us(self, machine: str) -> int:
        """The machine's readings before this event time may have expired; 0: none has."""
        ...

    async def positions(self) -> Mapping[str, Mapping[str, int]]:
        """Topic to the log position that the content covers, saved with it."""
        ...


class TelemetryStore(TelemetryReader, Protocol):
    """Reading and writing. One process writes (InfluxDB with books in PostgreSQL: any number); any number read."""

    async def write(self, entries: Sequence[Entry], /) -> WriteResult:
        """Write content, row ranges and positions in one transaction: durable on return, or nothing of it is.

        InfluxDB has no transactions: there content may show before ranges and positions hold it, and after a failure
        until the same is written again, which comes to what it would have come to at once.

        Rows of a range that is stored already change nothing, so any record may come again. If the caller is
        cancelled the write may still complete. Raises Unavailable (locked, disk full: write the same again).
        """
        ...

    async def expire(self, retention: Retention, now_us: int) -> int:
        """Remove what is kept no longer: a bounded piece of it. Returns how many rows; 0 when nothing is left to do.

        Of readings, scores, minutes and hours by event time, in whole hours; aggregates age like minutes. Machines named
        `replay-…` keep all of theirs: a recording's own times are old from the start. Row ranges, counters, positions,
        events and conflicts stay, and what has expired once stays so under a longer retention. Raises Unavailable.
        """
        ...

    def snapshot(self) -> AbstractAsyncContextManager[TelemetryReader]:
        """A reader that sees the store as it is now, whatever is written meanwhile.

        Of a store without transactions over all its content (InfluxDB) that is: positions, ranges, counts and delays of
        one moment, and no reading or event that they do not cover; a value that a conflict replaces later is not shown.
        """
        ...

    async def take_over(
        self, old: str, held: Mapping[Source, StoredRanges], *, events: bool = False, told: Told = untold
    ) -> int:
        """Copy rows of `held` that are not here, content and ranges, from the store `old`; returns how many rows.

        With `events` also events that are not here. Counts that only the old store can tell come along. Done again, it
        changes nothing. Raises Unavailable.
        """
        ...

    async def replace(self, copy: str, told: Told = untold) -> None:
        """Make this store's content that of the store `copy`: for every reader at once, or not at all. Raises Unavailable."""
        ...


@asynccontextmanager
async def open_store(
    url: str,
    *,
    read_only: bool = False,
    bounds: LateBounds | None = None,
    clock: Clock | None = None,
    access: Access | None = None,
    processes: int = 0,
) -> AsyncIterator[TelemetryStore]:
    """The store behind `url`, `sqlite:///PATH` or `influxdb://HOST:PORT/ORG/BUCKET`.

    A relative path, four slashes for an absolute one; `?tls=1` for https. InfluxDB needs a token and books in `access`.
    A writer counts delays, late ones beyond `bounds`; with a `clock` those on the way into the store too.
    A reader of SQLite may have `processes` of its own to read with, beside many other tasks of this one.

    Raises Misconfigured (unknown scheme, not a telemetry store), Unavailable (another process writes; not there yet).
    """
    match urlsplit(url).scheme:
        case "sqlite":
            from cloud.telemetry.sqlite import open_sqlite  # noqa: PLC0415 - a backend loads only when it is chosen

            path = url.removeprefix("sqlite:///")
            async with open_sqlite(
                path, read_only=read_only, bounds=bounds, clock=clock, processes=processes
            ) as store:
                yield store
        case "influxdb":
            from cloud.telemetry.influx.store import open_influx  # noqa: PLC0415 - the same

            async with open_influx(
                url, access or Access(), read_only=read_only, bounds=bounds, clock=clock
            ) as influx:
                yield influx
        case scheme:
            raise Misconfigured(
                f"no telemetry store for {scheme!r} in {url!r}",
                hint="use sqlite:///PATH or influxdb://HOST:PORT/ORG/BUCKET",
            )
