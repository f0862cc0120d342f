"""Where wear begins to show: beyond the knee all lives look alike, and the target is flat there."""

from typing import Final

import numpy as np

from cloud.life.runs import Runs
from cloud.life.sklearn import fit_trees
from shared.windows import Floats, Ints

SHORTEST: Final = 0.01  # quantile of the lives
KNEES: Final = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.1)  # of the shortest life
ALIKE: Final = 0.01  # of the error: knees that differ by less are alike, and the nearer one promises less


def choose_knee(table: Floats, runs: Runs, fold: Ints, *, rows: int, rounds: int, seed: int) -> float:
    """The nearest knee whose trees miss hardly more than the best do on units that they have not seen.

    Misses are counted by root mean square, where at most the shortest life is left: every unit has been there. Farther from failure only
    the long-lived have rows, and to guess "long" would pay there without any wear being seen.

    Args:
        table: float64[n, F], features of the rows.
        runs: Units that ran to failure.
        fold: int64[U], which part each unit is held out with.
        rows: At most so many rows train.
        rounds: Of the trees.
        seed: The same.
    """
    unit, remaining = runs.of_row, runs.remaining
    shortest = float(np.quantile(runs.lives, SHORTEST))
    near = remaining <= shortest
    position = np.arange(len(unit)) - runs.starts[unit]
    chosen = position % max(1, round(len(unit) / rows)) == 0

    def missed(share: float) -> float:
        knee, squares = share * shortest, 0.0
        for number in np.unique(fold):
            out = fold[unit] == number
            fitted, asked = chosen & ~out, chosen & out & near
            trees = fit_trees(table[fitted], np.minimum(remaining[fitted], knee), seed=seed, rounds=rounds)
            squares += float(((np.minimum(trees.predict(table[asked]), knee) - remaining[asked]) ** 2).sum())
        return squares

    misses = {share: np.sqrt(missed(share)) for share in KNEES}
    good = (1 + ALIKE) * min(misses.values())
    return min(share for share in KNEES if misses[share] <= good) * shortest
