"""Champion against challenger: paired differences over the same windows, their intervals, and what follows. Pure numpy.

Blocks of eight hours are drawn again and again (B. Efron's bootstrap, by blocks because windows next to each other say the
same), each with both models' episodes, so that what a block does to both cancels out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np

from shared.windows import Bools, Floats, Ints

BLOCK_US: Final = 8 * 3_600_000_000
MONTH_H: Final = 720.0
DRAWS: Final = 2000
LEVEL: Final = 0.9
CONFIRMED_MIN: Final = 5
"""Confirmed events from which a challenger may be promoted with nobody asked."""
FALSE_MORE: Final = 0.5
"""False episodes a machine-month by which the upper bound may be above the champion's."""


class Outcome(StrEnum):
    """What follows from a contest."""

    PROMOTE = "promote"
    APPROVE = "approve"
    """Better by a proxy: an engineer decides."""
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Found:
    """What a model made of E events: whether it found each, and how long before its end, in hours (0 if not)."""

    found: Bools
    lead_h: Floats


@dataclass(frozen=True, slots=True)
class Run:
    """A model over the replay: onsets of false episodes, and what it made of confirmed events and of the panel's faults."""

    false_us: Ints
    events: Found
    panel: Found


@dataclass(frozen=True, slots=True)
class Course:
    """What both ran over. `windows_us`: right edges of windows that both could score; events by when they began."""

    windows_us: Ints
    step_us: int
    events_us: Ints
    panel_us: Ints


@dataclass(frozen=True, slots=True)
class Cost:
    """What the challenger takes beside what it may: ms for one window (99 of 100), MB of memory."""

    p99_ms: float
    rss_mb: float
    p99_most: float = 50.0
    rss_most: float = 300.0

    @property
    def too_much(self) -> bool:
        """Whether it is over a budget."""
        return self.p99_ms > self.p99_most or self.rss_mb > self.rss_most


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference, challenger less champion, with its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Contest:
    """How it ended and why. `proxy`: the events are synthetic faults, for want of confirmed ones."""

    outcome: Outcome
    proxy: bool
    confirmed: int
    lost: int
    found: Interval
    lead_h: Interval
    false_month: Interval
    panel_found: Interval
    cost: Cost
    reasons: tuple[str, ...] = field(default=())

    def figures(self) -> dict[str, float]:
        """By name, for events, cards and logs."""
        named = {
            "found": self.found, "lead_hours": self.lead_h, "false_month": self.false_month,
            "panel_found": self.panel_found,
        }  # fmt: skip
        bounds = {
            f"{name}{end}": getattr(interval, part)
            for name, interval in named.items()
            for end, part in (("", "value"), (".low", "low"), (".high", "high"))
        }
        return bounds | {
            "confirmed": float(self.confirmed), "lost": float(self.lost), "p99_ms": self.cost.p99_ms,
            "rss_mb": self.cost.rss_mb,
        }  # fmt: skip


