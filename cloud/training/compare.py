"""Which of two fitted models is the better: both judged on the same rows and the same synthetic faults.

The last third of the calibration rows is held out: for the comparison each model's limit is set from the calibration
rows before it, so that neither is judged on rows that set its limit (the limit delivered is set from all of them).
Into stretches of the held-out rows, drawn by a seed, faults of one sensor are laid: a shift up or down, a ramp, a
stuck value, more noise, each at 2 and at 4 widths of the sensor's noise. A fault is found if an episode (m of n
alarming windows) starts in its stretch; every episode on the rows as they are is false.

This is a proxy: real faults show on several sensors at once. It ranks models, it promises no rate of detection.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from cloud.training import limits
from cloud.training.packing import Fitted
from shared.errors import Rejected
from shared.persistence import CALM_LEVEL, calm_windows, episodes
from shared.windows import Cells, Floats, Ints

HELD: Final = 1 / 3  # of the calibration windows, the last
STRETCH: Final = 128  # cells that a fault lasts
SEVERITIES: Final = (2.0, 4.0)  # widths of noise
KINDS: Final = ("up", "down", "ramp", "stuck", "noise")
FAULTS_MAX: Final = 160


@dataclass(frozen=True)
class Fault:
    """One synthetic fault: of the sensor numbered `sensor`, from cell `begin` on for STRETCH cells."""

    sensor: int
    kind: str
    severity: float
    begin: int
    seed: int


@dataclass(frozen=True)
class Panel:
    """How a model did.

    Attributes:
        found: Share of the faults that were found.
        false: Episodes on the rows as they are.
        over: Those beyond what the budget allows in so much time.
        faults: How many faults there were.
        hours: How long the held-out rows last.
    """

    found: float
    false: int
    over: float
    faults: int
    hours: float

    def metrics(self, prefix: str = "") -> dict[str, float]:
        """The figures by name."""
        return {
            f"{prefix}panel_found": self.found,
            f"{prefix}panel_false": float(self.false),
            f"{prefix}panel_faults": float(self.faults),
            f"{prefix}panel_hours": self.hours,
        }


def better(panels: Sequence[Panel]) -> int:
    """Which is best: fewer false episodes over budget, then more found, then the earlier one."""
    return min(range(len(panels)), key=lambda index: (panels[index].over, -panels[index].found, index))


def judge_all(fitted: Sequence[Fitted], seed: int) -> list[Panel]:
    """Judge models that were fitted on the same recording at the same step.

    Raises:
        Rejected: The held-out rows are too few for a fault's stretch, or leave none to set a limit from.
    """
    first = fitted[0]
    opens, begin, room = held_out(first, max(each.cells.spec.window for each in fitted))
    faults = _draw(first, begin, room, seed)
    return [_judge(each, faults, opens, begin) for each in fitted]


def held_out(fitted: Fitted, window: int) -> tuple[int, int, int]:
    """The first held-out cell, where windows of `window` cells lie in them wholly, and room for faults to begin in.

    Raises:
        Rejected: There is no room.
    """
    opens = int(fitted.after[int(len(fitted.after) * (1 - HELD))])
    begin = opens + window
    room = len(fitted.cells) - begin - STRETCH
    if room < 1:
        raise Rejected("the held-out rows are too few to compare models on")
    return opens, begin, room


def _draw(fitted: Fitted, begin: int, room: int, seed: int) -> list[Fault]:
    random = np.random.default_rng([seed, 7])
    learnt = np.flatnonzero(fitted.scale.inverse > 0).tolist()
    every = [(sensor, kind, size) for sensor in learnt for kind in KINDS for size in SEVERITIES]
    if len(every) > FAULTS_MAX:
        chosen = np.sort(random.permutation(len(every))[:FAULTS_MAX])
        every = [every[index] for index in chosen.tolist()]
    return [
        Fault(sensor, kind, size, begin + int(random.integers(room)), int(random.integers(2**31)))
        for sensor, kind, size in every
    ]


def _judge(fitted: Fitted, faults: Sequence[Fault], opens: int, begin: int) -> Panel:
    spec = fitted.cells.spec
    known = fitted.after < opens
    limit = limits.set_limit(
        fitted.healthy[known],
        window=spec.window,
        step_us=spec.step_us,
        budget=fitted.budget,
        forward_ratio=fitted.forward,
    ).value
    false = len(_episodes(fitted, fitted.healthy[fitted.after >= begin], limit))
    lasts = (len(fitted.cells) - begin) * spec.step_us
    hits = 0
    for fault in faults:
        windows, full = _stretch(fitted.cells, fault, 1.0 / float(fitted.scale.inverse[fault.sensor]))
        hits += bool(_episodes(fitted, fitted.score(windows)[0][full], limit))
    allowed = fitted.budget.episodes_month * lasts / limits.MONTH_US
    return Panel(
        found=hits / max(len(faults), 1),
        false=false,
        over=max(false - allowed, 0.0),
        faults=len(faults),
        hours=lasts / 3.6e9,
    )


def _episodes(fitted: Fitted, scores: Floats, limit: float) -> Sequence[object]:
    budget = fitted.budget
    return episodes(
        range(len(scores)),
        (scores > limit).tolist(),
        budget.m,
        budget.n,
        clear=calm_windows(fitted.cells.spec.window, budget.n),
        calm=(scores <= CALM_LEVEL * limit).tolist(),
    )


def _stretch(
    cells: Cells, fault: Fault, noise: float
) -> tuple[Floats, "np.ndarray[tuple[int], np.dtype[np.bool_]]"]:
    """Windows float64[STRETCH, W, S] that end in the fault, and which of them are full."""
    first = max(fault.begin - cells.spec.window, 0)
    part = slice(first, fault.begin + STRETCH)
    values = cells.cells[part].copy()
    lay(values[:, fault.sensor], fault, fault.begin - first, noise)
    cut = replace(cells, times_us=cells.times_us[part], cells=values, known=cells.known[part])
    ends: Ints = np.arange(fault.begin - first, len(values), dtype=np.int64)
    windows = cut.gather(ends)
    return windows.values, windows.scorable


def lay(column: Floats, fault: Fault, begin: int, noise: float) -> None:
    """Lay a fault into float64[n] cells of its sensor, in place, from `begin` on; `noise` is the width of its noise."""
    faulty = column[begin:]
    size = fault.severity * noise
    match fault.kind:
        case "up":
            faulty += size
        case "down":
            faulty -= size
        case "ramp":
            faulty += size * np.arange(1, len(faulty) + 1) / len(faulty)
        case "stuck":
            faulty[:] = faulty[0]
        case _:
            faulty += size * np.random.default_rng(fault.seed).normal(size=len(faulty))
