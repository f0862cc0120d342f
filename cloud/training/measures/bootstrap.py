"""Intervals of a figure, by drawing runs or engines with replacement: rows of one run are not independent."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np

T = TypeVar("T")

DRAWS: Final = 1000
LEVEL: Final = 0.9


def interval(
    parts: Sequence[T], figure: Callable[[Sequence[T]], float], *, seed: int = 0, draws: int = DRAWS
) -> tuple[float, float]:
    """The 90 % percentile interval of `figure` over whole parts; (NaN, NaN) for fewer than two parts."""
    if len(parts) < 2:  # noqa: PLR2004 - one run has no spread
        return float("nan"), float("nan")
    random = np.random.default_rng([seed, 11])
    picks = random.integers(len(parts), size=(draws, len(parts)))
    figures = [figure([parts[at] for at in pick]) for pick in picks.tolist()]
    low, high = np.nanquantile(figures, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
