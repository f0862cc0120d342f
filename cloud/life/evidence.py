"""Whether a unit looks like those that failed: far from all of them there is not enough evidence for a figure."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from shared.windows import Bools, Floats, Ints

SHRINK: Final = (
    0.1  # of each feature's variance: directions that hardly varied in training count no more than that
)
MARGIN: Final = 1.5  # over the farthest unit that was held out
SILENT: Final = 0.5  # of the features: with more of them missing nothing can be said


@dataclass(frozen=True)
class Evidence:
    """Mahalanobis distance in standardised features, shrunk.

    Attributes:
        centre: float64[F].
        inverse: float64[F], 1 over each feature's spread; 0 = it never moved.
        root: float64[F, F], whose squared length is the distance.
        limit: Largest distance that counts as seen.
    """

    centre: Floats
    inverse: Floats
    root: Floats
    limit: float

    def distance(self, features: Floats) -> Floats:
        """float64[n]; a missing feature is taken for usual."""
        standard = (features - self.centre) * self.inverse
        standard[~np.isfinite(standard)] = 0.0
        return np.asarray(np.sqrt(((standard @ self.root) ** 2).mean(axis=1)))

    def enough(self, features: Floats) -> Bools:
        """bool[n]."""
        silent = np.isnan(features).mean(axis=1)
        return np.asarray((self.distance(features) <= self.limit) & (silent <= SILENT))


def learn_evidence(features: Floats, fold: Ints) -> Evidence:
    """From rows of units that failed; the limit comes from units of folds that were left out in turn."""
    farthest = 0.0
    for number in np.unique(fold):
        seen, held = features[fold != number], features[fold == number]
        if len(seen):
            farthest = max(farthest, float(_learn(seen, np.inf).distance(held).max()))
    return _learn(features, MARGIN * farthest if farthest > 0 else np.inf)


def _learn(features: Floats, limit: float) -> Evidence:
    count = np.maximum(np.isfinite(features).sum(axis=0), 1)
    known = np.where(np.isfinite(features), features, 0.0)
    centre = known.sum(axis=0) / count
    deviation = np.where(np.isfinite(features), features - centre, 0.0)
    spread = np.sqrt((deviation**2).sum(axis=0) / count)
    inverse = np.divide(1.0, spread, out=np.zeros(len(spread)), where=spread > 0)
    standard = deviation * inverse
    covariance = standard.T @ standard / len(standard)
    covariance = (1 - SHRINK) * covariance + SHRINK * np.eye(len(spread))
    values, vectors = np.linalg.eigh(covariance)
    return Evidence(centre, inverse, np.asarray(vectors / np.sqrt(values)), limit)
