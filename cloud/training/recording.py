"""A machine's rows, and the step of the grid that fits them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.errors import Rejected
from shared.windows import Bools, Floats, Ints

REASONS: Final = (
    "degraded",
    "deadband",
    "maintenance",
    "open-alarm",
    "before-failure",
    "fault",
    "sensor-fault",
    "data-fault",
    "held-back",
)
"""Why rows are not trained on. A window that two reasons hold for counts for the first."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Time [from, to] in µs whose rows are not trained on, and why: one of REASONS."""

    reason: str
    from_us: int
    to_us: int


@dataclass(frozen=True)
class Recording:
    """Rows of one machine.

    Attributes:
        times_us: int64[n], event times in µs.
        sensors: Names of the S columns.
        units: Their units, "" = unknown.
        values: float64[n, S], NaN = that sensor has no row then.
        left_out: Time whose rows are gone from here: no window that touches it is trained on.
    """

    times_us: Ints
    sensors: tuple[str, ...]
    units: tuple[str, ...]
    values: Floats
    left_out: tuple[LeftOut, ...] = ()

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.times_us), len(self.sensors)) or len(self.units) != len(
            self.sensors
        ):
            raise Rejected(
                f"{len(self.times_us)} times, {len(self.sensors)} sensors, {len(self.units)} units and values of "
                f"shape {self.values.shape} don't fit together"
            )

    @classmethod
    def from_rows(
        cls,
        sensors: Sequence[str],
        units: Sequence[str],
        sensor: npt.ArrayLike,
        time_us: npt.ArrayLike,
        value: npt.ArrayLike,
    ) -> "Recording":
        """From single readings, as a store has them: sensor int[n] (index), time_us int64[n], value float64[n]."""
        times, place = np.unique(np.asarray(time_us, dtype=np.int64), return_inverse=True)
        values = np.full((len(times), len(sensors)), np.nan)
        values[place, np.asarray(sensor, dtype=np.int64)] = np.asarray(value, dtype=np.float64)
        return cls(times, tuple(sensors), tuple(units), values)

    def without(self, left_out: Sequence[LeftOut]) -> "Recording":
        """The same without the rows of these times, which are cut to the recording's own."""
        if not len(self.times_us):
            return self
        first, last = int(self.times_us.min()), int(self.times_us.max())
        spans = tuple(
            LeftOut(one.reason, max(one.from_us, first), min(one.to_us, last))
            for one in left_out
            if one.from_us <= last and one.to_us >= first
        )
        if not spans:
            return self
        gone = _touching(self.times_us, spans, 1)
        return replace(
            self, times_us=self.times_us[~gone], values=self.values[~gone], left_out=(*self.left_out, *spans)
        )

    def touching(self, edges_us: Ints, reach_us: int) -> Bools:
        """Which windows of `reach_us`, by their right edges, touch time that is left out."""
        return _touching(edges_us, self.left_out, reach_us)

    def counted(self, step_us: int, reach_us: int) -> dict[str, int]:
        """How many windows each reason left out."""
        if not self.left_out:
            return {}
        first = min(one.from_us for one in self.left_out) // step_us
        last = max(one.to_us + reach_us for one in self.left_out) // step_us
        edges = np.arange(first, last + 1) * step_us
        taken = np.zeros(len(edges), np.bool_)
        found: dict[str, int] = {}
        for reason in REASONS:
            spans = [one for one in self.left_out if one.reason == reason]
            if spans:
                touch = _touching(edges, spans, reach_us) & ~taken
                found[reason] = int(touch.sum())
                taken |= touch
        return found


def _touching(edges_us: Ints, spans: Sequence[LeftOut], reach_us: int) -> Bools:
    """Which of int64[n] edges lie in [from, to + reach) of any span, of which there may be very many."""
    if not spans:
        return np.zeros(len(edges_us), np.bool_)
    bounds = np.array([(one.from_us, one.to_us) for one in spans], np.int64)
    bounds = bounds[np.argsort(bounds[:, 0], kind="stable")]
    until = np.maximum.accumulate(bounds[:, 1]) + reach_us
    before = np.searchsorted(bounds[:, 0], edges_us, side="right") - 1
    touch: Bools = (before >= 0) & (edges_us < until[before])
    return touch


def choose_step(recording: Recording, mask_limit: float) -> int:
    """The grid's step in µs: the usual interval that all but the `mask_limit` slowest sensors keep.

    Raises:
        Rejected: No sensor has two rows at different times.
    """
    intervals = []
    for column in recording.values.T:
        steps = np.diff(np.unique(recording.times_us[np.isfinite(column)]))
        if len(steps):
            intervals.append(float(np.median(steps)))
    if not intervals:
        raise Rejected("no sensor has two rows at different times: there is nothing to learn from")
    # Clocks jitter: the step is the interval to three digits.
    usual = sorted(intervals)[len(intervals) - 1 - int(mask_limit * len(intervals))]
    return max(int(float(f"{usual:.3g}")), 1)
