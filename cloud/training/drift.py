"""Why a machine no longer looks as it did, in the order in which it must be asked. Pure numpy.

Each sensor at each operating state is compared with the baseline on means of blocks (a block is the time after which
left-overs know nothing of each other): Student's t, Benjamini and Hochberg at q 0.05 over all of them (J. R. Stat.
Soc. B 57 (1995)), and a shift that matters, since a week of cells proves shifts that nobody would care for. Then:

1. a data fault: a sensor that stands still, is silent or out of all range, or moves alone while its predictors hold;
2. a state that was never seen;
3. maintenance within 72 hours: a new baseline is proposed, and a person confirms it;
4. several sensors that move away gradually, or under an open alarm: degradation, which is never retrained away;
5. else the world has changed: a challenger.

The baseline is that of the first model since a person last confirmed one, never that of the newest: a wear that each
retraining takes in a little of would never be seen.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from cloud.training.expected import Expected, History, Reference, block_means
from shared.windows import Bools, Floats, Ints

Q: Final = 0.05
MATTERS: Final = 2.0  # spreads of a left-over: a smaller shift is nobody's business yet
LEVEL_MATTERS: Final = 1.5  # spreads of a level at one state
HOLDS: Final = 0.4  # spreads: a predictor that moved by less holds
PULLED: Final = 0.08  # of the suspect's shift: a predictor that moved by less holds too
RECENT_BLOCKS: Final = 4
STUCK_US: Final = 3_600_000_000
SILENT: Final = 0.5  # share of the recent cells
BEYOND: Final = 0.01  # the same
WILD: Final = 8.0  # spreads of a left-over
UNSEEN: Final = 0.05  # the same, of the running ones
ALARMED: Final = 0.2  # share of the recent time under an open alarm
GRADUAL_DAYS: Final = 2  # days on the way between a fifth and four fifths of the shift
RANKED: Final = 0.4  # Kendall's tau of the days' means
MAINTENANCE_US: Final = 72 * 3_600_000_000
DAY_US: Final = 86_400_000_000
OFF_OR_MOVING: Final = -1
NEVER_SEEN: Final = -2


class Kind(StrEnum):
    """What a change is."""

    NONE = "none"
    DATA_FAULT = "data-fault"
    NEW_STATE = "new-state"
    MAINTENANCE = "maintenance"
    DEGRADATION = "degradation"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class Moved:
    """A sensor's shift: in spreads of its left-over (or of its level), at the state where it is largest."""

    sensor: int
    state: int
    shift: float
    level: bool = False


