"""What a telemetry store takes and tells: content, series, curves, rollups, ranges and counts, as plain values."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.eventlog import Stored
from shared.frames import Aggregates, Header, Readings, Scores
from shared.ranges import RangeSet

Ints = NDArray[np.int64]

BEGIN_US: Final = 0
END_US: Final = 2**62
MINUTE_US: Final = 60_000_000
HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US


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
class Rollups:
    """A sensor's readings by buckets [start, start + width) in order of time; only buckets with a reading.

    `start_us` is a multiple of `width_us`, `rows` counts the bucket's readings, `quality` is their worst, `last` the
    value with the greatest event time. `unit` is the sensor's newest reading's.
    """

    sensor: str
    unit: str
    width_us: int
    start_us: Ints
    rows: Ints
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    mean: NDArray[np.float64]
    last: NDArray[np.float64]
    quality: NDArray[np.uint8]


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


@dataclass(frozen=True, slots=True)
class Retention:
    """How long readings and scores, minutes and hours are kept, in µs of event time; None: for ever.

    Raises ValueError unless each of the three is kept at least as long as what it was made from.
    """

    raw_us: int | None = 30 * DAY_US
    minute_us: int | None = 400 * DAY_US
    hour_us: int | None = None

    def __post_init__(self) -> None:
        kept = [END_US if one is None else one for one in (self.raw_us, self.minute_us, self.hour_us)]
        if kept[0] <= 0 or kept != sorted(kept):
            raise ValueError("minutes must be kept as long as raw readings, hours as long as minutes")


Told = Callable[[int, int], None]
"""Hears how much is done, and of how much; in any thread."""


def untold(_done: int, _total: int, /) -> None:
    """Nobody listens."""
