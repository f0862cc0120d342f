"""The operating state of a machine, from the one sensor that says what it was told to do; and what it ran up meanwhile.

States: `off`, `starting`, `steady(k)` at the k-th learnt set-point, `stopping`, `unknown`. The sensor is a set-point, a
speed or a signal, never a response: a response moves with the fault that is looked for. Three teachers give the same
`StateSpec`: a rule (a threshold), a signal (the values that it takes), or the clusters of the set-points in training rows.

Both ways of hysteresis: `off` holds until the value passes `off + hysteresis`, a set-point until the value is
`hysteresis` outside its band. `steady` needs `settle_us` in one band. A value that stays longer than that outside every
band is `unknown`: not learnt, which is not the same as anomalous.

One piece for the edge's rows and the grid's cells. A change of any rule here raises the preparation's version.
"""

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt

from shared.errors import Misconfigured, Rejected

Teacher = Literal["rule", "signal", "clusters"]

MAX_LEVELS: Final = 32
OFF: Final = -1
BETWEEN: Final = -2
GAP_US: Final = 60_000_000
"""A longer silence is no running time: nobody knows what the machine did."""

_FIRST_GAP: Final = 5.0  # in noise widths: the smallest distance between two set-points


class Phase(StrEnum):
    """What a machine is doing."""

    OFF = "off"
    STARTING = "starting"
    STEADY = "steady"
    STOPPING = "stopping"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class OperatingState:
    """A phase, and which set-point it is steady at (-1 in every other phase)."""

    phase: Phase
    level: int = -1

    def __str__(self) -> str:
        return f"steady({self.level})" if self.phase is Phase.STEADY else str(self.phase)


UNKNOWN: Final = OperatingState(Phase.UNKNOWN)


@dataclass(frozen=True)
class StateSpec:
    """How a machine's state is told.

    Attributes:
        sensor: The sensor of the operating point.
        off: At or below this the machine is off.
        levels: (low, high) of each learnt set-point, rising, apart from each other.
        hysteresis: How far a value must pass a border for it to count, in the sensor's unit.
        settle_us: How long in one band until it is steady there.
        taught: Who taught it.
    """

    sensor: str
    off: float
    levels: tuple[tuple[float, float], ...]
    hysteresis: float
    settle_us: int
    taught: Teacher

    def __post_init__(self) -> None:
        borders = [self.off, *(border for level in self.levels for border in level)]
        ordered = all(a <= b for a, b in pairwise(borders))
        if not 1 <= len(self.levels) <= MAX_LEVELS or not ordered or min(self.hysteresis, self.settle_us) < 0:
            raise Misconfigured(
                f"operating states by {self.sensor!r}: off {self.off:g}, set-points {self.levels}",
                hint=f"give 1 to {MAX_LEVELS} set-points as low, high in rising order above off, and nothing negative",
            )

    def place(self, value: float, before: int) -> int:
        """OFF, a set-point's number, or BETWEEN, given where the value was before."""
        if value <= (self.off + self.hysteresis if before == OFF else self.off):
            return OFF
        if before >= 0:
            low, high = self.levels[before]
            if low - self.hysteresis <= value <= high + self.hysteresis:
                return before
        return next((k for k, (low, high) in enumerate(self.levels) if low <= value <= high), BETWEEN)


@dataclass(frozen=True, slots=True)
class Totals:
    """What a machine ran up since it was first watched. They only grow: a part's own count is a difference of two.

    Attributes:
        run_us: Time not off.
        starts: How often it left `off`.
        cycles: How often it came back to `off` after it had been steady.
    """

    run_us: int = 0
    starts: int = 0
    cycles: int = 0

    def since(self, earlier: "Totals") -> "Totals":
        """What came on top of `earlier`."""
        return Totals(
            self.run_us - earlier.run_us, self.starts - earlier.starts, self.cycles - earlier.cycles
        )


