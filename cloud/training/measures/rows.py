"""Figures that count rows. Nothing is point-adjusted: an alarm counts for the row it stands at and for no other."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.windows import Floats

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows by what they were and what was said of them."""

    hit: int = 0
    false: int = 0
    missed: int = 0
    quiet: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        """Pooled."""
        return Counts(
            self.hit + other.hit,
            self.false + other.false,
            self.missed + other.missed,
            self.quiet + other.quiet,
        )

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where there is neither an anomaly nor an alarm."""
        return 2 * self.hit / max(2 * self.hit + self.false + self.missed, 1)

    @property
    def far(self) -> float:
        """Share of the normal rows that alarm; NaN where no row is normal."""
        return self.false / (self.false + self.quiet) if self.false + self.quiet else float("nan")

    @property
    def mar(self) -> float:
        """Share of the anomalous rows that do not alarm; NaN where no row is anomalous."""
        return self.missed / (self.missed + self.hit) if self.missed + self.hit else float("nan")


def count(label: Bools, alarm: Bools) -> Counts:
    """Rows of one run."""
    return Counts(
        int((alarm & label).sum()),
        int((alarm & ~label).sum()),
        int((~alarm & label).sum()),
        int((~alarm & ~label).sum()),
    )


def pooled(parts: Iterable[Counts]) -> Counts:
    """Of all runs together."""
    return sum(parts, Counts())


def average_precision(label: Bools, score: Floats) -> float:
    """Area under precision over recall as a step function; rows with the same score come together.

    An unscored row (NaN) ranks below every scored one. NaN where no row is anomalous.
    """
    if not label.any():
        return float("nan")
    ranked = np.where(np.isnan(score), -np.inf, score)
    order = np.argsort(-ranked, kind="stable")
    hits = np.cumsum(label[order])
    last = np.flatnonzero(np.append(ranked[order][1:] != ranked[order][:-1], True))  # of each level
    precision = hits[last] / (last + 1)
    recall = hits[last] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())
