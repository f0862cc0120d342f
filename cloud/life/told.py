"""What is told of a unit's remaining life, in cycles: the median, intervals, "more than", or why there is not enough evidence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from cloud.life.evidence import SILENT
from cloud.life.features import features
from cloud.life.preparation import Preparation
from cloud.life.runs import Runs
from shared.errors import Rejected
from shared.windows import Floats, Ints

COVERAGES: Final = (80, 90, 95)
MOST_REASONS: Final = 3


class Trees(Protocol):
    """What computes life and its reach from features: the graph, or the fitted trees themselves."""

    def run(self, features: Floats) -> tuple[Floats, Floats]:
        """(life, reach), float64[n]."""
        ...


@dataclass(frozen=True)
class Told:
    """Of one row of a history.

    Attributes:
        median: Cycles; half of the units that looked so had more left.
        ends: Per cent covered to lower and upper end; each holds the median, and each the narrower ones.
        more_than: The longest life that is told, where the unit shows no wear yet; else None.
        enough: False = unlike every unit that failed: the figures are those of its age alone.
        reason: Why there is not enough evidence, else empty.
        unusual: Sensors that are least like those of the units that failed, the worst first; only without evidence.
    """

    median: float
    ends: Mapping[int, tuple[float, float]]
    more_than: float | None
    enough: bool
    reason: str = ""
    unusual: tuple[str, ...] = ()


def tell(preparation: Preparation, trees: Trees, runs: Runs, at: Ints) -> list[Told]:
    """Remaining life at these rows, from rows up to each alone. Raises Rejected where columns differ."""
    if runs.columns != preparation.columns:
        raise Rejected("the columns are not those that the model learnt")
    table = features(preparation.conditions, preparation.spans, runs)[at]
    life, reach = trees.run(table)
    enough = preparation.evidence.enough(table)
    told = []
    for number in range(len(at)):
        row = table[number : number + 1]
        if enough[number]:
            told.append(_seen(preparation, life[number : number + 1], reach[number : number + 1]))
        else:
            told.append(_strange(preparation, row, runs.cycles[at[number : number + 1]]))
    return told


def moved_by(preparation: Preparation, trees: Trees, runs: Runs, now: int, before: int) -> dict[str, float]:
    """What each sensor's change since row `before` does to the life at row `now`, cycles; largest first."""
    table = features(preparation.conditions, preparation.spans, runs)[[now, before]]
    sensors = preparation.conditions.sensors
    asked = np.repeat(table[:1], 1 + len(sensors), axis=0)
    for number in range(len(sensors)):
        mine = slice(1 + number, None, len(sensors))
        asked[1 + number, mine] = table[1, mine]
    life, _ = trees.run(asked)
    moves = dict(
        zip([runs.columns[at] for at in sensors.tolist()], (life[0] - life[1:]).tolist(), strict=True)
    )
    return dict(sorted(moves.items(), key=lambda each: -abs(each[1])))


def _seen(preparation: Preparation, life: Floats, reach: Floats) -> Told:
    intervals = preparation.intervals
    told = {coverage: intervals.of(life, reach, coverage / 100) for coverage in COVERAGES}
    narrowest = told[COVERAGES[0]]
    median = float(np.clip(intervals.median(life), narrowest.low, narrowest.high)[0])
    ends: dict[int, tuple[float, float]] = {}
    low, high = median, median
    for (
        coverage,
        interval,
    ) in told.items():  # each end on its own: a wider one never lies inside a narrower one
        low, high = min(low, float(interval.low[0])), max(high, float(interval.high[0]))
        ends[coverage] = (low, high)
    open_ended = bool(told[90].open_ended[0])
    return Told(median, ends, ends[90][0] if open_ended else None, enough=True)


def _strange(preparation: Preparation, row: Floats, age: Floats) -> Told:
    survival = preparation.survival
    ends = {
        coverage: (0.0, float(survival.quantile(age, (1 + coverage / 100) / 2)[0])) for coverage in COVERAGES
    }
    reason, unusual = _why(preparation, row)
    return Told(
        float(survival.quantile(age, 0.5)[0]), ends, None, enough=False, reason=reason, unusual=unusual
    )


def _why(preparation: Preparation, row: Floats) -> tuple[str, tuple[str, ...]]:
    evidence, sensors = preparation.evidence, preparation.conditions.sensors
    names = [preparation.columns[at] for at in sensors.tolist()]
    if np.isnan(row).mean() > SILENT:
        silent = np.flatnonzero(np.isnan(row[0, 1:]).reshape(4, len(names)).all(axis=0))
        quiet = tuple(names[at] for at in silent.tolist())
        return "most of its sensors say nothing at a known operating condition", quiet[:MOST_REASONS]
    away = np.abs(np.nan_to_num((row[0] - evidence.centre) * evidence.inverse))
    each = away[1:].reshape(4, len(names)).max(axis=0)
    if away[0] > each.max():
        return "it is older than the units that failed", ()
    worst = np.argsort(-each, kind="stable")[:MOST_REASONS]
    return "its sensors are unlike those of every unit that failed", tuple(names[at] for at in worst.tolist())
