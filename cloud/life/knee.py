"""Where wear begins to show: beyond the knee all lives look alike, and the target is flat there."""

from typing import Final

import numpy as np

from cloud.life.runs import Runs
from cloud.life.sklearn import fit_trees
from shared.windows import Floats, Ints

SHORTEST: Final = 0.01  # quantile of the lives
KNEES: Final = (0.55, 0.7, 0.85, 1.0, 1.15)  # of the shortest life
FINER: Final = (-0.075, 0.075)  # then about the best of them


def choose_knee(table: Floats, runs: Runs, fold: Ints, *, rows: int, rounds: int, seed: int) -> float:
    """The knee whose trees miss the least on units that they have not seen, by root mean square.

    Misses are counted where at most the shortest life is left: every unit has been there. Farther from failure only
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

    misses = {share: missed(share) for share in KNEES}
    best = min(misses, key=lambda share: misses[share])
    misses |= {best + step: missed(best + step) for step in FINER}
    return min(misses, key=lambda share: misses[share]) * shortest
