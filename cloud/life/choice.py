"""Which model ships: by units of the training part that neither had seen, never by a test part."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.life.logic import LifeModel, draw_folds, heard_rows
from cloud.life.runs import Runs
from shared.windows import Floats, Ints

DRAWS: Final = 2000
SPAN: Final = (2.5, 97.5)  # percentiles of the bootstrap


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a model says of units that it has not seen.

    Attributes:
        rows: int64[m], of the runs that it was fitted on.
        part: int64[U], the part that each unit was held out with.
        life: float64[m].
        reach: float64[m], how far trees of the uncapped upper quantile reach.
    """

    rows: Ints
    part: Ints
    life: Floats
    reach: Floats


@dataclass(frozen=True)
class Choice:
    """Root mean squared errors of capped life, and the paired difference: below 0 the network is better.

    Attributes:
        trees: Cycles.
        network: Cycles.
        difference: Network less trees, cycles.
        low: Of the difference, by a bootstrap over units.
        high: Upper end.
        units: How many were drawn from.
    """

    trees: float
    network: float
    difference: float
    low: float
    high: float
    units: int

    @property
    def network_ships(self) -> bool:
        """Only where it is better beyond doubt: trees are the simpler model."""
        return self.high < 0


def held_out(model: LifeModel, runs: Runs) -> HeldOut:
    """Of the first draw of parts: one ensemble a row. `runs` are those that the model was fitted on."""
    config = model.config
    part = draw_folds(np.random.default_rng(config.seed), len(runs), config)[0]
    rows = heard_rows(runs, config.heard)
    table, of_part = model.features(runs)[rows], part[runs.of_row[rows]]
    life, reach = np.zeros(len(rows)), np.zeros(len(rows))
    for number in range(config.folds):
        out = of_part == number
        life[out] = model.trees[number].predict(table[out])
        reach[out] = model.far[number].predict(table[out])
    return HeldOut(rows, part, np.asarray(np.clip(life, 0.0, model.knee)), reach)


def choose(trees: Floats, network: Floats, truth: Floats, unit: Ints, *, seed: int = 0) -> Choice:
    """Compare what both say of the same rows. Units are drawn whole: rows of one are not independent.

    Args:
        trees: float64[m], life.
        network: float64[m], life.
        truth: float64[m], capped as both targets were.
        unit: int64[m].
        seed: Draws the bootstrap.
    """
    number = np.unique(unit, return_inverse=True)[1]
    rows = np.bincount(number)
    squares = [np.bincount(number, (said - truth) ** 2) for said in (trees, network)]
    drawn = np.random.default_rng(seed).integers(0, len(rows), size=(DRAWS, len(rows)))

    def error(which: int) -> Floats:
        return np.asarray(np.sqrt(squares[which][drawn].sum(axis=1) / rows[drawn].sum(axis=1)))

    low, high = np.percentile(error(1) - error(0), SPAN)
    both = [float(np.sqrt(each.sum() / rows.sum())) for each in squares]
    return Choice(both[0], both[1], both[1] - both[0], float(low), float(high), len(rows))
