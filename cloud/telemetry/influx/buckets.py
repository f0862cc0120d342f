"""Minutes and hours: made from readings, and their points. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cloud.telemetry.facts import HOUR_US, MINUTE_US
from cloud.telemetry.influx.lines import cells, lines, prefix

Ints = NDArray[np.int64]

MEASUREMENTS: Final = {MINUTE_US: "rollup_1m", HOUR_US: "rollup_1h"}
FIELDS: Final = "minimum,maximum,mean,last,rows,w"
_QUALITY_BITS: Final = 2


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """n buckets of one series in order of time; `last_us` is the last reading's time. A reading alone is one too."""

    start_us: Ints
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    mean: NDArray[np.float64]
    last: NDArray[np.float64]
    rows: Ints
    quality: NDArray[np.uint8]
    last_us: Ints

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, chosen: NDArray[Any] | slice) -> "Buckets":
        """Some of them."""
        columns = (getattr(self, name)[chosen] for name in self.__slots__)
        return Buckets(*columns)


def single(time_us: Ints, value: NDArray[np.float64], quality: NDArray[np.uint8]) -> Buckets:
    """Each reading as a bucket."""
    return Buckets(time_us, value, value, value, value, np.ones(len(value), np.int64), quality, time_us)


def grouped(buckets: Buckets, place: Ints, start_us: Ints | None = None) -> Buckets:
    """Neighbours with the same place as one. `start_us`: where each begins; else where its first one does."""
    if not len(buckets):
        return buckets
    first = np.flatnonzero(np.append(True, place[1:] != place[:-1]))
    ends = np.append(first[1:], len(place))
    rows = np.add.reduceat(buckets.rows, first)
    # Weights before the sum, which may overflow where no mean does.
    mean = np.add.reduceat(buckets.mean * (buckets.rows / rows.repeat(ends - first)), first)
    minimum, maximum = (
        np.minimum.reduceat(buckets.minimum, first),
        np.maximum.reduceat(buckets.maximum, first),
    )
    return Buckets(
        (buckets.start_us if start_us is None else start_us)[first],
        minimum,
        maximum,
        np.clip(mean, minimum, maximum),  # rounding must not lead out
        buckets.last[ends - 1],
        rows,
        np.maximum.reduceat(buckets.quality, first),
        buckets.last_us[ends - 1],
    )


def by_width(readings: Buckets, width_us: int) -> Buckets:
    """The minutes or hours of readings in order of time."""
    start_us = readings.start_us // width_us * width_us
    return grouped(readings, start_us, start_us)


def joined(parts: Sequence[Buckets]) -> Buckets:
    """Several in order of time, one after another."""
    if not parts:
        none = np.zeros(0, np.int64)
        return single(none, np.zeros(0), np.zeros(0, np.uint8))
    columns = (np.concatenate([getattr(part, name) for part in parts]) for name in Buckets.__slots__)
    whole = Buckets(*columns)
    return whole.at(np.argsort(whole.start_us, kind="stable"))


def from_rows(rows: Sequence[Sequence[Any]]) -> Buckets:
    """From an answer's rows: time, then FIELDS."""
    start, minimum, maximum, mean, last, count, w = zip(*rows, strict=True) if rows else ((),) * 7
    start_us, packed = np.array(start, np.int64), np.array(w, np.int64)
    return Buckets(
        start_us,
        np.array(minimum, np.float64),
        np.array(maximum, np.float64),
        np.array(mean, np.float64),
        np.array(last, np.float64),
        np.array(count, np.int64),
        (packed & ((1 << _QUALITY_BITS) - 1)).astype(np.uint8),
        start_us + (packed >> _QUALITY_BITS),
    )


def to_lines(machine: str, sensor: str, width_us: int, buckets: Buckets) -> bytes:
    """Their points. `w`: the last reading's distance from the start in µs, and the worst quality."""
    w = (buckets.last_us - buckets.start_us << _QUALITY_BITS) | buckets.quality
    return lines(
        [
            np.full(len(buckets), prefix(MEASUREMENTS[width_us], machine=machine, sensor=sensor)),
            b" minimum=",
            cells(buckets.minimum),
            b",maximum=",
            cells(buckets.maximum),
            b",mean=",
            cells(buckets.mean),
            b",last=",
            cells(buckets.last),
            b",rows=",
            cells(buckets.rows),
            b"i,w=",
            cells(w),
            b"i ",
            cells(buckets.start_us),
            b"\n",
        ]
    )
