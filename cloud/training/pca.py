"""Window PCA: what the first model learns from a window, and how. Only numpy.

Features of a window, two a sensor: its level (mean of the cells) and its restlessness (log of the mean squared step
between neighbouring cells: a stuck sensor has none, a rattling one much). Both are judged together by T² (Hotelling)
and Q (squared prediction error) in the combined index of Yue and Qin, "Reconstruction-based fault identification
using a combined index", Ind. Eng. Chem. Res. 40 (2001); contributions are reconstruction-based, Alcala and Qin,
Automatica 45 (2009).

Two choices make it see small faults under large duty cycles:

- Cells are measured in units of the sensor's own noise (its usual step from cell to cell), not of its total spread.
  What the duty cycle does then fills a few large components, and Q is about noise alone.
- The covariance is that of deviations seen forward in time: each block of the training part against the mean of all
  earlier blocks, with the wander of the blocks' means weighted up, because a model outlives its training part. A
  level that drifts in health thereby counts for less than one that stands still.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.errors import Rejected
from shared.windows import Cells, Ints

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CLIP: Final = 1e5  # cells further than so many noise widths are as bad as these; keeps every score finite
REST: Final = 0.01  # of the usual mean squared step: below that a sensor is as good as stuck
BLOCKS: Final = 8
OUTLIVES: Final = 4.0  # weight of the wander between blocks: variance of a random walk grows with its length
COMPONENT: Final = 3.0  # T² has the components whose variance is above so many times the median one
WINSOR: Final = 0.005
NOISE_SHARE: Final = 0.01  # of the total spread: no sensor is trusted to be quieter
RESIDUAL_FLOOR: Final = (
    1e-4  # of a noise width's square: exact copies of a sensor must not make Q a noise meter
)
TINY: Final = 1e-9
_NORMAL: Final = 1.4826  # standard deviation of a normal over its median deviation


@dataclass(frozen=True)
class Scale:
    """Centre and noise of each sensor's cells, from the training part. `inverse` is 0 where a sensor never moved."""

    centre: Floats  # [S]
    inverse: Floats  # [S], 1 / noise
    step: Floats  # [S], 1 / usual mean squared step between standardised neighbours


@dataclass(frozen=True)
class WindowPca:
    """The fitted model. The score is sqrt((f - mean) phi (f - mean)'), with standardised features f.

    Attributes:
        scale: Centre and noise of cells.
        mean: [2S], of the features: S levels, then S restlessnesses.
        inverse: [2S], 1 / noise of each feature, 0 where it never moved.
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
    """Centre and noise of float64[n, S] cells in order of time, NaN = empty.

    A sensor's noise is its median step from cell to cell, in terms of a normal's standard deviation. Sensors that
    mostly stand still have their root mean square step instead. A sensor that never moves is not judged: what it
    would do in health was never seen.
    """
    filled = _without_silent(cells)
    centre = np.nanmedian(filled, axis=0)
    low, high = np.nanquantile(filled, [WINSOR, 1 - WINSOR], axis=0)
    total = np.maximum(
        np.nanstd(np.clip(filled, low, high), axis=0), _NORMAL * np.nanmedian(np.abs(filled - centre), axis=0)
    )
    # What is far below the largest excursion is rounding, not movement.
    reach = np.nanmax(np.abs(filled - centre), axis=0)
    total = np.where(total > TINY * reach, total, np.nanstd(filled, axis=0))
    moves = np.greater(total, TINY * np.nanmax(np.abs(filled), axis=0))
    steps = _without_silent(np.abs(np.diff(filled, axis=0)))
    noise = _NORMAL * np.nanmedian(steps, axis=0) / np.sqrt(2)
    noise = np.where(noise > TINY * reach, noise, np.sqrt(_winsorised_mean(steps**2, reach) / 2))
    spread = np.clip(noise, NOISE_SHARE * total, total)
    inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=moves)
    usual = _winsorised_mean((steps * inverse) ** 2, reach * inverse)
    return Scale(centre, inverse, np.divide(1.0, usual, out=np.zeros_like(usual), where=usual > TINY))


def _winsorised_mean(squares: Floats, reach: Floats) -> Floats:
    """Mean of each column without the weight of its largest half per cent; the plain one if only those count."""
    capped: Floats = np.nanmean(np.minimum(squares, np.nanquantile(squares, 1 - WINSOR, axis=0)), axis=0)
    return np.where(capped > (TINY * reach) ** 2, capped, np.nanmean(squares, axis=0))


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


def fit_pca(scale: Scale, table: Floats, window: int) -> WindowPca:
    """Fit T² and Q on float64[n, 2S] features in order of time.

    Raises:
        Rejected: Nothing in the training part moves, so that nothing can be learnt.
    """
    filled = _without_silent(table)
    mean = np.nanmean(filled, axis=0)
    spread = np.nanstd(filled, axis=0)
    judged = spread > TINY
    if not judged.any():
        raise Rejected("no sensor moves in the training rows: there is nothing to learn")
    inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=judged)
    # A level in units of its own noise: that of a mean of W cells.
    levels = len(mean) // 2
    inverse[:levels] = np.where(judged[:levels], np.sqrt(window), 0.0)
    standard = np.where(np.isnan(table), 0.0, (filled - mean) * inverse)[:, judged]
    values, vectors = np.linalg.eigh(_forward_covariance(standard))
    values, vectors = values[::-1], vectors[:, ::-1]
    size = len(values)
    count = min(max(int((values > COMPONENT * np.median(values)).sum()), 1), size)
    main = vectors[:, :count]
    # Each over its mean in training: T²'s is the number of components, Q's the sum of the other eigenvalues.
    phi = (main / values[:count]) @ main.T / count
    if count < size:
        residual = max(float(values[count:].sum()), RESIDUAL_FLOOR * (size - count))
        phi = phi + (np.eye(size) - main @ main.T) / residual
    whole = np.zeros((len(mean), len(mean)))
    whole[np.ix_(judged, judged)] = (phi + phi.T) / 2
    return WindowPca(scale, mean, inverse, whole, count)


def _forward_covariance(standard: Floats) -> Floats:
    blocks = np.array_split(standard, BLOCKS)
    sums = np.cumsum([block.sum(axis=0) for block in blocks], axis=0)
    sizes = np.cumsum([len(block) for block in blocks])
    pasts = sums[:-1] / np.maximum(sizes[:-1], 1)[:, None]
    moved = [block - past for block, past in zip(blocks[1:], pasts, strict=True) if len(block)]
    inside = np.concatenate(moved)
    wander = np.array([block.mean(axis=0) for block in moved])
    covariance: Floats = inside.T @ inside / len(inside) + OUTLIVES * (wander.T @ wander) / len(wander)
    return covariance


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
