"""Figures of predicted remaining life. d = predicted - true: late predictions (d > 0) are the dangerous ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from shared.windows import Floats

EARLY: Final = (
    13.0  # cycles; Saxena et al., "Damage propagation modeling for aircraft engine run-to-failure", PHM 2008
)
LATE: Final = 10.0
LEVEL: Final = 0.9


def rmse(predicted: Floats, true: Floats) -> float:
    """Root mean squared error."""
    return float(np.sqrt(np.mean((predicted - true) ** 2)))


def phm08(predicted: Floats, true: Floats) -> float:
    """The score of the PHM 2008 challenge: a sum over units, 0 is perfect."""
    late = predicted - true
    return float(np.where(late < 0, np.expm1(-late / EARLY), np.expm1(late / LATE)).sum())


def coverage(low: Floats, high: Floats, true: Floats) -> float:
    """Share of units whose true life lies in its interval; an infinite bound is one."""
    return float(((low <= true) & (true <= high)).mean())


def winkler(low: Floats, high: Floats, true: Floats, level: float = LEVEL) -> float:
    """Mean interval score: the width, and 2 / (1 - level) for each cycle that the truth lies outside."""
    miss = np.maximum(low - true, 0) + np.maximum(true - high, 0)
    return float((high - low + 2 / (1 - level) * miss).mean())


@dataclass(frozen=True, slots=True)
class Bin:
    """Coverage of the units whose predicted life lies in [begin, end)."""

    begin: float
    end: float
    units: int
    coverage: float


def coverage_by(
    predicted: Floats, low: Floats, high: Floats, true: Floats, edges: Sequence[float]
) -> list[Bin]:
    """Coverage bin by bin of predicted life; bins without a unit are left out."""
    bins = []
    for begin, end in pairwise(edges):
        inside = (predicted >= begin) & (predicted < end)
        if inside.any():
            bins.append(Bin(begin, end, int(inside.sum()), coverage(low[inside], high[inside], true[inside])))
    return bins
