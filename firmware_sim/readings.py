"""Recordings: readings of one machine on common times, from a simulator or from somebody's CSV file."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_sim.episodes import Kind


@dataclass(frozen=True, slots=True)
class Label:
    """Ground truth: what happened to `machine` from `onset_us` to `end_us`.

    `severity` is in multiples of sigma. `sensors` are accepted as the leading one; empty for look-alikes.
    """

    machine: str
    kind: Kind
    name: str
    severity: float
    onset_us: int
    end_us: int
    sensors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """Readings on common times.

    Attributes:
        times_us: Event times (n,), ascending, each once, in µs since the epoch.
        sensors: Ids of the S columns, in order.
        values: (n, S); NaN where there is no reading.
        labels: Ground truth, for simulated recordings.
        units: Unit of each column.
        columns: Name of each column in its file.
        fit_rows: How many rows at the front are known healthy; 0 if unknown.
        notes: What was left out on reading, in sentences for people.
    """

    times_us: NDArray[np.int64]
    sensors: tuple[str, ...]
    values: NDArray[np.float64]
    labels: tuple[Label, ...] = ()
    units: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    fit_rows: int = 0
    notes: tuple[str, ...] = ()

    @property
    def readings(self) -> int:
        """How many readings there are: the cells that are not empty."""
        return int(np.count_nonzero(~np.isnan(self.values)))
