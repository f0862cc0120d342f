"""A machine's rows, and the step of the grid that fits them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.errors import Rejected
from shared.windows import Floats, Ints


@dataclass(frozen=True)
class Recording:
    """Rows of one machine.

    Attributes:
        times_us: int64[n], event times in µs.
        sensors: Names of the S columns.
        units: Their units, "" = unknown.
        values: float64[n, S], NaN = that sensor has no row then.
    """

    times_us: Ints
    sensors: tuple[str, ...]
    units: tuple[str, ...]
    values: Floats

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
