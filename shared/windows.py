"""The grid and its windows: raw rows at any times in, aligned cells out. One piece for edge, training and replay.

This module says what they are; `shared.grid` makes them.

A cell k covers event times (k - 1) * step < t <= k * step and holds the mean of its rows that are not bad. An
empty cell takes the sensor's last cell for up to `max_age` steps, else it is NaN. A window is the last W cells; its
stamp is its right edge. A cell closes `lateness` steps after event time; what comes later is counted, never used.
Where no sensor speaks for W + max_age steps the grid stops and starts afresh with the next row, so that a gap of
hours costs W + max_age windows and not one a step.

Where a machine has a sensor of its operating point (a set-point or a speed, never a response), windows are scored
only while it stays in the range that training saw, and not until `settle` steps after it came back: a standing machine,
a restart and a set-point never seen are "not learnt", not anomalous. It leaves the range by several cells in a row that
are beyond a margin (`Operating`), not by one reading a hair outside. Nobody can know meanwhile whether it leaves, so
windows that end in those cells are not scored; one that came back sooner was no set-point, and is judged as it is.

Where training taught its operating states (`shared.states`), windows are scored only where W + settle cells lie in one
set-point: off, on the way, at another set-point or at one never seen it is not learnt either.

The rules are bound to a model by `preparation_hash()` in its manifest. A model names the oldest version that has all
the rules that it uses, so that an edge of an older release takes what it can prepare for, and refuses the rest.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.errors import Misconfigured
from shared.states import BETWEEN, StateSpec

PREPARATION_VERSION: Final = 3
STATES_SINCE: Final = 2
MARGIN_SINCE: Final = 3

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def preparation_hash(version: int = PREPARATION_VERSION) -> str:
    """Hash of the rules of this module, `shared.grid` and `shared.states` in a version that this release has.

    A change of any rule raises PREPARATION_VERSION and so the hash. Raises KeyError for a version it does not have.
    """
    rules = {
        "version": version,
        "cell": "(t-step,t]",
        "aggregate": "mean of finite rows not bad, summed in arrival order",
        "empty": "last cell up to max_age, else NaN",
        "gap": "restart after window+max_age cells without a row",
        "operating": "scored while W + settle cells of the operating sensor are in range or empty",
        "lateness": "a cell closes lateness steps after the watermark; later rows are dropped",
        **_ADDED[version],
    }
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()


_STATES: Final = {
    "states": "scored while W + settle cells are in one set-point or empty; off until off + hysteresis is passed, "
    "a set-point left hysteresis beyond its band"
}
_MARGIN: Final = {
    "margin": "the range is left by `leave` cells in a row beyond low - below or high + above and entered by one in low "
    "to high, empty ones not counted; scored W + settle cells after the last one outside, where none is beyond"
}
_ADDED: Final[Mapping[int, Mapping[str, str]]] = {1: {}, 2: _STATES, 3: {**_STATES, **_MARGIN}}


def is_known_preparation(version: int, sha256: str) -> bool:
    """Whether this release prepares windows by that version's rules."""
    return version in _ADDED and preparation_hash(version) == sha256


@dataclass(frozen=True)
class Operating:
    """Which operating points a model knows. With no margin and `leave` 1, the rule of versions 1 and 2.

    Attributes:
        sensor: The sensor of the operating point.
        low: Smallest value that training saw, with what its noise adds, engineering units.
        high: Largest such value.
        settle: Steps after coming back into the range before windows are scored again.
        below: How far below `low` a machine that is in the range may go and stay in it.
        above: How far above `high`.
        leave: Cells in a row beyond that margin by which it leaves.
    """

    sensor: str
    low: float
    high: float
    settle: int
    below: float = 0.0
    above: float = 0.0
    leave: int = 1

    def far(self, values: Floats) -> Bools:
        """Which values lie beyond the margins; NaN does not."""
        far: Bools = (values < self.low - self.below) | (values > self.high + self.above)
        return far

    def beyond(self, value: float, before: int) -> int:
        """How many cells in a row are outside with this one, `leave` where it left; `before`: with the last one."""
        if before >= self.leave:
            return 0 if self.low <= value <= self.high else before
        return 0 if self.low - self.below <= value <= self.high + self.above else before + 1