def hold(
    champion: Run,
    challenger: Run,
    course: Course,
    cost: Cost,
    *,
    seed: int,
    blind: Sequence[str] = (),
    trusted: bool = True,
    confirmed_min: int = CONFIRMED_MIN,
) -> Contest:
    """The contest of two models over one course. Deterministic in its arguments.

    `blind`: sensors that the champion judges and the challenger does not, because they stood still in its rows.
    `confirmed_min`: with fewer confirmed events the panel stands in for them, and a person decides.
    `trusted`: the rows that the champion was calibrated with are among the grounds; without them a person decides.
    """
    blocks = np.unique(course.windows_us // BLOCK_US)
    draws = np.random.default_rng([seed, 11]).integers(0, max(len(blocks), 1), (DRAWS, len(blocks)))
    confirmed = len(course.events_us)
    proxy = confirmed < confirmed_min
    panel = (champion.panel, challenger.panel, course.panel_us)
    judged = panel if proxy else (champion.events, challenger.events, course.events_us)
    false = _false(champion, challenger, course, blocks, draws)
    found = _events(judged[0].found, judged[1].found, judged[2], blocks, draws)
    lead = _events(judged[0].lead_h, judged[1].lead_h, judged[2], blocks, draws)
    on_panel = _events(panel[0].found, panel[1].found, panel[2], blocks, draws)
    lost = int((champion.events.found & ~challenger.events.found).sum())
    reasons = [f"it does not judge {', '.join(blind)}"] if blind else []
    reasons += _against(lost, false, on_panel, cost, blocks)
    better = [
        name
        for name, is_better in (
            ("finds more", found.low > 0),
            ("finds earlier", lead.low > 0),
            ("raises fewer false episodes", false.high < 0),
        )
        if is_better
    ]
    if not reasons and not better:
        reasons = ["it is no better in anything"]
    asked = proxy or not trusted
    outcome = Outcome.KEEP if reasons else Outcome.APPROVE if asked else Outcome.PROMOTE
    return Contest(
        outcome, proxy, confirmed, lost, found, lead, false, on_panel, cost, tuple(reasons or better)
    )


def _against(lost: int, false: Interval, panel: Interval, cost: Cost, blocks: Ints) -> list[str]:
    said = []
    if not len(blocks):
        said.append("there is nothing to replay")
    if lost:
        said.append(f"it loses {lost} confirmed events")
    if false.high > FALSE_MORE:
        said.append(f"it may raise {false.high:.1f} more false episodes a month")
    if panel.high < 0:
        said.append(f"it finds {-panel.value:.0%} fewer of the panel's faults")
    if cost.too_much:
        said.append(f"it takes {cost.p99_ms:.1f} ms a window and {cost.rss_mb:.0f} MB")
    return said


def _false(champion: Run, challenger: Run, course: Course, blocks: Ints, draws: Ints) -> Interval:
    """Difference of false episodes a machine-month."""
    if not len(blocks):
        return Interval(0.0, 0.0, 0.0)
    hours = _per_block(course.windows_us, blocks) * course.step_us / 3.6e9
    more = _per_block(challenger.false_us, blocks) - _per_block(champion.false_us, blocks)
    drawn = more[draws].sum(axis=1) / hours[draws].sum(axis=1) * MONTH_H
    return _interval(float(more.sum() / hours.sum() * MONTH_H), drawn)


def _per_block(times_us: Ints, blocks: Ints) -> Floats:
    places = np.searchsorted(blocks, times_us // BLOCK_US)
    counted: Floats = np.bincount(places[places < len(blocks)], minlength=len(blocks)).astype(np.float64)
    return counted


def _events(
    before: Floats | Bools, after: Floats | Bools, begins_us: Ints, blocks: Ints, draws: Ints
) -> Interval:
    """Mean difference over events; drawn with the blocks in which they began."""
    if not len(begins_us) or not len(blocks):
        return Interval(0.0, 0.0, 0.0)
    more = after.astype(np.float64) - before.astype(np.float64)
    places = np.clip(np.searchsorted(blocks, begins_us // BLOCK_US), 0, len(blocks) - 1)
    sums = np.bincount(places, more, len(blocks))
    counts = np.bincount(places, minlength=len(blocks)).astype(np.float64)
    total = counts[draws].sum(axis=1)
    drawn = sums[draws].sum(axis=1)[total > 0] / total[total > 0]
    return _interval(float(more.mean()), drawn)


def _interval(value: float, drawn: Floats) -> Interval:
    if not len(drawn):
        return Interval(value, value, value)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def found_of(onsets_us: Sequence[int], begins_us: Ints, ends_us: Ints) -> Found:
    """What episodes with these onsets make of events."""
    onsets = np.sort(np.asarray(onsets_us, np.int64))
    first = np.searchsorted(onsets, begins_us)
    known = first < len(onsets)
    at = np.where(known, onsets[np.minimum(first, max(len(onsets) - 1, 0))] if len(onsets) else 0, 0)
    found = known & (at <= ends_us)
    return Found(found, np.where(found, (ends_us - at) / 3.6e9, 0.0))