@dataclass(frozen=True, slots=True)
class Triage:
    """What a change is, by which sensors, since when (0 where that has no meaning), and why in words."""

    kind: Kind
    sensors: tuple[int, ...] = ()
    onset_us: int = 0
    reason: str = ""
    moved: tuple[Moved, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time [from, to] in µs."""

    from_us: int
    to_us: int


NOTHING: Final = Triage(Kind.NONE)


def triage(
    reference: Reference,
    since: History,
    recent_from_us: int,
    *,
    names: Sequence[str],
    maintenance: Sequence[Span] = (),
    alarmed: float = 0.0,
) -> Triage:
    """Why the machine changed.

    Args:
        reference: The baseline.
        since: Everything after it.
        recent_from_us: What is compared is later than this; what came before says since when.
        names: Of the sensors, for words.
        maintenance: When somebody worked on the machine.
        alarmed: Share of the recent time under an open alarm.
    """
    recent = since.since(recent_from_us)
    fault = broken(reference, recent, names)
    if fault is not None:
        return fault
    moved = shifts(reference, recent)
    residual = [one for one in moved if not one.level]
    alone = _alone(reference, recent, residual)
    if alone:
        onset, _ = _course(reference, since, alone[0])
        said = " or ".join(f"{names[one.sensor]} moved by {one.shift:+.1f} spreads" for one in alone)
        reason = f"{said} while what predicts it holds"
        return Triage(Kind.DATA_FAULT, tuple(one.sensor for one in alone), onset, reason, tuple(moved))
    unseen = _unseen(recent)
    if unseen > UNSEEN:
        first = int(recent.times_us[recent.state == NEVER_SEEN][0])
        return Triage(
            Kind.NEW_STATE, (), first, f"{unseen:.0%} of the running time is at an operating point never seen"
        )
    if not moved:
        return NOTHING
    return _explained(reference, since, moved, names, maintenance, alarmed)


def _explained(
    reference: Reference,
    since: History,
    moved: Sequence[Moved],
    names: Sequence[str],
    maintenance: Sequence[Span],
    alarmed: float,
) -> Triage:
    first = max(moved, key=lambda one: (not one.level, abs(one.shift)))
    onset, _ = _course(reference, since, first)
    sensors = tuple(dict.fromkeys(one.sensor for one in moved))
    said = ", ".join(f"{names[one.sensor]} {one.shift:+.1f}" for one in moved if one.level == first.level)
    for span in maintenance:
        if span.from_us - DAY_US <= onset <= span.to_us + MAINTENANCE_US:
            reason = f"moved within 72 h of maintenance ({said} spreads): a new baseline is proposed"
            return Triage(Kind.MAINTENANCE, sensors, onset, reason, tuple(moved))
    residual = [one for one in moved if not one.level]
    gradual = [one for one in _not_holding(reference, since, residual) if _course(reference, since, one)[1]]
    if residual and residual[0] in gradual and len(gradual) > 1:
        sensors = tuple(one.sensor for one in gradual)
        reason = f"moves away gradually ({said} spreads): degradation"
        return Triage(Kind.DEGRADATION, sensors, onset, reason, tuple(moved))
    if residual and alarmed >= ALARMED:
        reason = f"moved ({said} spreads) under an alarm that is open for {alarmed:.0%} of the time"
        return Triage(Kind.DEGRADATION, sensors, onset, reason, tuple(moved))
    return Triage(Kind.DRIFT, sensors, onset, f"moved and stays there ({said} spreads)", tuple(moved))


# Data faults


def broken(reference: Reference, recent: History, names: Sequence[str]) -> Triage | None:
    """A sensor that stands still, is silent or out of all range while the machine runs; None if there is none.

    Out of all range is what lies beyond what was seen by as much again, and is not what the other sensors expect: on a
    hot day they say so too.
    """
    running = recent.part(recent.state != OFF_OR_MOVING)
    usual = reference.history.part(reference.history.state >= 0)
    if len(running.times_us) < 2 or not len(usual.times_us):  # noqa: PLR2004 - a step needs two
        return None
    for sensor, name in enumerate(names):
        own, known = running.cells[:, sensor], usual.cells[:, sensor]
        if np.isnan(own).mean() > SILENT and np.isnan(known).mean() < BEYOND * 10:
            return Triage(Kind.DATA_FAULT, (sensor,), 0, f"{name} is silent")
        if not np.isfinite(known).any():
            continue
        low, high = np.nanquantile(known, [0.001, 0.999])
        reach = max(high - low, 1e-9 * (1 + abs(high)))
        far = ((own < low - reach) | (own > high + reach)) & _unexpected(reference, running, sensor)
        if far.mean() > BEYOND:
            at = int(running.times_us[far][0])
            return Triage(Kind.DATA_FAULT, (sensor,), at, f"{name} is out of all range for {far.mean():.0%}")
        still = stuck(recent.times_us, recent.cells[:, sensor])
        if still and not stuck(reference.history.times_us, reference.history.cells[:, sensor]):
            return Triage(
                Kind.DATA_FAULT, (sensor,), still[0].from_us,
                f"{name} stands still for {(still[0].to_us - still[0].from_us) / 3.6e9:.1f} h",
            )  # fmt: skip
    return None


def _unexpected(reference: Reference, running: History, sensor: int) -> Bools:
    """Where a sensor is far from what the others expect of it; everywhere at states that say nothing."""
    far = np.ones(len(running.state), np.bool_)
    for state in reference.states:
        known = reference.expected(state, sensor)
        mine = running.state == state
        if known is not None and known.weights is not None:
            far[mine] = np.abs(known.left_over(running.cells[mine])) > WILD * known.spread
    return far


def stuck(times_us: Ints, own: Floats, at_least_us: int = STUCK_US) -> list[Span]:
    """Where a sensor says exactly the same for so long."""
    if len(own) < 2:  # noqa: PLR2004 - a step needs two
        return []
    same = np.diff(own) == 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    spans = [Span(int(times_us[a]), int(times_us[b])) for a, b in edges.reshape(-1, 2).tolist()]
    return [span for span in spans if span.to_us - span.from_us >= at_least_us]


def _unseen(recent: History) -> float:
    running = recent.state != OFF_OR_MOVING
    return float((recent.state[running] == NEVER_SEEN).mean()) if running.any() else 0.0


# Shifts


def shifts(reference: Reference, recent: History, left_out: tuple[int, ...] = ()) -> list[Moved]:
    """What moved, the most first: each sensor at most once as left-over and once as level."""
    tests: list[tuple[Moved, float]] = []
    for state in reference.states:
        cells = recent.cells[recent.state == state]
        for sensor in range(reference.sensors):
            if sensor in left_out:
                continue
            for level in (False, True) if not left_out else (False,):
                known = reference.expected(state, sensor, left_out, level=level)
                found = None if known is None else _tested(known, cells)
                if found is not None:
                    tests.append((Moved(sensor, state, found[0], level), found[1]))
    significant = benjamini_hochberg(np.array([p for _, p in tests]), Q)
    best: dict[tuple[bool, int], Moved] = {}
    for (one, _), chosen in zip(tests, significant.tolist(), strict=True):
        bar = LEVEL_MATTERS if one.level else MATTERS
        before = best.get((one.level, one.sensor))
        if chosen and abs(one.shift) >= bar and (before is None or abs(one.shift) > abs(before.shift)):
            best[one.level, one.sensor] = one
    return sorted(best.values(), key=lambda one: (one.level, -abs(one.shift), one.sensor))


def _tested(known: Expected, cells: Floats) -> tuple[float, float] | None:
    """The shift in spreads, and its p; None for too few blocks."""
    means = block_means(known.left_over(cells), known.block)
    if len(means) < RECENT_BLOCKS:
        return None
    shift = float(means.mean()) - known.mean
    error = known.deviation * math.sqrt(1 / known.blocks + 1 / len(means))
    return shift / known.spread, two_sided(shift / max(error, 1e-300), known.blocks - 1)


def two_sided(t: float, freedom: int) -> float:
    """Student's two-sided tail, by Wallace's transform to a normal (Ann. Math. Stat. 30 (1959))."""
    z = (8 * freedom + 1) / (8 * freedom + 3) * math.sqrt(freedom * math.log1p(t * t / freedom))
    return math.erfc(z / math.sqrt(2))


def benjamini_hochberg(p: Floats, q: float) -> Bools:
    """Which of the hypotheses are rejected with a false discovery rate of at most q."""
    if not len(p):
        return np.zeros(0, np.bool_)
    order = np.argsort(p, kind="stable")
    below = np.flatnonzero(p[order] <= q * np.arange(1, len(p) + 1) / len(p))
    rejected = np.zeros(len(p), np.bool_)
    if len(below):
        rejected[order[: below[-1] + 1]] = True
    return rejected


def _alone(reference: Reference, recent: History, residual: Sequence[Moved]) -> list[Moved]:
    """Sensors whose removal leaves everything else where it was: more than one where two are known from each other alone.

    A sensor that drifts pulls along what is expected from it: so the others are expected again without it.
    """
    return [
        suspect
        for suspect in residual
        if reference.sensors > 1
        and all(
            _holds(reference, recent, sensor, suspect)
            for sensor in range(reference.sensors)
            if sensor != suspect.sensor
        )
    ]


def _holds(reference: Reference, recent: History, sensor: int, suspect: Moved) -> bool:
    """Whether a sensor is where it was, as far as the others without the suspect can tell."""
    bar = max(HOLDS, PULLED * abs(suspect.shift))
    for state in reference.states:
        known = reference.expected(state, sensor, (suspect.sensor,))
        whole = reference.expected(state, sensor)
        if known is None or whole is None:
            continue
        found = _tested(known, recent.cells[recent.state == state])
        # In spreads of the sharper readout: one that needs the suspect to see anything must not acquit it.
        if found is not None and found[1] < Q and abs(found[0]) * known.spread >= bar * whole.spread:
            return False
    return True


def _not_holding(reference: Reference, since: History, residual: Sequence[Moved]) -> list[Moved]:
    """Left-overs that moved, and those on their way: beyond what counts as holding."""
    found = {one.sensor: one for one in residual}
    recent = since.since(int(since.times_us[-1]) - 7 * DAY_US)
    for state in reference.states:
        for sensor in range(reference.sensors):
            known = reference.expected(state, sensor)
            tested = None if known is None else _tested(known, recent.cells[recent.state == state])
            if sensor not in found and tested is not None and abs(tested[0]) >= HOLDS and tested[1] < Q:
                found[sensor] = Moved(sensor, state, tested[0])
    return list(found.values())


# Courses


def _course(reference: Reference, since: History, one: Moved) -> tuple[int, bool]:
    """Since when a sensor is on its way to where it is, and whether it went there gradually."""
    known = reference.expected(one.state, one.sensor, level=one.level)
    if known is None:
        return 0, False
    mine = since.state == one.state
    left = known.left_over(since.cells[mine])
    days, means = daily(since.times_us[mine], left)
    # As shares of the way: 0 is the baseline, 1 where it is now.
    way = (means - known.mean) / (known.spread * one.shift)
    below = np.flatnonzero(way < 0.2)  # noqa: PLR2004 - a fifth
    first = int(below[-1]) + 1 if len(below) else 0
    onset = int(days[min(first, len(days) - 1)])
    between = int(((way > 0.2) & (way < 0.8)).sum())  # noqa: PLR2004 - a fifth, four fifths
    return onset, between >= GRADUAL_DAYS and kendall(way) >= RANKED


def daily(times_us: Ints, left: Floats) -> tuple[Ints, Floats]:
    """The days' first moments, and the means of what they have."""
    finite = np.isfinite(left)
    days, places = np.unique(times_us[finite] // DAY_US, return_inverse=True)
    sums = np.bincount(places, left[finite], len(days))
    means: Floats = sums / np.maximum(np.bincount(places, minlength=len(days)), 1)
    return days * DAY_US, means


def kendall(values: Floats) -> float:
    """Kendall's tau of values against their order: 1 rises always, 0 no order."""
    count = len(values)
    if count < 2:  # noqa: PLR2004 - no pair
        return 0.0
    signs = np.sign(values[None, :] - values[:, None])
    return float(np.triu(signs, 1).sum() / (count * (count - 1) / 2))


def alarmed_share(spans: Iterable[Span], from_us: int, to_us: int) -> float:
    """Share of [from, to] that is covered by spans, which may overlap."""
    covered, reached = 0, from_us
    for span in sorted(spans, key=lambda each: each.from_us):
        begin, end = max(span.from_us, reached), min(span.to_us, to_us)
        covered += max(end - begin, 0)
        reached = max(reached, end)
    return covered / max(to_us - from_us, 1)
