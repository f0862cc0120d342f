"""What the edge makes of operating state, four limits with delay, and maintenance mode."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from edge.limits import LimitWatch
from edge.outbox import open_outbox
from edge.scorer import ScoringLoop, obey_maintenance
from edge.scoring import MachineScoring, Outcome
from edge.settings import Limits, Operating
from shared.clock import ManualClock
from shared.commands import Maintenance as Wanted
from shared.errors import Rejected
from shared.event import Event, to_us
from shared.events import AnomalyEnded, AnomalyStarted, parse_event
from shared.frames import Readings, Records, Scores, ScoreState
from shared.machine_events import (
    LimitCleared,
    LimitCrossed,
    MachineCounted,
    MaintenanceEnded,
    MaintenanceStarted,
    StateChanged,
    alarm_id,
)
from shared.scoring_state import Maintenance, ScoringState
from tests.unit.edge_models import START, loaded, plant, rows

S = 1_000_000
SPEED = Operating(sensor="speed", off=50, levels=((900, 1100), (1400, 1600)), hysteresis=10, settle_seconds=5)


def readings(values: list[float], first: int = 0, sensor: str = "speed", unit: str = "rpm") -> Readings:
    at = START + (first + np.arange(len(values))) * S
    nought = at * 0
    return Readings(
        (sensor,), (unit,), nought, at, at + 500, np.array(values, float), nought.astype(np.uint8)
    )


def machine(state: bytes | None = None, **more: Any) -> MachineScoring:  # noqa: ANN401
    return MachineScoring("e1", "pump", more.get("limits", {}), state, more.get("operating", SPEED))


def told(*outcomes: Outcome) -> list[Event]:
    bodies = [item.body for outcome in outcomes for item in outcome.items]
    return [parse_event(record) for body in bodies if isinstance(body, Records) for record in body.record]


def test_changes_are_told_once_and_counts_add_up_over_restarts() -> None:
    run: list[float] = [0, 0, 500, *[1000] * 8, *[1500] * 8, 300, 0, 0]
    day = run * 3
    outcomes, state = [], None
    for first in range(0, len(day), 5):  # a restart after each commit
        outcome = machine(state).take(readings(day[first : first + 5], first))
        outcomes.append(outcome)
        state = outcome.state or state  # what was not kept changed nothing
    events = told(*outcomes)
    changes = [event.after for event in events if isinstance(event, StateChanged)]
    once = ["off", "starting", "steady(0)", "starting", "steady(1)", "stopping"]
    assert changes == [*once, *once, *once, "off"]
    assert next(e.after for e in events if isinstance(e, StateChanged) and e.changeover) == "steady(1)"
    counted = [event for event in events if isinstance(event, MachineCounted)]
    assert sum(event.starts for event in counted) == counted[-1].total_starts == 3
    assert sum(event.cycles for event in counted) == counted[-1].total_cycles == 3
    assert sum(event.run_hours for event in counted) == pytest.approx(counted[-1].total_run_hours)
    assert counted[-1].total_run_hours == pytest.approx(3 * 18 / 3600)
    for earlier, later in pairwise(counted):
        assert later.since == earlier.occurred_at
    whole = told(machine().take(readings(day)))
    assert [event.id for event in whole] == [event.id for event in events]


def test_a_long_run_is_told_hourly() -> None:
    scoring = machine()
    events = told(scoring.take(readings([1000.0] * 7300)))
    counted = [event for event in events if isinstance(event, MachineCounted)]
    assert [event.run_hours for event in counted] == pytest.approx([1.0, 1.0])


def test_other_settings_keep_the_counts() -> None:
    scoring = machine()
    outcome = scoring.take(readings([0.0, *[1000.0] * 9, 0.0]))
    again = machine(outcome.state, operating=Operating(sensor="load", off=0.1))
    assert again.operating.totals.starts == 1
    assert str(again.operating.state(START + 20 * S)) == "unknown"
    with pytest.raises(Rejected, match="scoring state"):
        ScoringState.decode(b'{"version": 3}')


def test_four_limits_with_delay_and_one_id_an_alarm() -> None:
    limits = Limits(low_low=0, low=10, high=90, high_high=100, hysteresis=2, delay_seconds=3)
    watch = LimitWatch("e1", "pump", {"t": limits})
    spike = watch.take(readings([50, 95, 95, 50], sensor="t"))
    assert spike == []
    events = watch.take(readings([95, 95, 95, 101, 101, 101, 101, 99, 97, 89, 87], 10, sensor="t"))
    assert [
        (type(e), e.side, to_us(e.occurred_at)) for e in events if isinstance(e, LimitCrossed | LimitCleared)
    ] == [
        (LimitCrossed, "high", START + 13 * S),
        (LimitCrossed, "high-high", START + 16 * S),
        (LimitCleared, "high-high", START + 18 * S),
        (LimitCleared, "high", START + 20 * S),
    ]
    raised, over = events[0], events[-1]
    assert isinstance(raised, LimitCrossed)
    assert raised.onset is not None
    assert to_us(raised.onset) == START + 10 * S
    assert raised.correlation_id == over.correlation_id == alarm_id("limit/t/high", "pump", raised.onset)
    for wrong in (
        {"low": 1, "high_high": 0},
        {"low_low": 3, "low": 3},
        {"low": 1, "high": 2, "hysteresis": 1},
    ):
        with pytest.raises(ValueError, match="low must stay below high"):
            Limits.model_validate(wrong)


def test_a_crossed_limit_is_not_raised_again_after_a_restart() -> None:
    limits = {"speed": Limits(high=2000)}
    outcome = machine(limits=limits).take(readings([2100.0]))
    again = machine(outcome.state, limits=limits)
    assert not [e for e in told(again.take(readings([2100.0], 1))) if isinstance(e, LimitCrossed)]
    [cleared] = [e for e in told(again.take(readings([1500.0], 2))) if isinstance(e, LimitCleared)]
    [crossed] = [e for e in told(outcome) if isinstance(e, LimitCrossed)]
    assert cleared.correlation_id == crossed.correlation_id
    old = b'{"version":1,"persistence":null,"peak":0.0,"scored_until_us":0,"crossed":[["speed","high"]]}'
    assert list(machine(old, limits=limits).limits.crossed) == [("speed", "high")]


def test_maintenance_marks_scores_and_raises_nothing_until_it_ends() -> None:
    limits = {"temperature": Limits(high=45)}
    scoring = machine(limits=limits, operating=None)
    scoring.install(loaded(), START)
    mode = Maintenance(START + 300 * S, "alice", "bearing")
    [started] = told(scoring.maintain(mode, "alice", START))
    assert isinstance(started, MaintenanceStarted)
    assert told(scoring.maintain(mode, "alice", START)) == []
    hot = plant(260, 3, fault_from=100)
    outcome = scoring.take(rows(hot))
    assert told(outcome) == []
    parts = [item.body.state for item in outcome.items if isinstance(item.body, Scores)]
    assert set(np.concatenate(parts).tolist()) == {ScoreState.MAINTENANCE, ScoreState.UNSCORED}
    assert scoring.score is not None
    again = machine(outcome.state, limits=limits)  # a restart in the middle
    again.install(loaded(), START, again=True)
    assert again.maintenance == mode
    after = told(again.take(rows(plant(120, 4, fault_from=0), 301)))
    assert [type(event) for event in after] == [MaintenanceEnded, LimitCrossed, AnomalyStarted]
    again.maintain(Maintenance(None, "bob"), "bob", START)
    assert told(again.take(rows(plant(120, 5), 421))) == []
    [ended] = told(again.maintain(None, "bob", START + 600 * S))
    assert isinstance(ended, MaintenanceEnded)
    assert [type(e) for e in told(again.take(rows(plant(120, 5), 541)))] == [LimitCleared, AnomalyEnded]


async def test_maintenance_on_command_is_durable_when_it_is_answered(tmp_path: Path) -> None:
    clock, scoring = ManualClock(), {"pump": machine()}
    async with open_outbox(tmp_path / "o.db", site="s1", edge="e1", clock=clock) as outbox:
        loop = ScoringLoop(
            outbox,
            scoring,
            clock,
            CollectorRegistry(),
            limit=400,
            on_change=lambda: None,
            rows_waiting=lambda: None,
        )
        task = asyncio.create_task(loop.run())
        said = await obey_maintenance(loop, clock, Wanted(machine="pump", on=True, minutes=30))
        kept = ScoringState.decode(await outbox.state("pump") or b"")
        assert kept.maintenance == Maintenance(clock.now_us() + 1800 * S, "command")
        assert said.startswith("pump is in maintenance mode until ")
        assert (
            await obey_maintenance(loop, clock, Wanted(machine="pump", on=False)) == "pump is watched again"
        )
        assert scoring["pump"].maintenance is None
        assert (await outbox.usage()).rows == 2
        with pytest.raises(Rejected, match="not a machine of this edge"):
            await obey_maintenance(loop, clock, Wanted(machine="fan", on=True))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
