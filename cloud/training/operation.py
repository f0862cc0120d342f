"""Which operating state each cell of a history is in, by what a model or its baseline knows of set-points. Pure numpy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from cloud.training.drift import NEVER_SEEN, OFF_OR_MOVING
from shared.manifest import Manifest
from shared.windows import Floats, Ints

OFF_SHARE: Final = 0.05
WIDER: Final = 0.02  # of the largest value, beyond the range that was seen


@dataclass(frozen=True)
class Scope:
    """The set-points that were learnt of a machine.

    Attributes:
        column: The operating sensor's number, None where nobody named one: then there is one state.
        off: At or below this it is off.
        levels: float64[k, 2], low and high of each set-point, rising.
    """

    column: int | None
    off: float
    levels: Floats

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> Self:
        """What a model learnt."""
        if manifest.states is not None:
            column = manifest.sensor_names.index(manifest.states.sensor)
            return cls(column, manifest.states.off, np.array(manifest.states.levels, np.float64))
        if manifest.operating is not None:
            point = manifest.operating
            off = OFF_SHARE * point.high
            # A standstill during training is in the range; it is off all the same.
            low, high = point.low - point.below, point.high + point.above
            levels = np.array([[max(low, np.nextafter(off, np.inf)), high]])
            return cls(manifest.sensor_names.index(point.sensor), off, levels)
        return cls(None, -np.inf, np.zeros((0, 2)))

    def states(self, times_us: Ints, cells: Floats) -> Ints:
        """int64[n]: a set-point's number, OFF_OR_MOVING or NEVER_SEEN.

        A set-point counts from its second cell on; what is never seen does unless it is next to a standstill, on the
        way from or to it.
        """
        if self.column is None:
            return np.zeros(len(times_us), np.int64)
        values = cells[:, self.column]
        place = np.full(len(values), NEVER_SEEN, np.int64)
        for number, (low, high) in enumerate(self.levels.tolist()):
            place[(values >= low) & (values <= high)] = number
        place[~np.isfinite(values) | (values <= self.off)] = OFF_OR_MOVING
        settled = place.copy()
        settled[1:][(place[1:] != place[:-1]) & (place[1:] >= 0)] = OFF_OR_MOVING
        standing = np.concatenate([[OFF_OR_MOVING], place, [OFF_OR_MOVING]]) == OFF_OR_MOVING
        settled[(place == NEVER_SEEN) & (standing[:-2] | standing[2:])] = OFF_OR_MOVING
        settled[:1] = OFF_OR_MOVING
        return settled


def scope_of(names: Sequence[str], sensor: str | None, cells: Floats) -> Scope:
    """The range in which a recording ran, for a machine whose model learnt no set-points."""
    if sensor is None or sensor not in names:
        return Scope(None, -np.inf, np.zeros((0, 2)))
    column = list(names).index(sensor)
    values = cells[:, column]
    if not np.isfinite(values).any():
        return Scope(None, -np.inf, np.zeros((0, 2)))
    top = float(np.nanmax(values))
    running = values[np.isfinite(values) & (values > OFF_SHARE * top)]
    if not len(running):
        return Scope(None, -np.inf, np.zeros((0, 2)))
    low, high = float(running.min()) - WIDER * top, float(running.max()) + WIDER * top
    return Scope(column, OFF_SHARE * top, np.array([[max(low, OFF_SHARE * top), high]]))
