"""What was said beside what was so: a figure a task, and paired differences by a bootstrap over whole units."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from bench.tasks.contest import MULTI, Told
from cloud.training.measures.life import rmse
from cloud.training.measures.rows import average_precision
from shared.windows import Floats, Ints

DRAWS: Final = 1000
SPAN: Final = (2.5, 97.5)


def _precision(said: Floats, true: Floats) -> float:
    return average_precision(true > 0, said)


def _right(said: Floats, true: Floats) -> float:
    return float((said == true).mean())


MEASURES: Final[Mapping[str, tuple[str, Callable[[Floats, Floats], float], float]]] = MappingProxyType(
    {
        "life": ("RMSE of capped life", rmse, -1.0),
        "anomaly": ("PR-AUC", _precision, 1.0),
        "mode": ("share told right", _right, 1.0),
    }
)
"""By task: what it is called, how it is counted, and whether more of it is better (1) or worse (-1)."""


@dataclass(frozen=True)
class Compared:
    """One task of one set: the multi-task network beside a rival.

    Attributes:
        task: Which.
        rival: Whom it is held against.
        multi: Its figure.
        other: The rival's.
        low: 95 % of `gain`.
        high: Upper end.
        units: How many were drawn from.
    """

    task: str
    rival: str
    multi: float
    other: float
    low: float
    high: float
    units: int

    @property
    def gain(self) -> float:
        """How much better the multi-task network is, above 0, or worse."""
        return MEASURES[self.task][2] * (self.multi - self.other)

    @property
    def verdict(self) -> str:
        """Beyond doubt, or not."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "alike"


def compare(told: Told) -> list[Compared]:
    """Every task, every rival."""
    found = []
    for task, said in told.said.items():
        asked = np.isfinite(told.true[task])
        unit, true = told.unit[asked], told.true[task][asked]
        own = said[MULTI][asked]
        for rival, other in said.items():
            if rival != MULTI:
                found.append(_against(task, rival, (own, other[asked], true), unit))
    return found


def _against(task: str, rival: str, rows: tuple[Floats, Floats, Floats], unit: Ints) -> Compared:
    _, measure, sign = MEASURES[task]
    own, other, true = rows
    order = np.argsort(unit, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(unit[order])) + 1)
    draws = np.random.default_rng(0)
    gains = []
    for _ in range(DRAWS):
        drawn = np.concatenate([parts[at] for at in draws.integers(len(parts), size=len(parts)).tolist()])
        gains.append(sign * (measure(own[drawn], true[drawn]) - measure(other[drawn], true[drawn])))
    low, high = np.percentile(gains, SPAN)
    return Compared(
        task, rival, measure(own, true), measure(other, true), float(low), float(high), len(parts)
    )
