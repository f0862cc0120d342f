"""Counters kept up by what edges count: each increment once, over resets, replacements and things said twice."""

import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest

from cloud.assets.counting import decide_counted
from cloud.assets.fold import State
from shared.asset_events import AssetEdited, AssetObserved, AssetRetired, CounterReset, CounterSet
from shared.event import Event
from shared.machine_events import MachineCounted

START = datetime(2026, 3, 1, tzinfo=UTC)
NOW = START + timedelta(days=9)


def counted(
    first: float, last: float, *, hours: float = 1.0, starts: int = 1, cycles: int = 0
) -> MachineCounted:
    return MachineCounted(
        source="edge/e1", subject="pump-1", occurred_at=START + timedelta(hours=last), edge="e1",
        since=START + timedelta(hours=first), run_hours=hours, starts=starts, cycles=cycles,
        total_run_hours=0, total_starts=0, total_cycles=0,
    )  # fmt: skip


def take(state: State, *events: MachineCounted) -> list[Event]:
    made = decide_counted(state, events, NOW)
    for event in made:
        assert state.take(event) is not None, "a revision was left out"
    return made


def values(state: State) -> dict[str, float]:
    return {name: round(counter.value, 6) for name, counter in state.counters.items()}


def with_bearing(hours: float) -> State:
    state, when = State(), START + timedelta(hours=hours)
    base = {"source": "t", "occurred_at": when}
    state.take(AssetObserved(subject="pump-1", kind="machine", revision=1, fields={}, **base))
    state.take(
        AssetEdited(
            subject="pump-1.bearing", kind="component", revision=1, by="ada", fields={"type": "6205"}, **base
        )
    )
    return state


def test_increments_add_up_once_however_often_and_in_whatever_order_they_are_told() -> None:
    events = [counted(n, n + 1, hours=0.5, starts=2, cycles=1) for n in range(6)]
    state = State()
    take(state, *events[:2])
    assert take(state, *events[:2]) == []
    shuffled = events * 2
    random.Random(3).shuffle(shuffled)
    made = take(state, *shuffled)
    assert values(state) == {"pump-1.run-hours": 3.0, "pump-1.starts": 12, "pump-1.cycles": 6}
    assert all(isinstance(event, CounterSet) and event.causation_id for event in made)
    assert len({event.id for event in made}) == len(made) == 12


def test_a_component_counts_from_its_making_and_its_reset_leaves_the_machine_alone() -> None:
    state = with_bearing(hours=2.5)
    take(state, *(counted(n, n + 1) for n in range(4)))
    assert values(state)["pump-1.run-hours"] == 4.0
    assert values(state)["pump-1.bearing.run-hours"] == 1.5
    replaced = CounterReset(
        source="t", subject="pump-1.bearing.run-hours", occurred_at=START + timedelta(hours=4.25),
        revision=3, by="ada", value=1.5, reason="replaced",
    )  # fmt: skip
    assert state.take(replaced) is not None
    take(state, counted(4, 5), counted(5, 6))
    bearing = state.counters["pump-1.bearing.run-hours"]
    assert bearing.value == pytest.approx(1.75)
    assert [reset.value for reset in bearing.resets] == [1.5]
    assert values(state)["pump-1.run-hours"] == 6.0
    assert values(state)["pump-1.bearing.starts"] == 4


def test_a_retired_component_stands_still() -> None:
    state = with_bearing(hours=0)
    take(state, counted(0, 1))
    state.take(
        AssetRetired(
            source="t",
            subject="pump-1.bearing",
            occurred_at=NOW,
            kind="component",
            revision=2,
            by="ada",
            why="gone",
        )
    )
    take(state, counted(1, 2))
    assert values(state)["pump-1.bearing.run-hours"] == 1.0
    assert values(state)["pump-1.run-hours"] == 2.0


def test_what_a_person_said_is_where_counting_goes_on() -> None:
    state = State()
    take(state, counted(0, 1))
    state.take(
        CounterSet(
            source="t", subject="pump-1.run-hours", occurred_at=NOW, revision=2, by="ada", value=5000.0,
            as_of=START + timedelta(hours=3),
        )
    )  # fmt: skip
    for first, last in itertools.pairwise(range(1, 6)):
        take(state, counted(first, last))
    assert values(state)["pump-1.run-hours"] == 5002.0
    assert take(state, counted(6, 7, hours=0, starts=0)) == []
