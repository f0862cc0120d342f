"""Operating conditions: found from set-points, which are recognised by how they behave and never by name.

A set-point takes few levels, does not drift within a level as its unit ages, and is no sign of age itself; a
response drifts. Sensors are then judged against others at the same condition.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.life.runs import Runs
from shared.windows import Floats, Ints

LEVELS_MAX: Final = 30
GAP: Final = 0.02  # of a column's range: levels lie at least this far apart
TIGHT: Final = 0.2  # of a column's range: all levels together cover no more
RARE: Final = 0.005  # of the rows: fewer make no level
AGES: Final = 0.05  # share of the variance of age that a set-point's levels may explain, or it is a response
DRIFTS: Final = 0.01  # the same of the deviation from a level
MOVES: Final = 0.5  # share of the variance of some other column that a set-point's levels must explain
ADDS: Final = 0.01  # mean share of the sensors' variance that one more set-point must explain
SENSORS_MAX: Final = 40  # judged; of more, those that say most of age: each costs time at every split
COMBINED_MAX: Final = 64
ROWS_MIN: Final = 20  # a condition with fewer is not learnt
STILL: Final = 1e-9  # of a column's mean: a smaller spread is rounding
UNKNOWN, SILENT = -1, -2
GRAIN: Final = 2.0**-30  # standardised values are rounded to it: units of measurement then leave no trace


@dataclass(frozen=True)
class SetPoint:
    """A column that sets the condition.

    Attributes:
        column: Its number.
        low: float64[L], lower ends of its levels, ascending.
        high: float64[L], upper ends.
    """

    column: int
    low: Floats
    high: Floats

    def level(self, values: Floats) -> Ints:
        """int64[n], number of the level that each value is at; -1 = at none, -2 = nothing was said."""
        gaps = self.low[1:] - self.high[:-1]
        reach = np.concatenate([[gaps[0]], np.minimum(gaps[:-1], gaps[1:]), [gaps[-1]]]) / 4
        above = values[:, None] >= self.low - reach
        within = above & (values[:, None] <= self.high + reach)
        return np.where(
            np.isnan(values), SILENT, np.where(within.any(axis=1), within.argmax(axis=1), UNKNOWN)
        )


@dataclass(frozen=True)
class Conditions:
    """Learnt conditions, and what is usual at each.

    Attributes:
        points: The set-points; none = one condition.
        combined: int64[C, P], the level of each set-point at each condition.
        sensors: int64[F], columns that are judged, in an order of the data's own.
        centre: float64[C, F].
        inverse: float64[C, F], 1 over the spread, with the sign that makes the sensor rise with age; 0 = never moved.
    """

    points: tuple[SetPoint, ...]
    combined: Ints
    sensors: Ints
    centre: Floats
    inverse: Floats

    def of(self, values: Floats) -> Ints:
        """int64[n], number of the condition of each row; -1 = not learnt, or not told."""
        return _combine(self.points, self.combined, values)

    def standardise(self, values: Floats) -> Floats:
        """float64[n, F], sensors in spreads from what is usual at their condition; NaN = silent, or not learnt."""
        condition = self.of(values)
        found = np.maximum(condition, 0)
        standard = (values[:, self.sensors] - self.centre[found]) * self.inverse[found]
        standard[condition < 0] = np.nan
        return np.asarray(np.round(standard / GRAIN) * GRAIN)


def learn_conditions(runs: Runs) -> Conditions:
    """Find set-points and conditions on units that ran to failure, and the sensors that move within them."""
    age = runs.cycles / runs.lives[runs.of_row]
    found = _set_points(runs.values, age)
    set_by = {point.column for point in found}
    sensors = np.array([at for at in range(runs.values.shape[1]) if at not in set_by], dtype=np.int64)
    points, combined = _combined(found, runs.values, sensors)
    condition = _combine(points, combined, runs.values)
    shape = (len(combined), len(sensors))
    centre, inverse = np.zeros(shape), np.zeros(shape)
    for number in range(len(combined)):
        rows = runs.values[condition == number][:, sensors]
        count = np.isfinite(rows).sum(axis=0)
        some = count > 1
        mean, spread = np.zeros(len(sensors)), np.zeros(len(sensors))
        mean[some], spread[some] = np.nanmean(rows[:, some], axis=0), np.nanstd(rows[:, some], axis=0)
        moves = np.array([_moves(*each) for each in zip(spread.tolist(), mean.tolist(), strict=True)])
        centre[number] = mean
        inverse[number, moves] = 1 / spread[moves]
    moving = (inverse > 0).any(axis=0)
    whole = Conditions(points, combined, sensors[moving], centre[:, moving], inverse[:, moving])
    return _in_own_order(whole, runs, age)


def _in_own_order(whole: Conditions, runs: Runs, age: Floats) -> Conditions:
    """Sensors by how much they say of age, all rising with it: neither order, sign nor unit in the file matters."""
    standard = whole.standardise(runs.values)
    said = np.array([_correlation(column, age) for column in standard.T])
    order = np.argsort(-np.abs(np.round(said, 9)), kind="stable")[:SENSORS_MAX]
    sign = np.where(said[order] < 0, -1.0, 1.0)
    return Conditions(
        whole.points,
        whole.combined,
        whole.sensors[order],
        whole.centre[:, order],
        whole.inverse[:, order] * sign,
    )


def _set_points(values: Floats, age: Floats) -> list[SetPoint]:
    found = []
    for column in range(values.shape[1]):
        levels = _levels(values[:, column])
        if levels is None:
            continue
        point = SetPoint(column, *levels)
        at = point.level(values[:, column])
        known = at >= 0
        if _explained(age[known], at[known]) > AGES:
            continue
        middle = np.array([np.median(values[at == number, column]) for number in range(len(point.low))])
        deviation = values[known, column] - middle[at[known]]
        if _correlation(deviation, age[known]) ** 2 > DRIFTS:
            continue
        others = (values[known, other] for other in range(values.shape[1]) if other != column)
        if any(_explained(other, at[known]) >= MOVES for other in others):
            found.append(point)
    return found


def _levels(column: Floats) -> tuple[Floats, Floats] | None:
    """Lower and upper ends of the levels that a column takes; None where it takes a range or one value."""
    seen = np.sort(column[np.isfinite(column)])
    if len(seen) < 2 * ROWS_MIN or seen[-1] == seen[0]:
        return None
    width = float(seen[-1] - seen[0])
    edges = np.flatnonzero(np.diff(seen) > GAP * width)
    begins = np.concatenate([[0], edges + 1])
    ends = np.concatenate([edges, [len(seen) - 1]])
    common = ends - begins + 1 >= RARE * len(seen)
    low, high = seen[begins[common]], seen[ends[common]]
    if not 1 < len(low) <= LEVELS_MAX or float((high - low).sum()) > TIGHT * width:
        return None
    return low, high


def _combined(points: list[SetPoint], values: Floats, sensors: Ints) -> tuple[tuple[SetPoint, ...], Ints]:
    """The combinations of levels that were seen often enough, of the set-points that are needed to tell sensors apart."""
    chosen: list[SetPoint] = []
    combined, explained = np.zeros((1, 0), dtype=np.int64), 0.0
    for point in points:
        tried = [*chosen, point]
        levels = np.stack([each.level(values[:, each.column]) for each in tried], axis=1)
        kinds, counts = np.unique(levels[(levels >= 0).all(axis=1)], axis=0, return_counts=True)
        kinds = kinds[counts >= ROWS_MIN]
        if not 0 < len(kinds) <= COMBINED_MAX:
            continue
        at = _combine(tuple(tried), kinds, values)
        known = at >= 0
        shares = [_explained(values[known, sensor], at[known]) for sensor in sensors.tolist()]
        if shares and float(np.mean(shares)) >= explained + ADDS:
            chosen, combined, explained = tried, kinds, float(np.mean(shares))
    return tuple(chosen), combined


def _combine(points: tuple[SetPoint, ...], combined: Ints, values: Floats) -> Ints:
    if not points:
        return np.zeros(len(values), dtype=np.int64)
    levels = np.stack([point.level(values[:, point.column]) for point in points], axis=1)
    equal = ((levels[:, None, :] == combined) | (levels == SILENT)[:, None, :]).all(axis=2)
    # A silent set-point is made up for by the others where these leave one condition.
    return np.where(equal.sum(axis=1) == 1, equal.argmax(axis=1), UNKNOWN)


def _explained(column: Floats, level: Ints) -> float:
    """Share of a column's variance that levels explain."""
    known = np.isfinite(column)
    column, level = column[known], level[known]
    if len(column) < 2:  # noqa: PLR2004 - nothing varies
        return 0.0
    if not _moves(float(column.std()), float(column.mean())):
        return 0.0
    column = column - column.mean()
    count = np.bincount(level)
    mean = np.bincount(level, column) / np.maximum(count, 1)
    return float((count * mean**2).sum()) / float((column**2).sum())


def _moves(spread: float, mean: float) -> bool:
    """Whether a column varies by more than rounding."""
    return spread > STILL * max(abs(mean), np.finfo(np.float64).tiny)


def _correlation(column: Floats, age: Floats) -> float:
    known = np.isfinite(column)
    x, y = column[known], age[known]
    if len(x) < 2:  # noqa: PLR2004 - no line through one point
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / scale if scale > 0 else 0.0
