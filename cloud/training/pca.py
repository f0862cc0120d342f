"""Window PCA: what the first model learns from a window, and how. Only numpy.

Features of a window, two a sensor: its level (mean of the standardised cells) and its restlessness (log of the mean
squared step between neighbouring cells: a stuck sensor has none, a rattling one much). Both are judged together by
T² (Hotelling) and Q (squared prediction error) in the combined index of Yue and Qin, "Reconstruction-based fault
identification using a combined index", Ind. Eng. Chem. Res. 40 (2001); contributions are reconstruction-based,
Alcala and Qin, Automatica 45 (2009).

The covariance is that of deviations seen forward in time: each block of the training part against the mean of all
earlier blocks. A level that drifts in health thereby counts for less than one that stands still.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.errors import Rejected
from shared.windows import Cells, Ints

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CLIP: Final = 1000.0  # standardised cells beyond are as bad as these; keeps every score finite
REST: Final = 0.05  # of the usual mean squared step: below that a sensor is as good as stuck
BLOCKS: Final = 8
VARIANCE: Final = 0.9  # share of the variance that T² judges; Q has the rest
WINSOR: Final = 0.005
RESIDUAL_FLOOR: Final = (
    1e-4  # of a feature's variance: exact copies of a sensor must not make Q a noise meter
)
TINY: Final = 1e-9


@dataclass(frozen=True)
class Scale:
    """Centre and spread of each sensor's cells, from the training part. `inverse` is 0 where a sensor never moved."""

    centre: Floats  # [S]
    inverse: Floats  # [S], 1 / spread
    step: Floats  # [S], 1 / usual mean squared step between standardised neighbours


@dataclass(frozen=True)
class WindowPca:
    """The fitted model. The score is sqrt((f - mean) phi (f - mean)'), with standardised features f.

    Attributes:
        scale: Standardisation of cells.
        mean: [2S], of the features: S levels, then S restlessnesses.
        inverse: [2S], 1 / spread of each feature, 0 where it never moved.
        phi: [2S, 2S], T² and Q as one quadratic form, each over its mean in training.
        components: How many principal components T² has.
    """

    scale: Scale
    mean: Floats
    inverse: Floats
    phi: Floats
    components: int

    @property
    def diagonal(self) -> Floats:
        """1 / diagonal of phi, 0 where a feature is not judged."""
        own = np.diag(self.phi)
        return np.divide(1.0, own, out=np.zeros_like(own), where=own > 0)


def fit_scale(cells: Floats) -> Scale:
    """Centre and spread of float64[n, S] cells, NaN = empty.

    The spread is the larger of the winsorised standard deviation (a few wild cells don't widen it) and the scaled
    median deviation. A sensor without any spread is not judged: what it would do in health was never seen.
    """
    filled = _without_silent(cells)
    centre = np.nanmedian(filled, axis=0)
    low, high = np.nanquantile(filled, [WINSOR, 1 - WINSOR], axis=0)
    spread = np.maximum(
        np.nanstd(np.clip(filled, low, high), axis=0), 1.4826 * np.nanmedian(np.abs(filled - centre), axis=0)
    )
    # A step that a sensor makes in fewer than 1 % of its cells is still a spread.
    spread = np.where(spread > 0, spread, np.nanstd(filled, axis=0))
    moves: Bools = np.greater(spread, TINY * np.nanmax(np.abs(filled), axis=0))
    inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=moves)
    squared = np.diff((filled - centre) * inverse, axis=0) ** 2
    squared = _without_silent(squared)
    usual: Floats = np.nanmean(np.minimum(squared, np.nanquantile(squared, 1 - WINSOR, axis=0)), axis=0)
    usual = np.where(usual > TINY, usual, np.nanmean(squared, axis=0))
    return Scale(centre, inverse, np.divide(1.0, usual, out=np.zeros_like(usual), where=usual > TINY))


def _without_silent(table: Floats) -> Floats:
    """Columns that are all NaN become 0, so that column statistics have something to say."""
    silent = np.broadcast_to(np.isnan(table).all(axis=0), table.shape)
    return np.where(silent, 0.0, table)


