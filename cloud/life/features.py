"""What a unit's history says at each of its rows, from rows up to that one alone."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.life.conditions import Conditions
from cloud.life.runs import Runs
from shared.windows import Floats, Ints

RECENT: Final = 0.04  # of the usual life: span of the newest level
LEVEL: Final = 0.2
SLOPE: Final = 0.3
ROWS_SHRUNK: Final = 10  # a slope over fewer rows is mostly noise, and is drawn towards none


@dataclass(frozen=True)
class Spans:
    """Lengths in rows, from how many rows the units that failed lived: flights, hours or weeks are all one.

    Attributes:
        recent: Of the exponential mean.
        level: Of the mean.
        slope: Of the slope.
        drawn: Sum of squares that draws short slopes to zero, in cycles squared.
    """

    recent: float
    level: int
    slope: int
    drawn: float


def learn_spans(runs: Runs) -> Spans:
    """Spans for units like these."""
    usual = float(np.median(np.diff(runs.starts)))
    steps = np.diff(runs.cycles)[np.diff(runs.of_row) == 0]
    step = float(np.median(steps)) if len(steps) else 1.0
    drawn = ROWS_SHRUNK * (ROWS_SHRUNK**2 - 1) / 12 * step**2
    return Spans(max(2.0, RECENT * usual), max(3, round(LEVEL * usual)), max(5, round(SLOPE * usual)), drawn)


def features(conditions: Conditions, spans: Spans, runs: Runs) -> Floats:
    """float64[n, 1 + 4 F]: age; newest level, level, slope, slope of the whole history of each sensor.

    NaN where a sensor has said nothing within a span.
    """
    standard = conditions.standardise(runs.values)
    made = np.empty((len(standard), 1 + 4 * standard.shape[1]))
    for rows in runs.rows():
        made[rows] = _of_unit(standard[rows], runs.cycles[rows], spans)
    return made


def _of_unit(standard: Floats, cycles: Floats, spans: Spans) -> Floats:
    known = np.isfinite(standard)
    values = np.where(known, standard, 0.0)
    present = known.astype(np.float64)
    count = len(values)
    index = np.arange(count)
    whole = np.zeros(count, dtype=np.int64)
    time = (cycles - cycles[0])[:, None]
    return np.hstack(
        [
            cycles[:, None],
            _exponential(values, present, spans.recent),
            _mean(values, present, np.maximum(0, index + 1 - spans.level)),
            _slope(values, present, time, np.maximum(0, index + 1 - spans.slope), spans.drawn),
            _slope(values, present, time, whole, spans.drawn),
        ]
    )


def _exponential(values: Floats, present: Floats, span: float) -> Floats:
    keep = 1 - 2 / (span + 1)
    total, weight = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    made = np.full(values.shape, np.nan)
    for at, (row, there) in enumerate(zip(values, present, strict=True)):
        total, weight = keep * total + row, keep * weight + there
        np.divide(total, weight, out=made[at], where=weight > 1e-6)  # noqa: PLR2004 - long forgotten
    return made


def _window_sum(values: Floats, begins: Ints) -> Floats:
    """Sums over rows begins[i]..i."""
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    return np.asarray(sums[1:] - sums[begins])


def _mean(values: Floats, present: Floats, begins: Ints) -> Floats:
    count = _window_sum(present, begins)
    made = np.full(values.shape, np.nan)
    np.divide(_window_sum(values, begins), count, out=made, where=count > 0)
    return made


def _slope(values: Floats, present: Floats, time: Floats, begins: Ints, drawn: float) -> Floats:
    """Least squares in a window, drawn towards zero where it is short; NaN where nothing was said."""
    spoken = _window_sum(present, begins)
    count = np.maximum(spoken, 1.0)
    sum_t = _window_sum(present * time, begins)
    sum_tt = _window_sum(present * time * time, begins) - sum_t * sum_t / count
    sum_tz = _window_sum(values * time, begins) - sum_t * _window_sum(values, begins) / count
    return np.where(spoken > 0, sum_tz / (np.maximum(sum_tt, 0.0) + drawn), np.nan)
