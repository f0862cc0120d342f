"""What each sensor is expected to be from the others at one operating state, and how far off it is. Pure numpy.

Ridge regression on the other sensors, and on the square of the operating sensor (a pump's power bends with its speed).
Others have no square: what moves in health beyond what was seen, as the weather does, would be bent without end. Drift
is judged on what is left over, because a machine's duty moves every sensor and means nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np

from cloud.training.limits import decorrelation_steps
from shared.windows import Bools, Floats, Ints

RIDGE: Final = 1e-3  # of a standardised feature's variance
FOLDS: Final = 4
BLOCK_MIN: Final = 4  # cells
BLOCKS_MIN: Final = 8  # fewer blocks say nothing of how they vary
_TINY: Final = 1e-12


@dataclass(frozen=True)
class Weights:
    """The readout of one sensor. [P] means and spreads of the features, [P] weights, and the base."""

    mean: Floats
    inverse: Floats
    weights: Floats
    base: float

    @classmethod
    def fit(cls, features: Floats, target: Floats) -> Self:
        """Of float64[n, P] features and float64[n] targets, all finite."""
        mean, spread = features.mean(axis=0), features.std(axis=0)
        inverse = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > _TINY * (1 + np.abs(mean)))
        standard = (features - mean) * inverse
        gram = standard.T @ standard + RIDGE * len(standard) * np.eye(standard.shape[1])
        base = float(target.mean())
        return cls(mean, inverse, np.linalg.solve(gram, standard.T @ (target - base)), base)

    def expect(self, features: Floats) -> Floats:
        """float64[n]."""
        found: Floats = (features - self.mean) * self.inverse @ self.weights + self.base
        return found


@dataclass(frozen=True)
class Expected:
    """One sensor at one state, learnt from a reference.

    Attributes:
        sensor: Its number.
        left_out: The sensors that it is not expected from: itself, and who else is under suspicion.
        bent: The operating sensor's number and its middle, for the square; None where there is none.
        weights: The readout; None where the sensor is judged by its level alone.
        spread: Standard deviation of what is left over, cell by cell: the sensor's own noise and what is not known.
        block: Cells in a block: the time after which left-overs know nothing of each other.
        mean: Of the reference's block means.
        deviation: Their standard deviation.
        blocks: How many there were.
    """

    sensor: int
    left_out: tuple[int, ...]
    bent: tuple[int, float] | None
    weights: Weights | None
    spread: float
    block: int
    mean: float
    deviation: float
    blocks: int

    def left_over(self, cells: Floats) -> Floats:
        """float64[n] of float64[n, S] cells, NaN where a sensor was silent."""
        own = cells[:, self.sensor]
        if self.weights is None:
            return own
        return own - self.weights.expect(_table(cells, self.left_out, self.bent))


def _table(cells: Floats, left_out: Sequence[int], bent: tuple[int, float] | None) -> Floats:
    others = np.delete(cells, list(left_out), axis=1)
    if bent is None or bent[0] in left_out:
        return others
    return np.concatenate([others, (cells[:, [bent[0]]] - bent[1]) ** 2], axis=1)


def learn(
    cells: Floats, sensor: int, left_out: Sequence[int], *, operating: int | None = None, level: bool = False
) -> Expected | None:
    """What a reference float64[n, S] of one state says of a sensor; None where it is too little, or never moved.

    Left-overs of the reference come from readouts that did not see them, a fold each, so that they are as large as new
    ones will be. With `level`, or where no other sensor is left, the sensor itself is judged.
    """
    gone = tuple(sorted({sensor, *left_out}))
    if level or len(gone) == cells.shape[1]:
        return _judged(sensor, gone, None, None, cells[np.isfinite(cells[:, sensor]), sensor])
    bent = None if operating is None else (operating, float(np.nanmedian(cells[:, operating])))
    table, target = _table(cells, gone, bent), cells[:, sensor]
    whole = np.isfinite(table).all(axis=1) & np.isfinite(target)
    table, target = table[whole], target[whole]
    if len(table) < max(4 * table.shape[1], FOLDS * BLOCKS_MIN):
        return None
    left = np.empty(len(table))
    for part in np.array_split(np.arange(len(table)), FOLDS):
        seen = np.ones(len(table), np.bool_)
        seen[part] = False
        left[part] = target[part] - Weights.fit(table[seen], target[seen]).expect(table[part])
    return _judged(sensor, gone, bent, Weights.fit(table, target), left)


def _judged(
    sensor: int, gone: tuple[int, ...], bent: tuple[int, float] | None, weights: Weights | None, left: Floats
) -> Expected | None:
    if len(left) < BLOCKS_MIN * BLOCK_MIN:
        return None
    spread = float(left.std())
    if spread <= _TINY * (1 + float(np.abs(left).max())):
        return None
    block = min(max(round(decorrelation_steps(left)), BLOCK_MIN), len(left) // BLOCKS_MIN)
    means = block_means(left, block)
    return Expected(
        sensor, gone, bent, weights, spread, block, float(means.mean()), float(means.std(ddof=1)), len(means)
    )


def block_means(left: Floats, block: int) -> Floats:
    """Means of whole blocks of the finite values, in order."""
    finite = left[np.isfinite(left)]
    count = len(finite) // block
    means: Floats = finite[: count * block].reshape(count, block).mean(axis=1)
    return means


@dataclass(frozen=True)
class History:
    """Cells of one machine at a coarse step, in order of time.

    Attributes:
        times_us: int64[n], right edges.
        cells: float64[n, S], NaN = silent.
        state: int64[n], which learnt state a cell is in; -1 off or on the way, -2 a state never seen.
    """

    times_us: Ints
    cells: Floats
    state: Ints

    def part(self, chosen: Bools) -> "History":
        """Some of its cells."""
        return History(self.times_us[chosen], self.cells[chosen], self.state[chosen])

    def since(self, time_us: int) -> "History":
        """Those after a time."""
        return self.part(self.times_us > time_us)


@dataclass
class Reference:
    """A machine's baseline: what is expected at each state. Readouts that leave more sensors out are made when asked for.

    `operating` is the operating sensor's number, None where nobody named one.
    """

    history: History
    operating: int | None = None
    _known: dict[tuple[int, int, tuple[int, ...], bool], Expected | None] = field(default_factory=dict)

    @property
    def states(self) -> list[int]:
        """The learnt states, by number."""
        return [int(one) for one in np.unique(self.history.state) if one >= 0]

    @property
    def sensors(self) -> int:
        """How many."""
        return int(self.history.cells.shape[1])

    def expected(
        self, state: int, sensor: int, left_out: tuple[int, ...] = (), *, level: bool = False
    ) -> Expected | None:
        """See `learn`."""
        key = (state, sensor, left_out, level)
        if key not in self._known:
            cells = self.history.cells[self.history.state == state]
            self._known[key] = learn(cells, sensor, left_out, operating=self.operating, level=level)
        return self._known[key]
