"""Champion against challenger: intervals over blocks, the rule, and that its proxy promotes nobody by itself."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cloud.training.contest import BLOCK_US, Contest, Cost, Course, Found, Outcome, Run, found_of, hold

HOUR_US = 3_600_000_000
WEEKS = 8
WINDOWS = np.arange(WEEKS * 7 * 24 * 6) * 600_000_000
CHEAP = Cost(1.0, 10.0)
NONE = np.zeros(0, np.int64)


def found(*hits: float) -> Found:
    lead = np.array(hits)
    return Found(lead > 0, lead)


def spread(count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """So many moments, evenly."""
    return np.linspace(BLOCK_US, WINDOWS[-1] - BLOCK_US, count).astype(np.int64)


EVENTS, PANEL = spread(6), spread(40)
WEAK = Run(spread(12), found(*[1.0] * 5, 0.0), found(*[0.1] * 20, *[0.0] * 20))


def held(champion: Run, challenger: Run, cost: Cost = CHEAP, *, events: Any = EVENTS, **more: Any) -> Contest:  # noqa: ANN401
    return hold(champion, challenger, Course(WINDOWS, 600_000_000, events, PANEL), cost, seed=3, **more)


def test_fewer_false_episodes_and_nothing_lost_is_promoted() -> None:
    made = held(WEAK, replace(WEAK, false_us=NONE))
    assert (made.outcome, made.proxy, made.reasons) == (
        Outcome.PROMOTE,
        False,
        ("raises fewer false episodes",),
    )
    assert made.false_month.low < made.false_month.value < made.false_month.high < 0
    assert made.false_month.value == pytest.approx(-12 / (WEEKS * 7 * 24) * 720)
    assert made == held(WEAK, replace(WEAK, false_us=NONE))  # by the seed alone


def test_a_plant_may_ask_for_more_confirmed_events_before_nobody_is_asked() -> None:
    better = replace(WEAK, false_us=NONE)
    assert held(WEAK, better, confirmed_min=6).outcome is Outcome.PROMOTE
    asked = held(WEAK, better, confirmed_min=7)
    assert (asked.outcome, asked.proxy, asked.confirmed) == (Outcome.APPROVE, True, 6)


def test_the_same_model_is_no_better() -> None:
    made = held(WEAK, WEAK)
    assert (made.outcome, made.reasons) == (Outcome.KEEP, ("it is no better in anything",))


@pytest.mark.parametrize(
    ("challenger", "cost", "more", "why"),
    [
        (Run(NONE, found(0.0, *[9.0] * 5), WEAK.panel), CHEAP, {}, "loses 1 confirmed"),
        (Run(spread(40), found(*[9.0] * 6), WEAK.panel), CHEAP, {}, "more false episodes"),
        (Run(NONE, WEAK.events, found(*[0.0] * 40)), CHEAP, {}, "fewer of the panel's faults"),
        (replace(WEAK, false_us=NONE), Cost(80.0, 10.0), {}, "80.0 ms"),
        (replace(WEAK, false_us=NONE), Cost(1.0, 900.0), {}, "900 MB"),
        (replace(WEAK, false_us=NONE), CHEAP, {"blind": ["flow"]}, "does not judge flow"),
    ],
)
def test_one_thing_against_it_is_enough(challenger: Run, cost: Cost, more: dict[str, Any], why: str) -> None:
    made = held(WEAK, challenger, cost, **more)
    assert made.outcome is Outcome.KEEP
    assert why in made.reasons[0]


def test_with_few_confirmed_events_the_panel_stands_in_and_a_person_decides() -> None:
    few = replace(WEAK, events=found(1.0, 1.0))
    better = replace(few, panel=found(*[0.1] * 40))
    made = held(few, better, events=EVENTS[:2])
    assert (made.outcome, made.proxy, made.confirmed) == (Outcome.APPROVE, True, 2)
    assert made.reasons == ("finds more", "finds earlier")
    assert made.figures()["found.low"] > 0
    lost = held(few, replace(better, events=found(1.0, 0.0)), events=EVENTS[:2])
    assert lost.outcome is Outcome.KEEP


def test_without_the_champion_s_own_rows_a_person_decides() -> None:
    made = held(WEAK, replace(WEAK, false_us=NONE), trusted=False)
    assert (made.outcome, made.proxy) == (Outcome.APPROVE, False)


def test_one_false_episode_in_a_short_replay_may_be_many_a_month() -> None:
    short = Course(WINDOWS[: 7 * 24 * 6], 600_000_000, NONE, PANEL[:5])
    one = Run(np.array([BLOCK_US + 5]), found(), found(*[0.1] * 5))
    none = Run(NONE, found(), found(*[0.0] * 5))
    made = hold(none, one, short, CHEAP, seed=1)
    assert made.outcome is Outcome.KEEP
    assert made.false_month.high > 4


def test_where_nothing_can_be_replayed_nothing_changes() -> None:
    empty = Course(NONE, 600_000_000, NONE, NONE)
    run = Run(NONE, found(), found())
    made = hold(run, run, empty, CHEAP, seed=1)
    assert (made.outcome, made.reasons[0]) == (Outcome.KEEP, "there is nothing to replay")


def test_an_event_is_found_by_the_first_episode_inside_it() -> None:
    begins, ends = np.array([10, 30, 50]) * HOUR_US, np.array([20, 40, 60]) * HOUR_US
    made = found_of([5 * HOUR_US, 35 * HOUR_US, 38 * HOUR_US, 60 * HOUR_US], begins, ends)
    assert made.found.tolist() == [False, True, True]
    assert made.lead_h.tolist() == [0.0, 5.0, 0.0]
    assert found_of([], begins, ends).found.tolist() == [False] * 3
