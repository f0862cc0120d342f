"""Window PCA over several time scales: what the delivered model is. Only numpy.

A small lasting shift shows in the mean of many cells, a short burst in few; one length of window is late for the one or
blind to the other. So the newest W / 4, W / 2 and W cells each have a window PCA of their own, on the same standardised cells. (Of W / 8 = 2
cells the restlessness is a single step, which says nothing.) That is what a bank of exponentially weighted averages does in multivariate control charts (Lowry, Woodall, Champ
and Rigdon, "A multivariate exponentially weighted moving average control chart", Technometrics 34 (1992)), with windows.

Each scale's score is calibrated by a high quantile of its own training scores, so that all are as often above 1 in health: a
duty cycle's steps make the short scales spiky, and would else set the limit for all. The score is the largest. A sensor's
contribution is its share in each scale's score, weighted by the eighth power of that: nearly all the largest's, without
a jump where two scales are as large.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from cloud.training import limits, pca
from cloud.training.limits import TAIL, TailOf
from cloud.training.pca import Floats, Scale, WindowPca
from shared.errors import Rejected
from shared.windows import Cells, Ints

OCTAVES: Final = 3
SHORTEST: Final = 4  # cells: fewer steps than three say nothing of restlessness
USUAL: Final = 0.99  # the quantile of a scale's training scores that counts as 1
PARTS: Final = 12  # of the rows, that growth is measured from one to the next of
FORWARD_FIRST: Final = 4  # of PARTS, that are fitted on at least: fewer are too few
WINDOWS_MAX: Final = 100_000  # that a model is fitted on, evenly spaced: neighbours share all but one cell


@dataclass(frozen=True)
class ScaledPca:
    """The fitted model.

    Attributes:
        scale: Centre and noise of cells.
        lengths: Cells of each time scale, increasing; the last is W.
        members: Window PCA of each.
    """

    scale: Scale
    lengths: tuple[int, ...]
    members: tuple[WindowPca, ...]


def lengths_of(window: int) -> tuple[int, ...]:
    """The time scales of windows of W cells."""
    shortest = min(SHORTEST, window)
    return tuple(sorted({max(window >> octave, shortest) for octave in range(OCTAVES)}))


def features(scale: Scale, windows: Floats) -> Floats:
    """float64[n, K, 2S] features of float64[n, W, S] windows, a time scale after the other."""
    lengths = lengths_of(windows.shape[1])
    return np.stack([pca.features(scale, windows[:, -length:]) for length in lengths], axis=1)


def features_of(scale: Scale, cells: Cells, ends: Ints, *, chunk: int = 2048) -> Floats:
    """Features of the windows that end at the cells numbered `ends`."""
    parts = [
        features(scale, cells.gather(ends[begin : begin + chunk]).values)
        for begin in range(0, len(ends), chunk)
    ]
    empty = np.zeros((0, len(lengths_of(cells.spec.window)), 2 * len(cells.spec.sensors)))
    return np.concatenate([empty, *parts])


def fit_scales(scale: Scale, table: Floats, window: int) -> ScaledPca:
    """Fit on float64[n, K, 2S] features in order of time. Raises Rejected: nothing moves."""
    lengths = lengths_of(window)
    members = tuple(_calibrated(scale, table[:, at], length) for at, length in enumerate(lengths))
    return ScaledPca(scale, lengths, members)


def _calibrated(scale: Scale, table: Floats, length: int) -> WindowPca:
    member = pca.fit_pca(scale, table, length)
    usual = float(np.quantile(pca.score_features(member, table), USUAL))
    return replace(member, phi=member.phi / usual**2) if usual > 0 else member


def score_features(model: ScaledPca, table: Floats) -> Floats:
    """float64[n] scores of float64[n, K, 2S] features: 1 is as high as it usually gets, 0 exactly the mean at every scale."""
    largest: Floats = _scores(model, table).max(axis=1)
    return largest


def score_windows(model: ScaledPca, cells: Cells, ends: Ints, *, chunk: int = 2048) -> Floats:
    """float64[n] scores of the windows that end at the cells numbered `ends`, without keeping their features."""
    parts = [
        score_features(model, features_of(model.scale, cells, ends[begin : begin + chunk]))
        for begin in range(0, len(ends), chunk)
    ]
    return np.concatenate([np.zeros(0), *parts])


def contributions(model: ScaledPca, table: Floats) -> Floats:
    """float64[n, S], not negative, sum 1, all 0 where nothing deviates."""
    weight = _scores(model, table) ** 8
    shares = np.stack(
        [pca.contributions(member, table[:, at]) for at, member in enumerate(model.members)], axis=1
    )
    pooled = (weight[:, :, None] * shares).sum(axis=1)
    total = pooled.sum(axis=1, keepdims=True)
    made: Floats = np.divide(pooled, total, out=np.zeros_like(pooled), where=total > 0)
    return made


def thinned(ends: Ints) -> tuple[Ints, int]:
    """At most WINDOWS_MAX of the windows, and how many cells lie from one to the next."""
    hop = max(1, -(-len(ends) // WINDOWS_MAX))
    return ends[::hop], hop


def forward_ratio(scale: Scale, table: Floats, window: int, hop: int = 1) -> float:
    """How much scores grow from one part of the rows to the next (`growth`)."""

    def tail(count: int) -> TailOf:
        model = fit_scales(scale, table[:count], window)
        return lambda part: _tail(model, table[part])

    return growth(len(table), -(-window // hop), tail)


def growth(rows: int, gap: int, tail: Callable[[int], TailOf]) -> float:
    """How much scores grow from one part of the rows to the next, about the worst of them; 1 where they don't.

    Forward in time: all rows before are fitted on, with a gap of so many; the part after it plays calibration, the next what
    comes after that. What is compared is where a part's tail begins: the largest score of a part is a matter of luck, and
    the calibration's own is in the limit already. `tail` fits on so many rows and says where the tail of others begins.
    """
    part = max(rows // PARTS, gap)
    grown = []
    for begin in range(FORWARD_FIRST * rows // PARTS, rows - gap - 2 * part + 1, part):
        try:
            tail_of = tail(begin)
        except Rejected:
            continue
        first, second = begin + gap, begin + gap + part
        known, new = tail_of(slice(first, second)), tail_of(slice(second, second + part))
        if known > 0 and new > 0:
            grown.append(np.log(new / known))
    return max(1.0, float(np.exp(limits.exceeded_once(np.array(grown))))) if grown else 1.0


def _tail(model: ScaledPca, table: Floats) -> float:
    return float(np.quantile(score_features(model, table), TAIL))


def _scores(model: ScaledPca, table: Floats) -> Floats:
    """float64[n, K]."""
    return np.stack(
        [pca.score_features(member, table[:, at]) for at, member in enumerate(model.members)], axis=1
    )