@dataclass(slots=True)
class StateMachine:
    """Follows one machine. `take` wants rows in order of event time; an older row changes nothing."""

    spec: StateSpec
    state: OperatingState = UNKNOWN
    totals: Totals = field(default_factory=Totals)
    time_us: int | None = None
    since_us: int = 0  # of the place
    _place: int | None = None
    _left: float = 0.0  # the last value while settled: what rises from it is a start
    _rising: bool = True
    _was_steady: bool = False  # since the last time it was off

    def take(self, time_us: int, value: float) -> OperatingState:
        """The state with this value of the operating sensor; NaN is silence: unknown, and time goes on."""
        before = self.time_us
        if before is not None and time_us <= before:
            return self.state
        if not np.isfinite(value):
            self.state = UNKNOWN
            return self.state
        self.time_us = time_us
        place = self.spec.place(value, BETWEEN if self._place is None else self._place)
        silent = before is not None and time_us - before > GAP_US
        if before is not None and not silent and self._place != OFF:
            self.totals = replace(self.totals, run_us=self.totals.run_us + time_us - before)
        if place != self._place or silent:
            self._move(place, time_us, rising=value >= self._left)
        self.state = self._judge(time_us)
        if self.state.phase in {Phase.OFF, Phase.STEADY}:
            self._left = value
        self._was_steady |= self.state.phase is Phase.STEADY
        return self.state

    def at(self, now_us: int) -> OperatingState:
        """The state at a later moment: unknown after a silence."""
        return UNKNOWN if self.time_us is None or now_us - self.time_us > GAP_US else self.state

    def _move(self, place: int, time_us: int, *, rising: bool) -> None:
        """The place changed, or nobody knows whether it did meanwhile: then it settles anew."""
        totals = self.totals
        if self._place == OFF and place != OFF:
            totals = replace(totals, starts=totals.starts + 1)
        if place == OFF and self._was_steady:
            totals = replace(totals, cycles=totals.cycles + 1)
        if place == OFF:
            self._was_steady = False
        self.totals, self._place, self.since_us, self._rising = totals, place, time_us, rising

    def _judge(self, time_us: int) -> OperatingState:
        if self._place == OFF:
            return OperatingState(Phase.OFF)
        settled = time_us - self.since_us >= self.spec.settle_us
        if self._place is not None and self._place >= 0 and settled:
            return OperatingState(Phase.STEADY, self._place)
        if self._place == BETWEEN and settled:
            return UNKNOWN
        return OperatingState(Phase.STARTING if self._rising else Phase.STOPPING)

    def to_json(self) -> dict[str, Any]:
        """What `resume` needs, for JSON."""
        return {
            "spec": asdict(self.spec),
            "state": [str(self.state.phase), self.state.level],
            "totals": [self.totals.run_us, self.totals.starts, self.totals.cycles],
            "at": [self.time_us, self.since_us, self._place, self._left, self._rising, self._was_steady],
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Self:
        """Go on from `to_json`. Raises Rejected for anything else."""
        try:
            raw = dict(kept["spec"])
            levels = tuple((float(low), float(high)) for low, high in raw.pop("levels"))
            made = cls(
                StateSpec(levels=levels, **raw), totals=Totals(*(int(each) for each in kept["totals"]))
            )
            phase, level = kept["state"]
            made.state = OperatingState(Phase(phase), int(level))
            made.time_us, made.since_us, made._place, *rest = kept["at"]
            made._left, made._rising, made._was_steady = rest
        except (KeyError, TypeError, ValueError, Misconfigured) as error:
            raise Rejected(f"not an operating state: {error}") from error
        return made


def by_signal(sensor: str, values: tuple[float, ...], *, off: float, settle_us: int) -> StateSpec:
    """Each of `values` is a set-point of its own, up to halfway to its neighbours, at most a half each way."""
    points = sorted(set(values))
    if points[0] <= off:
        raise Misconfigured(
            f"{sensor} at {points[0]:g} is off, not a state", hint=f"name values above {off:g}"
        )
    edges = [off, *points]
    reach = [min((b - a) / 4, 0.5) for a, b in pairwise(edges)]
    levels = tuple((p - r, p + r) for p, r in zip(points, _narrower(reach), strict=True))
    return StateSpec(sensor, off, levels, 0.0, settle_us, "signal")


def _narrower(reach: list[float]) -> list[float]:
    return [min(a, b) for a, b in zip(reach, [*reach[1:], reach[-1]], strict=True)]


def by_clusters(
    sensor: str, values: npt.ArrayLike, *, off: float, noise: float, settle_us: int, share: float = 0.01
) -> StateSpec:
    """The set-points of a recording: where its values lie thick, with nothing between them.

    Values further apart than five noise widths belong to different set-points. One with less than `share` of the
    rows is passing through, not a set-point.

    Args:
        sensor: The sensor of the operating point.
        values: float64[n], its rows while the machine was well; not finite ones are passed over.
        off: At or below this the machine is off.
        noise: The sensor's standard deviation at a held set-point, in its unit.
        settle_us: How long until it is steady.
        share: Smallest share of the running rows that makes a set-point.

    Raises:
        Rejected: The machine never ran, or its set-points can't be told apart from one another.
    """
    seen = np.asarray(values, dtype=np.float64)
    running = np.sort(seen[np.isfinite(seen) & (seen > off)])
    if not len(running):
        raise Rejected(f"{sensor} never rose above {off:g}: the machine never ran")
    width = max(noise, np.finfo(np.float64).eps * max(abs(float(running[-1])), 1.0))
    parts = np.split(running, np.flatnonzero(np.diff(running) > _FIRST_GAP * width) + 1)
    kept = [part for part in parts if len(part) >= share * len(running)]
    if not 1 <= len(kept) <= MAX_LEVELS:
        raise Rejected(f"{sensor} has {len(kept)} set-points; 1 to {MAX_LEVELS} can be told apart")
    levels = tuple((max(float(part[0]) - width, off), float(part[-1]) + width) for part in kept)
    return StateSpec(sensor, off, levels, 2 * width, settle_us, "clusters")
