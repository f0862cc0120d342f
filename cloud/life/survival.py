"""What age alone says of remaining life: the lives of the units that failed."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from shared.windows import Floats

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


def learn_survival(lives: Floats) -> Survival:
    """From the lives of units that failed."""
    return Survival(np.sort(lives))