def features(scale: Scale, windows: Floats) -> Floats:
    """float64[n, 2S] features of float64[n, W, S] windows; NaN where a sensor was silent. The graph does the same."""
    there = ~np.isnan(windows)
    centred = np.where(there, windows, scale.centre) - scale.centre
    # Through float32, as in the graph: what the edge computes must be what was trained on.
    standard = np.clip(centred * scale.inverse, -CLIP, CLIP).astype(np.float32).astype(np.float64)
    count = there.sum(axis=1)
    level = np.where(count > 0, standard.sum(axis=1) / np.maximum(count, 1), np.nan)
    both = there[:, 1:] & there[:, :-1]
    pairs = both.sum(axis=1)
    step = (np.diff(standard, axis=1) ** 2 * both).sum(axis=1) / np.maximum(pairs, 1)
    rest = np.where(pairs > 0, np.log(step * scale.step + REST), np.nan)
    return np.concatenate([level, rest], axis=1)


def features_of(scale: Scale, cells: Cells, ends: Ints, *, chunk: int = 2048) -> Floats:
    """Features of the windows that end at the cells numbered `ends`."""
    parts = [
        features(scale, cells.gather(ends[begin : begin + chunk]).values)
        for begin in range(0, len(ends), chunk)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, 2 * len(cells.spec.sensors)))


def fit_pca(scale: Scale, table: Floats) -> WindowPca:
    """Fit T² and Q on float64[n, 2S] features in order of time.

    Raises:
        Rejected: Nothing in the training part moves, so that nothing can be learnt.
    """
    mean = np.nanmean(_without_silent(table), axis=0)
    deviations = _forward_deviations(np.where(np.isnan(table), mean, table))
    spread = np.sqrt((deviations**2).mean(axis=0))
    judged = spread > TINY
    if not judged.any():
        raise Rejected("no sensor moves in the training rows: there is nothing to learn")
    inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=judged)
    standard = deviations[:, judged] * inverse[judged]
    values, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
    values, vectors = values[::-1], vectors[:, ::-1]
    size = len(values)
    count = min(int(np.searchsorted(np.cumsum(values) / values.sum(), VARIANCE)) + 1, size)
    main = vectors[:, :count]
    # Each over its mean in training: T²'s is the number of components, Q's the sum of the other eigenvalues.
    phi = (main / values[:count]) @ main.T / count
    if count < size:
        residual = max(float(values[count:].sum()), RESIDUAL_FLOOR * (size - count))
        phi = phi + (np.eye(size) - main @ main.T) / residual
    whole = np.zeros((len(mean), len(mean)))
    whole[np.ix_(judged, judged)] = (phi + phi.T) / 2
    return WindowPca(scale, mean, inverse, whole, count)


def _forward_deviations(table: Floats) -> Floats:
    blocks = np.array_split(table, min(BLOCKS, max(len(table) // 2, 1)))
    if len(blocks) == 1:
        alone: Floats = table - table.mean(axis=0)
        return alone
    past = np.cumsum([block.sum(axis=0) for block in blocks], axis=0)
    sizes = np.cumsum([len(block) for block in blocks])
    deviations: Floats = np.concatenate([block - past[i] / sizes[i] for i, block in enumerate(blocks[1:])])
    return deviations


def standardise(model: WindowPca, table: Floats) -> Floats:
    """Standardised features, 0 where a sensor was silent."""
    return np.where(np.isnan(table), 0.0, (table - model.mean) * model.inverse)


def score_features(model: WindowPca, table: Floats) -> Floats:
    """float64[n] scores of float64[n, 2S] features: 1 is usual, 0 exactly the mean."""
    standard = standardise(model, table)
    form: Floats = ((standard @ model.phi) * standard).sum(axis=1)
    return np.sqrt(np.maximum(form, 0.0))


def contributions(model: WindowPca, table: Floats) -> Floats:
    """float64[n, S] reconstruction-based contributions: not negative, sum 1, all 0 where nothing deviates."""
    pull = standardise(model, table) @ model.phi
    each = pull**2 * model.diagonal
    sensors = each[:, : each.shape[1] // 2] + each[:, each.shape[1] // 2 :]
    total = sensors.sum(axis=1, keepdims=True)
    shares: Floats = np.zeros_like(sensors)
    np.divide(sensors, total, out=shares, where=total > 0)
    return shares
