"""How long readings took through each stage, as counts that fit in a row: how many, how many late, a histogram. Pure.

Stages: `device`, from the reading's own time to its arrival at the edge; `uplink`, from there to the log; `store`, from
there to the store. A backfill or an outage makes rows late, and that is no loss: lateness is told, not judged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Stage = Literal["device", "uplink", "store"]

STAGES: Final[tuple[Stage, ...]] = ("device", "uplink", "store")
BUCKETS: Final = 50
"""Bucket k counts delays of 2**(k-1) to 2**k µs, bucket 0 those of none; the last one takes all above (17 years)."""

_EXPONENT_BITS: Final = 52
_EXPONENT_BIAS: Final = 1022


@dataclass(frozen=True, slots=True)
class LateBounds:
    """From when on a row is late at a stage, in µs."""

    device_us: int = 60_000_000
    uplink_us: int = 10_000_000
    store_us: int = 10_000_000

    def of(self, stage: Stage) -> int:
        """The bound of a stage."""
        return {"device": self.device_us, "uplink": self.uplink_us, "store": self.store_us}[stage]


@dataclass(slots=True, eq=False)
class Lateness:
    """Delays of one source's readings at one stage. `counts` int64[BUCKETS]; `late` were beyond `bound_us` when stored."""

    bound_us: int
    rows: int = 0
    late: int = 0
    longest_us: int = 0
    counts: Ints = field(default_factory=lambda: np.zeros(BUCKETS, np.int64))

    def add(self, counts: Ints, late: int, longest_us: int) -> None:
        """Take what `measure` found for one source."""
        self.counts = self.counts + counts
        self.rows += int(counts.sum())
        self.late += late
        self.longest_us = max(self.longest_us, longest_us)

    def quantile_us(self, share: float) -> int:
        """A delay that `share` of the rows did not exceed: the upper edge of its bucket, so at most twice too much."""
        if not self.rows:
            return 0
        bucket = int(np.searchsorted(np.cumsum(self.counts), share * self.rows))
        return min(self.longest_us, 2**bucket if bucket else 0)


ByStage = Mapping[Stage, Lateness]


def measure(
    delay_us: Ints, starts: Ints, bound_us: int, times: Ints | None = None
) -> list[tuple[Ints, int, int]]:
    """Histogram, number late and longest delay of each of k sources, whose delays stand together from `starts` int64[k] on.

    A delay counts `times` times (once if not given); a negative one (a clock ahead) as none.
    """
    delay = np.maximum(delay_us, 0)
    # The bucket is the exponent of the number as a float, which its bits hold (IEEE 754); that of 0 is below all.
    bucket = (delay.astype(np.float64).view(np.int64) >> _EXPONENT_BITS) - _EXPONENT_BIAS
    np.clip(bucket, 0, BUCKETS - 1, out=bucket)
    sizes = np.diff(starts, append=len(delay))
    bucket += np.repeat(np.arange(len(starts)) * BUCKETS, sizes)
    counts = np.bincount(bucket, times, len(starts) * BUCKETS).astype(np.int64)
    longest = np.maximum.reduceat(delay, starts)
    late = np.zeros(len(starts), np.int64)
    if longest.max() > bound_us:
        beyond = (delay > bound_us) * (1 if times is None else times)
        late = np.add.reduceat(beyond, starts)
    return list(zip(counts.reshape(-1, BUCKETS), late.tolist(), longest.tolist(), strict=True))


Key = tuple[str, bytes]
"""Edge and epoch."""
Counted = tuple[Key, Stage, int, tuple[Ints, int, int]]
"""Whose, at which stage, the bound, and what `Lateness.add` takes."""


class Delays:
    """Delays of one write's readings, counted together: columns of one write cost little more than one frame's."""

    def __init__(self) -> None:
        self._added: dict[Key, list[tuple[Ints, Ints, int]]] = {}

    def clear(self) -> None:
        """Forget what was added."""
        self._added.clear()

    def add(self, key: Key, time_us: Ints, arrival_us: Ints, logged_us: int) -> None:
        """Readings of one record: their own times, their arrivals, and when the log took it."""
        self._added.setdefault(key, []).append((time_us, arrival_us, logged_us))

    def counted(self, bounds: LateBounds, now_us: int | None) -> list[Counted]:
        """What was added, by source and stage. `now_us` None: how long the way into the store took is not known."""
        if not self._added:
            return []
        parts = [part for parts in self._added.values() for part in parts]
        records = np.array([len(parts) for parts in self._added.values()], np.int64)
        rows = np.array([len(part[0]) for part in parts], np.int64)
        first_record = np.cumsum(records) - records
        first_row = (np.cumsum(rows) - rows)[first_record]
        time_us = np.concatenate([part[0] for part in parts])
        arrival_us = np.concatenate([part[1] for part in parts])
        logged_us = np.array([part[2] for part in parts], np.int64)
        found = self._measured("device", bounds, arrival_us - time_us, first_row)
        found += self._measured("uplink", bounds, np.repeat(logged_us, rows) - arrival_us, first_row)
        if now_us is not None:
            found += self._measured("store", bounds, now_us - logged_us, first_record, rows)
        return found

    def _measured(
        self, stage: Stage, bounds: LateBounds, delay_us: Ints, starts: Ints, times: Ints | None = None
    ) -> list[Counted]:
        bound_us = bounds.of(stage)
        found = measure(delay_us, starts, bound_us, times)
        return [(key, stage, bound_us, one) for key, one in zip(self._added, found, strict=True)]


def merged(parts: list[Lateness]) -> Lateness:
    """Several sources' delays at one stage together."""
    total = Lateness(max((part.bound_us for part in parts), default=0))
    for part in parts:
        total.add(part.counts, part.late, part.longest_us)
    return total
