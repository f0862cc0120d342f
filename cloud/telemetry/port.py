"""The telemetry store's port: readings by identity, scores, events, and which rows of which edge it holds.

Identity of a reading is (machine, sensor, event time); its unit is recorded with it and is part of its value, not
of its identity, so that a sensor whose unit changes keeps one history. Content depends on the rows written and
not on their order: of several rows with one identity the highest (arrival, epoch, row) stays.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from cloud.telemetry.lateness import ByStage, LateBounds
from shared.clock import Clock
from shared.errors import Misconfigured
from shared.eventlog import Stored
from shared.frames import Aggregates, Header, Readings, Scores
from shared.ranges import RangeSet

Ints = NDArray[np.int64]

BEGIN_US: Final = 0
END_US: Final = 2**62
MINUTE_US: Final = 60_000_000
HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class EventFact:
    """A CloudEvent as the store keeps it: the fields it is found by, and its JSON whole."""

    id: str
    type: str
    machine: str
    occurred_us: int
    json: bytes


Content = Readings | Scores | Aggregates | EventFact


@dataclass(frozen=True, slots=True)
class Entry:
    """One log record, decoded. `header` None: no edge's rows are in it. `content` None: its rows count as rejected."""

    record: Stored
    header: Header | None
    content: Content | None


@dataclass(slots=True)
class WriteResult:
    """What one write came to, in rows. `redelivered` rows were there already under the same edge, epoch and row."""

    rows: int = 0
    duplicates: int = 0
    conflicts: int = 0
    redelivered: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """An edge's outbox: the edge's id and the epoch of the file."""

    edge: str
    epoch: bytes


@dataclass(frozen=True, slots=True)
class Series:
    """A sensor of a machine with the unit of its newest reading."""

    machine: str
    sensor: str
    unit: str


@dataclass(frozen=True, slots=True)
class Latest:
    """A sensor's newest reading by event time."""

    sensor: str
    unit: str
    time_us: int
    value: float
    quality: int
    arrival_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """n readings of one machine by (time, sensor). `sensor`, `unit` and `source` index the tuples beside them."""

    sensors: tuple[str, ...]
    units: tuple[str, ...]
    sources: tuple[Source, ...]
    sensor: Ints
    time_us: Ints
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]
    unit: Ints
    arrival_us: Ints
    source: Ints
    row: Ints

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True, slots=True, eq=False)
class Trend:
    """A sensor's curve in n points out of `rows` readings, in order of time. `unit` is the newest reading's.

    Not downsampled, a point is a reading. Downsampled, it is a bucket: `value` float64[n] its mean, `time_us` its
    last reading's, `quality` its worst, with `minimum` and `maximum`; no reading is left out.
    """

    sensor: str
    unit: str
    rows: int
    downsampled: bool
    time_us: Ints
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTrend:
    """A machine's score in n points out of `rows` scored windows, in order of time.

    Downsampled, a point is its bucket's largest score, with the time, the limit and the version of that window.
    `model` int64[n] indexes `models`: (name, version hash). `newest`: (sensor, share) of the newest scored window.
    """

    rows: int
    downsampled: bool
    time_us: Ints
    score: NDArray[np.float64]
    limit: NDArray[np.float64]
    model: Ints
    models: tuple[tuple[str, str], ...]
    newest: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event with its place in the order in which the store took it (`seq`), for readers that follow."""

    seq: int
    fact: EventFact


@dataclass(frozen=True, slots=True)
class StoredRanges:
    """Rows of one source that reached the store: `stored` as content, `rejected` as dead letters."""

    stored: RangeSet = field(default_factory=RangeSet)
    rejected: RangeSet = field(default_factory=RangeSet)


@dataclass(frozen=True, slots=True)
class Counters:
    """What the identity rule met, in rows, since the store was made."""

    duplicates: int = 0
    conflicts: int = 0
    redelivered: int = 0


@dataclass(frozen=True, slots=True)
class ConflictFact:
    """Two values for one identity: which row's value was kept and which was not."""

    machine: str
    sensor: str
    time_us: int
    kept: tuple[Source, int]
    kept_value: float
    lost: tuple[Source, int]
    lost_value: float


Told = Callable[[int, int], None]
"""Hears how much is done, and of how much; in any thread."""


def untold(_done: int, _total: int, /) -> None:
    """Nobody listens."""


class TelemetryReader(Protocol):
    """The reading side. Times are µs of event time, ranges half-open [from, to). Every method raises Unavailable."""

    async def series(self, machine: str | None = None) -> list[Series]:
        """Every sensor, by machine and name."""
        ...

    async def count(self, machine: str) -> int:
        """How many readings the machine has."""
        ...

    async def latest(self, machine: str) -> list[Latest]:
        """The newest reading of each of the machine's sensors, by sensor."""
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
        """Each sensor's curve in at most `most` points, by name; None takes all sensors, those it lacks give none."""
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

    async def positions(self) -> Mapping[str, Mapping[str, int]]:
        """Topic to the log position that the content covers, saved with it."""
        ...


class TelemetryStore(TelemetryReader, Protocol):
    """Reading and writing. One process writes; any number read."""

    async def write(self, entries: Sequence[Entry], /) -> WriteResult:
        """Write content, row ranges and positions in one transaction: durable on return, or nothing of it is.

        Rows of a range that is stored already change nothing, so any record may come again. If the caller is
        cancelled the write may still complete. Raises Unavailable (locked, disk full: write the same again).
        """
        ...

    def snapshot(self) -> AbstractAsyncContextManager[TelemetryReader]:
        """A reader that sees the store as it is now, whatever is written meanwhile."""
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
    url: str, *, read_only: bool = False, bounds: LateBounds | None = None, clock: Clock | None = None
) -> AsyncIterator[TelemetryStore]:
    """The store behind `url`: `sqlite:///PATH` (a relative path; four slashes for an absolute one).

    A writer counts delays, late ones beyond `bounds`; with a `clock` those on the way into the store too.

    Raises Misconfigured (unknown scheme, not a telemetry store), Unavailable (another process writes; not there yet).
    """
    match urlsplit(url).scheme:
        case "sqlite":
            from cloud.telemetry.sqlite import open_sqlite  # noqa: PLC0415 - a backend loads only when it is chosen

            path = url.removeprefix("sqlite:///")
            async with open_sqlite(path, read_only=read_only, bounds=bounds, clock=clock) as store:
                yield store
        case scheme:
            raise Misconfigured(f"no telemetry store for {scheme!r} in {url!r}", hint="use sqlite:///PATH")
