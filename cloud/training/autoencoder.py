"""What an autoencoder is judged by: what its code says of a sensor against what the sensor says. Only numpy.

A window has two features a sensor, its level and its restlessness (`cloud.training.pca`). Each is expected from the
*other* sensors alone: linearly from their features, and from the code that the network makes of their cells. The
linear part takes what is proportional, the code what is bent (a pump's flow, head and power go with the first, second
and third power of its speed), and a shift of one sensor can't be copied through, because its own cells are left out.

What is left over is judged sensor by sensor: how much of it a fault of that sensor would explain, its reconstruction-
based contribution (Alcala and Qin, Automatica 45 (2009)), in standard deviations. The score is their fourth-power sum:
close to the largest, whose top value in health is small and so is the limit, while a plain sum would hide a small fault
among many sensors; and more than the largest where a fault shows on several.

- The readout from the code is ridge regression in closed form: gradient descent finds the code, not the last decimals.
- Left-overs are measured forward in time, each block of the training part by a readout of the earlier ones only, and the
  code is used for a feature only where that made the left-overs clearly smaller: what only fits the past is left away.
- The network hears only sensors that come back to where they were. One that wanders (weather) is a coordinate to
  extrapolate along, not to interpolate, and stays with the linear part.
- Columns are put in an order, and signs, of the data's own: the order and the units of sensors don't matter.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from cloud.training import pca
from shared.errors import Rejected
from shared.windows import Cells, Ints

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

LONGER: Final = 2  # windows, in window PCA's: a network follows a machine through a longer one
WINDOWS: Final = 3000  # of the training part, evenly spaced: neighbours share all but one cell
SENSORS_MAX: Final = 64  # the network runs once a sensor, without that sensor
BLOCKS: Final = 8
FORWARD: Final = 4  # the first block whose left-overs are measured by a readout of the earlier ones
RIDGE_LINEAR: Final = 1e-4  # of a feature's variance
RIDGE_CODE: Final = 1e-2
GAIN: Final = 0.8  # the code is used where it brings the left-overs below so much of the linear ones
WANDERS: Final = (
    0.5  # of a sensor's total spread, the spread of its blocks' means: above, the network does not hear it
)
OUTLIVES: Final = 4.0  # weight of the wander between blocks, as in window PCA
FLOOR: Final = 0.02  # of the median eigenvalue: no combination of left-overs is trusted to be quieter
TAIL: Final = 0.999  # the quantile that a feature's tail is measured at
TAIL_NORMAL: Final = 3.29  # a normal's, of its absolute value
QUIET: Final = 0.3  # of white noise's feature: no left-over is trusted to be quieter
BEYOND: Final = 0.001  # share of training cells beyond which the network's inputs are held
GRAIN: Final = 1024.0  # inputs of training are whole multiples of 1/1024, so that rounding can't steer it
_TINY: Final = 1e-9


@dataclass(frozen=True)
class Inputs:
    """How standardised cells enter the network: times `gain` (sign and width), held between `low` and `high`; [S] each."""

    gain: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Readout:
    """What each feature is expected to be: f @ linear + code . curved + base; own features have no weight.

    Attributes:
        linear: [2S, 2S].
        curved: [S, H, 2], of each sensor's own code (made without it): level, restlessness.
        base: [2S].
        mean: [2S], stands in for a feature that the window does not show, before it is itself expected.
    """

    linear: Floats
    curved: Floats
    base: Floats
    mean: Floats

    def expect(self, table: Floats, codes: Floats) -> Floats:
        """float64[n, 2S] expected features of float64[n, 2S] features without NaN and float64[n, S, H] codes."""
        bent = np.einsum("nsh,sho->nos", codes, self.curved).reshape(len(table), -1)
        expected: Floats = table @ self.linear + self.base + bent
        return expected


@dataclass(frozen=True)
class Judge:
    """How left-overs are judged; all in standardised left-overs z = (left-over - mean) * inverse.

    Attributes:
        mean: [2S].
        inverse: [2S], 0 where a feature is not judged.
        phi: [2S, 2S], inverse of their covariance.
        directions: [2S, 2S], column j is what a unit of feature j does to z.
        power: [2S], 1 / (direction' phi direction), less where a tail is heavy, 0 where not judged.
    """

    mean: Floats
    inverse: Floats
    phi: Floats
    directions: Floats
    power: Floats


def arrange(cells: Cells, rows: int) -> tuple[Cells, Ints]:
    """The cells with their columns in an order that the first `rows` cells alone decide, and that order."""
    scale = pca.fit_scale(cells.cells[:rows])
    standard = (cells.cells[:rows] - scale.centre) * scale.inverse
    size = np.nanmean(np.abs(np.where(np.isnan(standard).all(axis=0), 0.0, standard)), axis=0)
    order = np.argsort(size, kind="stable").astype(np.int64)
    names = tuple(cells.spec.sensors[index] for index in order.tolist())
    return replace(cells, spec=replace(cells.spec, sensors=names), cells=cells.cells[:, order]), order


def fit_inputs(scale: pca.Scale, cells: Floats) -> Inputs:
    """Of float64[n, S] training cells in order of time."""
    standard = np.clip((cells - scale.centre) * scale.inverse, -pca.CLIP, pca.CLIP)
    standard = np.where(np.isnan(standard).all(axis=0), 0.0, standard)
    width = np.maximum(np.nanstd(standard, axis=0), 1.0)
    filled = np.nan_to_num(standard)
    blocks = np.array([block.mean(axis=0) for block in np.array_split(filled, BLOCKS)])
    heard = blocks.std(axis=0) <= WANDERS * width
    # A mirrored sensor must enter as the same sensor: its longer tail points up.
    sign = np.where((np.clip(filled / width, -4, 4) ** 3).mean(axis=0) < 0, -1.0, 1.0)
    gain = np.where(heard, sign / width, 0.0)
    low, high = np.nanquantile(standard * gain, [BEYOND, 1 - BEYOND], axis=0)
    return Inputs(gain, low, high)


def fit_readout(table: Floats, codes: Floats) -> tuple[Readout, Floats]:
    """The readout from float64[n, 2S] features (no NaN) and float64[n, S, H] codes in order of time.

    Returns:
        The readout, and the left-overs forward in time, float64[m, 2S] of the last m windows.
    """
    both = table.shape[1]
    sensors = both // 2
    edges = np.linspace(0, len(table), BLOCKS + 1).astype(int)
    linear, base = np.zeros((both, both)), np.zeros(both)
    curved = np.zeros((sensors, codes.shape[2], 2))
    left = np.zeros((len(table) - edges[FORWARD], both))
    for sensor in range(sensors):
        own = np.array([sensor, sensors + sensor])
        others = np.setdiff1d(np.arange(both), own)
        plain, target = table[:, others], table[:, own]
        bent = np.concatenate([plain, codes[:, sensor]], axis=1)
        penalty = np.full(bent.shape[1], RIDGE_CODE)
        penalty[: len(others)] = RIDGE_LINEAR
        straight = _forward(plain, target, penalty[: len(others)], edges)
        curve = _forward(bent, target, penalty, edges)
        use = np.sqrt((curve**2).mean(axis=0)) < GAIN * np.sqrt((straight**2).mean(axis=0))
        weights, base[own] = ridge(plain, target, penalty[: len(others)])
        weights = np.concatenate([weights, np.zeros((codes.shape[2], 2))])
        if use.any():
            full, offset = ridge(bent, target, penalty)
            weights, base[own] = np.where(use, full, weights), np.where(use, offset, base[own])
        linear[np.ix_(others, own)] = weights[: len(others)]
        curved[sensor] = weights[len(others) :]
        left[:, own] = np.where(use, curve, straight)
    return Readout(linear, curved, base, table.mean(axis=0)), left


def _forward(inputs: Floats, target: Floats, penalty: Floats, edges: Ints) -> Floats:
    parts = []
    for number in range(FORWARD, BLOCKS):
        weights, base = ridge(inputs[: edges[number]], target[: edges[number]], penalty)
        now = slice(edges[number], edges[number + 1])
        parts.append(target[now] - inputs[now] @ weights - base)
    return np.concatenate(parts)


def ridge(inputs: Floats, target: Floats, penalty: Floats) -> tuple[Floats, Floats]:
    """Ridge regression on standardised inputs, Hoerl and Kennard, Technometrics 12 (1970)."""
    mean, spread = inputs.mean(axis=0), inputs.std(axis=0)
    inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > _TINY)
    standard = (inputs - mean) * inverse
    aim = target.mean(axis=0)
    gram = standard.T @ standard / len(standard) + np.diag(penalty)
    weights = np.linalg.solve(gram, standard.T @ (target - aim) / len(standard)) * inverse[:, None]
    return weights, aim - mean @ weights


def explained(judge: Judge, left: Floats) -> Floats:
    """float64[n, S] how much of float64[n, 2S] left-overs a fault of each sensor would explain, in variances."""
    each = ((left - judge.mean) * judge.inverse @ judge.phi @ judge.directions) ** 2 * judge.power
    half = each.shape[1] // 2
    sensors: Floats = each[:, :half] + each[:, half:]
    return sensors


def fit_judge(readout: Readout, left: Floats, window: int) -> Judge:
    """From float64[m, 2S] left-overs forward in time.

    Raises:
        Rejected: Nothing in the training part moves, so that nothing can be learnt.
    """
    both = left.shape[1]
    sensors = both // 2
    spread = left.std(axis=0)
    judged = spread > _TINY
    if not judged.any():
        raise Rejected("no sensor moves in the training rows: there is nothing to learn")
    # White noise has a level of 1 / sqrt(W); the mean of W squared steps varies by about sqrt(3 / W).
    quiet = QUIET * np.repeat([1.0, np.sqrt(3.0)], sensors) / np.sqrt(window)
    inverse = np.where(judged, 1.0 / np.maximum(spread, quiet), 0.0)
    mean = left.mean(axis=0)
    standard = ((left - mean) * inverse)[:, judged]
    # The mean of all is taken out, that of the blocks is not: what wanders counts for less.
    wander = np.array([block.mean(axis=0) for block in np.array_split(standard, BLOCKS - FORWARD)])
    covariance = standard.T @ standard / len(standard) + OUTLIVES * (wander.T @ wander) / len(wander)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, FLOOR * np.median(values))
    phi = np.zeros((both, both))
    phi[np.ix_(judged, judged)] = (vectors / values) @ vectors.T
    directions = inverse[:, None] * (np.eye(both) - readout.linear.T)
    own = (directions * (phi @ directions)).sum(axis=0)
    power = np.divide(1.0, own, out=np.zeros(both), where=judged & (own > _TINY**2))
    # One heavy-tailed feature must not set the limit for all: what often lies far out counts for less.
    each = np.abs(((left - mean) * inverse) @ phi @ directions) * np.sqrt(power)
    power /= np.maximum(np.quantile(each, TAIL, axis=0) / TAIL_NORMAL, 1.0) ** 2
    return Judge(mean, inverse, phi, directions, power)


def filled_features(scale: pca.Scale, cells: Cells, ends: Ints) -> Floats:
    """float64[n, 2S] features of the windows that end at the cells `ends`; what is silent has its column's mean."""
    table = pca.features_of(scale, cells, ends)
    silent = np.isnan(table).all(axis=0)
    usual = np.nanmean(np.where(silent, 0.0, table), axis=0)
    return np.where(np.isnan(table), usual, table)


def targets(table: Floats, most: float) -> Singles:
    """float32[n, S, 2] for the network: what the linear part leaves of each feature, in spreads, in whole grains."""
    sensors = table.shape[1] // 2
    made = np.zeros((len(table), sensors, 2))
    for sensor in range(sensors):
        own = np.array([sensor, sensors + sensor])
        others = np.setdiff1d(np.arange(2 * sensors), own)
        weights, base = ridge(table[:, others], table[:, own], np.full(len(others), RIDGE_LINEAR))
        left = table[:, own] - table[:, others] @ weights - base
        spread = left.std(axis=0)
        made[:, sensor] = np.divide(left, spread, out=np.zeros_like(left), where=spread > _TINY)
    return np.asarray(np.round(np.clip(made, -most, most) * GRAIN) / GRAIN, dtype=np.float32)
