"""What may not change a score: the order, names and units of columns, rows that come later; and what may change it little."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from bench.judge.figures import f1_of
from bench.judge.methods import Method, Scored, shipped
from cloud.training.datasets.run import Run
from shared.windows import Floats, Ints

RELATIVE: Final = 1e-6
F1_MOVES: Final = 0.04
SKIP: Final = 100
CUTS: Final = (0.31, 0.77)  # shares of TEST, at no round place
UNITS: Final = (1e-3, 1e4)  # factors that columns are rescaled by


@dataclass(frozen=True, slots=True)
class Control:
    """One control on one set: the most that moved over all runs, and how much may."""

    name: str
    moved: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Never for NaN."""
        return self.moved <= self.allowed


def control(
    runs: Sequence[Scored], seed: int, method: Method = shipped, say: Callable[[str], None] = lambda _: None
) -> list[Control]:
    """All of them, against the answers for the runs as they are (the same seed)."""
    changes: dict[str, Callable[[Run], tuple[Run, Ints]]] = {
        "columns permuted": _permuted,
        "columns renamed": _renamed,
        "columns rescaled": _rescaled,
    }
    found = []
    for name, change in changes.items():
        say(f"control: {name}")
        moved = [_moved(each, method, change(each.run), seed) for each in runs]
        found.append(Control(f"{name}: score, relative", max(score for score, _ in moved), RELATIVE))
        found.append(Control(f"{name}: contributions", max(share for _, share in moved), RELATIVE))
    for cut in CUTS:
        say(f"control: TEST cut at {cut:.0%}")
        later = max(_cut(each, method, cut, seed) for each in runs)
        found.append(Control(f"TEST cut at {cut:.0%}: scores before", later, 0.0))
    say(f"control: {SKIP} FIT rows cut off")
    shorter = [replace(method(each.run.cut(skip=SKIP), seed), run=each.run) for each in runs]
    found.append(Control(f"{SKIP} FIT rows cut off: F1", abs(f1_of(shorter) - f1_of(runs)), F1_MOVES))
    return found


def _permuted(run: Run) -> tuple[Run, Ints]:
    order = np.random.default_rng(23).permutation(len(run.sensors))
    names = tuple(run.sensors[at] for at in order)
    return replace(run, sensors=names, fit=run.fit[:, order], test=run.test[:, order]), order


def _renamed(run: Run) -> tuple[Run, Ints]:
    # Reversed, so that whoever sorts by name sorts otherwise.
    names = tuple(f"x{len(run.sensors) - at:03}" for at in range(len(run.sensors)))
    return replace(run, sensors=names), np.arange(len(names))


def _rescaled(run: Run) -> tuple[Run, Ints]:
    random = np.random.default_rng(29)
    width = len(run.sensors)
    factor = np.exp(random.uniform(np.log(UNITS[0]), np.log(UNITS[1]), width))
    offset = factor * random.normal(size=width) * 10 * run.fit.std(axis=0)
    return replace(run, fit=run.fit * factor + offset, test=run.test * factor + offset), np.arange(width)


def _moved(before: Scored, method: Method, changed: tuple[Run, Ints], seed: int) -> tuple[float, float]:
    run, order = changed
    after = method(run, seed)
    shares = 0.0
    if before.contributions is not None and after.contributions is not None:
        shares = _most(np.abs(after.contributions - before.contributions[:, order]))
    return relative(before.ratio, after.ratio), shares


def relative(before: Floats, after: Floats) -> float:
    """The most that a score moved, relative to itself; infinite where one is scored and the other is not."""
    scored = np.isfinite(before)
    if not np.array_equal(scored, np.isfinite(after)):
        return float("inf")
    size = np.maximum(np.abs(before[scored]), np.finfo(np.float32).tiny)
    return _most(np.abs(after[scored] - before[scored]) / size)


def _cut(before: Scored, method: Method, share: float, seed: int) -> float:
    rows = int(len(before.run.test) * share)
    after = method(before.run.cut(rows=rows), seed)
    return relative(before.ratio[:rows], after.ratio)


def _most(values: Floats) -> float:
    return float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
