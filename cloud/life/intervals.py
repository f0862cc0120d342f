"""Intervals by what held-out units showed: conformal, local in predicted life, each end on its own.

The lower end leaves out half of 1 - coverage, or less where it is cut at 0: what it does not leave out the upper end
may, or intervals near failure would hold too much. Errors of units that the trees did not see are weighed by how near their
predicted life is, so that the width follows it without bins' edges. Where the upper end among capped lives reaches
the knee, capped lives say nothing of it: it then comes from uncapped ones, as a multiple of how far trees of the
uncapped upper quantile reach.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from shared.windows import Bools, Floats, Ints

COVERAGE: Final = 0.9
NEIGHBOURS: Final = 0.15  # of the held-out weight: how many of the nearest are heard
TIE: Final = 0.02  # of the knee: predictions nearer than that are alike
BLOCK: Final = 512
LEAST: Final = 1e-9  # cycles
REVISION: Final = 2  # of how ends are found: part of the configuration's hash


@dataclass(frozen=True)
class Interval:
    """Ends for each row; `open_ended` = read as "more than the knee"."""

    low: Floats
    high: Floats
    open_ended: Bools


@dataclass(frozen=True)
class Intervals:
    """Held-out predictions beside the truth.

    Attributes:
        predicted: float64[m], ascending.
        remaining: float64[m], the truth, uncapped.
        relative: float64[m], the truth over the reach that was told of it.
        weight: float64[m], each unit's rows together weigh 1.
        units: How many units.
        knee: Of the target; infinite = none.
    """

    predicted: Floats
    remaining: Floats
    relative: Floats
    weight: Floats
    units: int
    knee: float

    def of(self, predicted: Floats, reach: Floats, coverage: float = COVERAGE) -> Interval:
        """The interval about each prediction that reaches so far."""
        parts = [
            self._block(predicted[at : at + BLOCK], reach[at : at + BLOCK], coverage)
            for at in range(0, len(predicted), BLOCK)
        ]
        return Interval(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def median(self, predicted: Floats) -> Floats:
        """float64[n], half of the units that looked so had more left; never beyond the knee."""
        error = np.minimum(self.remaining, self.knee) - self.predicted
        median = predicted + _quantile(error, self._weights(predicted), np.full(len(predicted), 0.5))
        return np.asarray(np.clip(median, 0.0, self.knee))

    def _block(self, predicted: Floats, reach: Floats, coverage: float) -> tuple[Floats, Floats, Bools]:
        weights = self._weights(predicted)
        # With so few units the level is a little higher: one more unit could be the worst (Vovk's correction).
        more = (self.units + 1) / self.units
        side = (1 - coverage) / 2
        most = np.full(len(predicted), min(1.0, (1 - side) * more))
        error = self.remaining - self.predicted
        capped = np.minimum(self.remaining, self.knee) - self.predicted
        low = np.clip(predicted + _quantile(error, weights, 1 - most), 0.0, predicted)
        # Counted in lives, not in errors: none is below 0, however far the neighbours' errors reach.
        below = (weights * (self.remaining < low[:, None])).sum(axis=1) / weights.sum(axis=1)
        level = np.minimum(1.0, (coverage + np.minimum(below, side)) * more)
        high = predicted + _quantile(capped, weights, level)
        # Whether wear shows is no matter of what the lower end spends.
        open_ended = predicted + _quantile(capped, weights, most) >= self.knee * (1 - TIE)
        if open_ended.any():
            beyond = reach[open_ended] * _quantile(self.relative, weights[open_ended], level[open_ended])
            high[open_ended] = np.maximum(beyond, self.knee)
        return low, np.maximum(high, predicted), open_ended

    def _weights(self, predicted: Floats) -> Floats:
        """float64[n, m]: a triangle about each prediction that reaches so many of the nearest."""
        distance = np.abs(self.predicted - predicted[:, None])
        order = np.argsort(distance, axis=1, kind="stable")
        nearest = np.cumsum(self.weight[order], axis=1) >= NEIGHBOURS * self.weight.sum()
        reach = np.take_along_axis(distance, order, axis=1)[np.arange(len(predicted)), nearest.argmax(axis=1)]
        scale = self.knee if np.isfinite(self.knee) else float(self.predicted.max())
        reach = np.maximum(2 * reach, TIE * max(scale, 1e-9))
        return np.asarray(np.maximum(1 - distance / reach[:, None], 0.0) * self.weight)


def learn_intervals(
    predicted: Floats, reach: Floats, remaining: Floats, unit: Ints, knee: float
) -> Intervals:
    """From what trees said that had not seen the row's unit: its life, and how far it reaches at most."""
    weight = 1 / np.bincount(unit)[unit]
    order = np.lexsort((remaining, predicted))
    return Intervals(
        predicted[order],
        remaining[order],
        (remaining / np.maximum(reach, LEAST))[order],
        weight[order],
        len(np.unique(unit)),
        knee,
    )


def _quantile(values: Floats, weights: Floats, level: Floats) -> Floats:
    """float64[n], of `values` [m] under each row of `weights` [n, m], at that row's `level` [n]."""
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weights[:, order], axis=1)
    share = sums / sums[:, -1:]
    place = (share >= level[:, None] - 1e-12).argmax(axis=1)
    return np.asarray(values[order][place])
