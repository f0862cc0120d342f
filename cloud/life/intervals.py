"""Intervals by what held-out units showed: conformal, local in predicted life, each end on its own.

Each end leaves out half of 1 - coverage. Errors of units that the trees did not see are weighed by how near their
predicted life is, so that the width follows it without bins' edges. Where the upper end among capped lives reaches
the knee, capped lives say nothing of it: it then comes from uncapped ones, relative to what age alone says.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.life.survival import Survival
from shared.windows import Bools, Floats, Ints

COVERAGE: Final = 0.9
NEIGHBOURS: Final = 0.15  # of the held-out weight: how many of the nearest are heard
TIE: Final = 0.02  # of the knee: predictions nearer than that are alike
BLOCK: Final = 512


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
        relative: float64[m], the truth over the survivors' upper quantile at that age.
        weight: float64[m], each unit's rows together weigh 1.
        units: How many units.
        knee: Of the target; infinite = none.
        survival: Lives of units that failed.
    """

    predicted: Floats
    remaining: Floats
    relative: Floats
    weight: Floats
    units: int
    knee: float
    survival: Survival

    def of(self, predicted: Floats, age: Floats) -> Interval:
        """The interval about each prediction at that age."""
        parts = [
            self._block(predicted[at : at + BLOCK], age[at : at + BLOCK])
            for at in range(0, len(predicted), BLOCK)
        ]
        return Interval(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def _block(self, predicted: Floats, age: Floats) -> tuple[Floats, Floats, Bools]:
        weights = self._weights(predicted)
        # With so few units the level is a little higher: one more unit could be the worst (Vovk's correction).
        level = min(1.0, (1 + COVERAGE) / 2 * (self.units + 1) / self.units)
        error = self.remaining - self.predicted
        capped = np.minimum(self.remaining, self.knee) - self.predicted
        low = predicted + _quantile(error, weights, 1 - level)
        high = predicted + _quantile(capped, weights, level)
        open_ended = high >= self.knee * (1 - TIE)
        if open_ended.any():
            reach = _quantile(self.relative, weights[open_ended], level)
            beyond = reach * self.survival.quantile(age[open_ended], (1 + COVERAGE) / 2)
            high[open_ended] = np.maximum(beyond, self.knee)
        low = np.clip(low, 0.0, predicted)
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
    predicted: Floats, remaining: Floats, age: Floats, unit: Ints, knee: float, survival: Survival
) -> Intervals:
    """From predictions by trees that had not seen the row's unit."""
    usual = survival.quantile(age, (1 + COVERAGE) / 2)
    weight = 1 / np.bincount(unit)[unit]
    order = np.lexsort((remaining, predicted))
    return Intervals(
        predicted[order],
        remaining[order],
        (remaining / np.maximum(usual, 1e-9))[order],
        weight[order],
        len(np.unique(unit)),
        knee,
        survival,
    )


def _quantile(values: Floats, weights: Floats, level: float) -> Floats:
    """float64[n], of `values` [m] under each row of `weights` [n, m]."""
    order = np.argsort(values, kind="stable")
    sums = np.cumsum(weights[:, order], axis=1)
    share = sums / sums[:, -1:]
    place = (share >= level - 1e-12).argmax(axis=1)
    return np.asarray(values[order][place])
