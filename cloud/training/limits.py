"""The limit of an anomaly score, from rows the model was not fitted on.

N_eff independent calibration rows can carry a tail probability alpha only from 3 / alpha on: then peaks over
threshold. Else the largest calibration score times a margin stands in, and the model is provisional.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from shared.errors import Rejected
from shared.persistence import episodes

Floats = npt.NDArray[np.float64]
TailOf = Callable[[slice], float]  # where the tail of the scores of some rows begins

MONTH_US: Final = 30 * 86_400_000_000
MARGIN_MIN: Final = 1.5
ROWS_PER_ALPHA: Final = 3.0
ALPHA_MAX: Final = 0.01
TAIL: Final = 0.95  # calibration scores above this quantile are the tail
_LAGS_MAX: Final = 4096


@dataclass(frozen=True)
class Budget:
    """How many false episodes are allowed, and what makes an episode of alarming windows.

    Attributes:
        episodes_month: False episodes a machine-month.
        m: Of the last n windows, how many must alarm.
        n: See m.
    """

    episodes_month: float = 1.0
    m: int = 3
    n: int = 5


@dataclass(frozen=True)
class Limit:
    """A limit and how it came about; the fields are those of the manifest's calibration."""

    value: float
    method: Literal["peaks-over-threshold", "max-with-margin"]
    n_eff: float
    rows: int
    decorrelation: float
    alpha: float
    margin: float
    provisional: bool


def decorrelation_steps(scores: Floats) -> float:
    """Steps until the scores' autocorrelation has fallen to 1/e (at least 1)."""
    centred = scores - scores.mean()
    power = float(centred @ centred)
    if power <= 0 or len(scores) < 3:  # noqa: PLR2004 - two points have no correlation
        return 1.0
    size = 1 << (2 * len(scores) - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    correlation = np.fft.irfft(spectrum * spectrum.conj(), size)[: min(len(scores), _LAGS_MAX)] / power
    below = np.flatnonzero(correlation <= np.exp(-1.0))
    return float(max(below[0], 1)) if len(below) else float(len(correlation))


def alpha_for(scores: Floats, step_us: int, budget: Budget) -> float:
    """The share of alarming windows that spends the budget, with the persistence (without the deadband) measured on these scores.

    Alarming windows come in runs: the more of them make one episode, the more may alarm.
    """
    above = scores > np.quantile(scores, TAIL)
    count = len(episodes(range(len(scores)), above.tolist(), budget.m, budget.n))
    per_episode = max(float(above.sum()) / max(count, 1), float(budget.m))
    return min(budget.episodes_month * per_episode * step_us / MONTH_US, ALPHA_MAX)


def peaks_over_threshold(scores: Floats, alpha: float) -> float:
    """The level that a share alpha of scores exceeds, from a generalised Pareto tail.

    Probability-weighted moments, Hosking and Wallis, "Parameter and quantile estimation for the generalized Pareto
    distribution", Technometrics 29 (1987).
    """
    threshold = float(np.quantile(scores, TAIL))
    excess = np.sort(scores[scores > threshold]) - threshold
    if not len(excess):
        return threshold
    count = len(excess)
    first = float(excess.mean())
    second = float((excess * (count - 1 - np.arange(count))).sum() / (count * max(count - 1, 1)))
    gap = first - 2 * second
    if gap <= 0:
        return threshold + first * float(np.log(count / len(scores) / alpha))
    shape = 2 - first / gap
    spread = 2 * first * second / gap
    rise = (count / len(scores)) / alpha
    if abs(shape) < 1e-6:  # noqa: PLR2004 - the exponential tail
        return threshold + spread * float(np.log(rise))
    return float(threshold + spread / shape * (rise**shape - 1))


def exceeded_once(values: Floats) -> float:
    """The level that one of the next k + 1 values exceeds, from k that vary about a mean: where the largest of k lies, but steadier.

    The largest hangs on a single value; this hangs on all of them, by Student's t for the prediction of one more. Its
    quantile from the normal's: Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), 26.7.5, three terms.
    A single value has no spread, and stands for itself.
    """
    count = len(values)
    if count == 1:
        return float(values[0])
    z = NormalDist().inv_cdf(count / (count + 1))
    free = count - 1
    t = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return float(values.mean() + t * values.std(ddof=1) * np.sqrt(1 + 1 / count))


def set_limit(scores: Floats, *, window: int, step_us: int, budget: Budget, forward_ratio: float) -> Limit:
    """The limit for scores of a calibration part.

    Args:
        scores: float64[n], in order of time, of rows that were neither fitted on nor within W of such.
        window: W.
        step_us: The grid's step.
        budget: What the limit must keep.
        forward_ratio: How much scores grew from one part of the rows to the next.

    Raises:
        Rejected: There are no scores, or they are all 0.
    """
    if not len(scores) or not float(scores.max()) > 0:
        raise Rejected("the calibration part has no window to set a limit from: give more training rows")
    decorrelation = decorrelation_steps(scores)
    n_eff = len(scores) / max(float(window), decorrelation)
    alpha = alpha_for(scores, step_us, budget)
    if n_eff >= ROWS_PER_ALPHA / alpha:
        value = max(peaks_over_threshold(scores, alpha), float(np.median(scores)))
        return Limit(
            value, "peaks-over-threshold", n_eff, len(scores), decorrelation, alpha, 1.0, provisional=False
        )
    margin = max(MARGIN_MIN, forward_ratio)
    value = float(scores.max()) * margin
    return Limit(value, "max-with-margin", n_eff, len(scores), decorrelation, alpha, margin, provisional=True)
