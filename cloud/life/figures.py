"""How a life model did on units that it had not seen, beside what age alone would have said."""

from typing import Final

import numpy as np

from cloud.life.intervals import COVERAGE, learn_intervals
from cloud.life.survival import learn_survival
from shared.windows import Bools, Floats, Ints

HALVES: Final = 2
SHARES: Final = frozenset({"coverage_90"})
"""Figures that are no times."""


def figures(
    predicted: Floats, reach: Floats, remaining: Floats, age: Floats, unit: Ints, knee: float
) -> dict[str, float]:
    """Of rows of held-out units, of which each unit's weigh 1 together.

    An interval is judged by units that it was not learnt from either: each half of the units by the other one's. So it
    stands on half of the units that the model's own intervals have, and errs to being wide.

    Returns:
        `rmse_capped` and `mae_capped` of the prediction, `floor_rmse_capped` of the median at that age; `coverage_90`, the share of
        lives that the 90 % interval held; `winkler_90`, its mean width and 20 times what it missed by (cycles, less is
        better), and `floor_winkler_90` of the interval at that age.
    """
    weight = 1 / np.bincount(unit)[unit]
    weight /= weight.sum()
    low, high, by_age, age_low, age_high = (np.zeros(len(unit)) for _ in range(5))
    half = np.unique(unit, return_inverse=True)[1] % HALVES
    for number in range(HALVES):
        mine: Bools = half == number
        others = ~mine
        learnt = learn_intervals(predicted[others], reach[others], remaining[others], unit[others], knee)
        found = learnt.of(predicted[mine], reach[mine])
        low[mine], high[mine] = found.low, found.high
        lives = (age + remaining)[others][np.unique(unit[others], return_index=True)[1]]
        survival = learn_survival(lives)
        by_age[mine] = survival.quantile(age[mine], 0.5)
        age_low[mine] = survival.quantile(age[mine], (1 - COVERAGE) / 2)
        age_high[mine] = survival.quantile(age[mine], (1 + COVERAGE) / 2)
    capped = np.minimum(remaining, knee)
    error = predicted - capped
    floor = np.minimum(by_age, knee) - capped
    held = (low <= remaining) & (remaining <= high)
    return {
        "rmse_capped": float(np.sqrt((weight * error**2).sum())),
        "mae_capped": float((weight * np.abs(error)).sum()),
        "floor_rmse_capped": float(np.sqrt((weight * floor**2).sum())),
        "coverage_90": float((weight * held).sum()),
        "winkler_90": float((weight * winkler(low, high, remaining)).sum()),
        "floor_winkler_90": float((weight * winkler(age_low, age_high, remaining)).sum()),
    }


def winkler(low: Floats, high: Floats, remaining: Floats) -> Floats:
    """float64[n], each interval's width and what it missed by, times 2 / (1 - coverage)."""
    missed = np.maximum(low - remaining, 0.0) + np.maximum(remaining - high, 0.0)
    return np.asarray(high - low + 2 / (1 - COVERAGE) * missed)
