"""What age alone says of remaining life: the lives of the units that failed."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from shared.windows import Floats

TIE: Final = 1e-12  # of a share: what rounding may be
OUTLIVERS: Final = 8  # units that must have lived longer; with fewer the last age that had them speaks


@dataclass(frozen=True)
class Survival:
    """Lives of units that ran to failure.

    Attributes:
        lives: float64[U], ascending.
    """

    lives: Floats

    def quantile(self, age: Floats, share: float) -> Floats:
        """float64[n], the quantile of what was left to the units that reached each age; never negative."""
        enough = min(OUTLIVERS, len(self.lives))
        begin = np.searchsorted(self.lives, age, side="right")
        begin = np.minimum(begin, len(self.lives) - enough)
        left = len(self.lives) - 1 - begin
        place = begin + share * left
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, len(self.lives) - 1)
        life = self.lives[low] + (place - low) * (self.lives[high] - self.lives[low])
        known = np.minimum(age, self.lives[begin])  # past it nobody tells: the rest stays as long as there
        return np.asarray(np.maximum(life - known, 0.0))


def learn_survival(lives: Floats, running: Floats | None = None) -> Survival:
    """From the lives of units that failed, and the ages of those that had not failed yet (right-censored).

    With the latter, as many lives as there are units stand at the evenly spaced quantiles of the product-limit estimate
    (Kaplan and Meier, 1958); what it leaves beyond the last event is put there (Efron, 1967). Without, these are the lives.
    """
    ages = np.zeros(0) if running is None else running
    time = np.concatenate([lives, ages])
    failed = np.concatenate([np.ones(len(lives), dtype=np.bool_), np.zeros(len(ages), dtype=np.bool_)])
    order = np.lexsort(
        (~failed, time)
    )  # who failed at an age was at risk with those that were censored there
    time, failed = time[order], failed[order]
    at_risk = len(time) - np.arange(len(time))
    gone = 1 - np.cumprod(np.where(failed, 1 - 1 / at_risk, 1.0))
    gone[-1] = 1.0
    places = (np.arange(len(time)) + 0.5) / len(time)
    return Survival(time[np.searchsorted(gone, places - TIE)])