@dataclass(frozen=True)
class GridSpec:
    """How one machine's rows become windows.

    Attributes:
        sensors: The columns S, in the model's order.
        step_us: Width of a cell in µs.
        window: Cells in a window, W.
        max_age: For how many steps a sensor's last cell stands in for an empty one.
        lateness: How many steps after event time a cell closes.
        mask_limit: A window with a larger share of empty cells is not scored.
        operating: Which operating points are scored, None = all.
        states: Instead, by which set-points: only windows steady at one of them are scored.
    """

    sensors: tuple[str, ...]
    step_us: int
    window: int
    max_age: int = 3
    lateness: int = 2
    mask_limit: float = 0.2
    operating: Operating | None = None
    states: StateSpec | None = None

    def __post_init__(self) -> None:
        if not self.sensors or self.step_us <= 0 or self.window <= 0 or min(self.max_age, self.lateness) < 0:
            raise Misconfigured(
                f"a grid of {len(self.sensors)} sensors, step {self.step_us} µs, window {self.window}, "
                f"max_age {self.max_age}, lateness {self.lateness} can't be built",
                hint="give at least one sensor, a positive step and window, and no negative ages",
            )
        for point in (self.operating, self.states):
            if point is not None and point.sensor not in self.sensors:
                raise Misconfigured(
                    f"the operating sensor {point.sensor!r} is not among the sensors",
                    hint=f"name one of {', '.join(self.sensors)}",
                )

    @property
    def settle(self) -> int:
        """Steps at a known operating point before windows are scored."""
        if self.states is not None:
            return -(-self.states.settle_us // self.step_us)
        return 0 if self.operating is None else self.operating.settle

    def learnt(self, values: Floats) -> Bools:
        """Of windows float64[n, W, S]: whether all of each is at one learnt operating point. An empty cell is neither."""
        if self.states is not None:
            points = values[:, :, self.sensors.index(self.states.sensor)]
            return np.array([self._steady(self.states, window) for window in points.tolist()], dtype=np.bool_)
        if self.operating is not None:
            points = values[:, :, self.sensors.index(self.operating.sensor)]
            stays = np.logical_not(self.operating.far(points).any(axis=1), dtype=np.bool_)
            for at in np.flatnonzero(~stays).tolist():
                stays[at] = self._stays(self.operating, points[at].tolist())
            return stays
        return np.ones(len(values), dtype=np.bool_)

    @staticmethod
    def _stays(point: Operating, window: list[float]) -> bool:
        beyond = 0
        for value in window:
            if math.isfinite(value) and beyond < point.leave:
                beyond = point.beyond(value, beyond)
        return beyond == 0

    @staticmethod
    def _steady(states: StateSpec, window: list[float]) -> bool:
        place = BETWEEN
        seen = set()
        for value in window:
            if math.isfinite(value):
                place = states.place(value, place)
                seen.add(place)
        return len(seen) <= 1 and min(seen, default=0) >= 0

    @property
    def reach(self) -> int:
        """Steps after the last row for which windows still appear; after that every cell of a window is empty."""
        return self.window + self.max_age


@dataclass(frozen=True)
class Windows:
    """Closed windows in order of time.

    Attributes:
        times_us: int64[n], right edges.
        values: float64[n, W, S] in engineering units, NaN = empty.
        masked: float64[n], share of empty cells.
        scorable: bool[n], False where `masked` exceeds the limit or the operating point is not learnt (or has not
            settled): such a window has no score.
    """

    times_us: Ints
    values: Floats
    masked: Floats
    scorable: Bools

    def __len__(self) -> int:
        return len(self.times_us)


@dataclass(frozen=True)
class Cells:
    """A whole recording on the grid, held without repeating a cell W times.

    Attributes:
        spec: The grid.
        times_us: int64[n], right edge of each cell; strictly increasing, with jumps where the grid restarted.
        cells: float64[n, S], with last values held; NaN = empty.
        known: bool[n], whether the operating point is learnt and settled in the window that ends here.
    """

    spec: GridSpec
    times_us: Ints
    cells: Floats
    known: Bools

    def __len__(self) -> int:
        return len(self.times_us)

    def windows(self, first: int = 0, last: int | None = None, *, chunk: int = 2048) -> Iterator[Windows]:
        """The windows that end at cells `first` to `last` (exclusive), at most `chunk` at a time."""
        count = len(self) if last is None else min(last, len(self))
        for begin in range(first, count, chunk):
            yield self.gather(np.arange(begin, min(begin + chunk, count)))

    def gather(self, ends: Ints) -> Windows:
        """The windows that end at the cells numbered `ends`."""
        reach = ends[:, None] + np.arange(1 - self.spec.window, 1)[None, :]
        values = self.cells[np.maximum(reach, 0)]
        values[reach < 0] = np.nan
        return windows_of(self.spec, self.times_us[ends], values, self.known[ends])


def windows_of(spec: GridSpec, times_us: Ints, values: Floats, known: Bools) -> Windows:
    """Windows of a grid: float64[n, W, S] and whether the operating point of each is learnt and settled."""
    masked = np.isnan(values).mean(axis=(1, 2)) if len(values) else np.zeros(0)
    return Windows(times_us, values, masked, (masked <= spec.mask_limit) & known)
