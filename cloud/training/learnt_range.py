"""The range of operating points that a history teaches, and how far beyond it the same operation goes in a month. Pure numpy.

What was held for a few cells in a row was an operating point; a single reading was not. So the range has the same
persistence as the rule by which it is left (`shared.windows.Operating`), and no history leaves its own range.

The extreme of an hour is not that of a month. How far the tail goes on is told by the tail that was seen: the mean excess
over a high quantile is the scale of an exponential tail (peaks over threshold, as for limits), by which the level that is
passed once in a month lies ln(1 + month / history) scales beyond the largest value seen. An exponential tail is heavier
than most that control loops have, which is the side to err on: beyond the margin the machine is not watched.

- The scale is the upper quartile of its estimate, from as many independent peaks as there are clusters of them a window
  apart: an hour of a machine that wanders over minutes has few.
- It is the least over several quantiles. Where the outermost set-point was rarely held, lower quantiles reach into the
  next one, and would take the step between the two for a tail. Where one was held exactly, there is no tail at all.
- Where steps are so long that set-points pass within two of them, fewer cells in a row count, down to one: no more than one
  cell in a thousand may lie outside the range that it taught.
- No margin is wider than half of what was learnt.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.training.limits import MONTH_US
from shared.windows import Floats

QUANTILES: Final = (0.9, 0.95, 0.98, 0.99)
WIDEST: Final = 0.5  # of the range
OUTSIDE: Final = 0.001  # of the cells
_NORMAL_75: Final = 0.6745  # the normal's upper quartile


@dataclass(frozen=True)
class LearntRange:
    """From the smallest to the largest value that was held, with the noise, and the margins below and above."""

    low: float
    high: float
    below: float
    above: float


def learn_range(values: Floats, *, step_us: int, window: int, held: int, noise: float) -> LearntRange:
    """The range of a machine's operating sensor.

    Args:
        values: float64[n], its cells in order of time, finite, n at least `held`.
        step_us: From cell to cell.
        window: W; peaks that are further apart are independent.
        held: For how many cells in a row a value must be passed to count.
        noise: How far it is to be widened.
    """
    low_side, high_side = -_held(values, held, np.max), _held(values, held, np.min)
    low, high = -float(low_side.max()), float(high_side.max())
    if held > 1 and ((values < low - noise) | (values > high + noise)).mean() > OUTSIDE:
        return learn_range(values, step_us=step_us, window=window, held=held - 1, noise=noise)
    longer = np.log1p(MONTH_US / (len(values) * step_us))
    widest = WIDEST * abs(high - low)
    below, above = (min(tail_scale(side, window) * longer, widest) for side in (low_side, high_side))
    return LearntRange(low - noise, high + noise, float(below), float(above))


def _held(values: Floats, held: int, of: Callable[..., Floats]) -> Floats:
    return of(np.lib.stride_tricks.sliding_window_view(values, held), axis=1)


def tail_scale(values: Floats, window: int) -> float:
    """The upper quartile of the scale of their upper tail; 0 where they come to stand at their largest value."""
    found = []
    for quantile in QUANTILES:
        threshold = float(np.quantile(values, quantile))
        over = np.flatnonzero(values > threshold)
        if not len(over):
            return 0.0
        clusters = 1 + int((np.diff(over) >= window).sum())
        found.append(float((values[over] - threshold).mean()) * _upper(clusters))
    return min(found)


def _upper(count: int) -> float:
    """By which the mean of so many exponential values is multiplied to be above the true one three times in four.

    2 n over the lower quartile of chi squared with 2 n degrees of freedom, by Wilson and Hilferty's approximation (1931).
    """
    return float((1 - 1 / (9 * count) - _NORMAL_75 / (3 * np.sqrt(count))) ** -3)
