"""The operating state: thresholds with hysteresis, settling, set-points never seen, counts, and the three teachers."""

import math
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson
import pytest

from shared.errors import Misconfigured, Rejected
from shared.states import GAP_US, StateMachine, StateSpec, Totals, by_clusters, by_signal

S = 1_000_000
SPEC = StateSpec("speed", 50.0, ((900.0, 1100.0), (1400.0, 1600.0)), 20.0, 5 * S, "rule")


def follow(
    values: Iterable[float], spec: StateSpec = SPEC, step_us: int = S
) -> tuple[list[str], StateMachine]:
    machine = StateMachine(spec)
    return [str(machine.take((at + 1) * step_us, value)) for at, value in enumerate(values)], machine


def test_a_run_goes_through_its_states_and_counts() -> None:
    run = [0] * 3 + [300, 700] + [1000] * 8 + [500, 200] + [0] * 3
    states, machine = follow(run)
    assert states == [
        *["off"] * 3,
        *["starting"] * 7,
        *["steady(0)"] * 3,
        *["stopping"] * 2,
        *["off"] * 3,
    ]
    assert machine.totals == Totals(run_us=12 * S, starts=1, cycles=1)


def test_a_start_that_never_got_steady_is_a_start_and_no_cycle() -> None:
    _, machine = follow([0, 0, 700, 1000, 1000, 300, 0])
    assert machine.totals == Totals(run_us=4 * S, starts=1, cycles=0)


def test_another_set_point_settles_anew_and_one_never_seen_is_not_learnt() -> None:
    states, _ = follow([1000] * 6 + [1250] * 2 + [1500] * 6 + [1250] * 7)
    assert states[5] == "steady(0)"
    assert states[6:13] == ["starting"] * 7
    assert states[13] == "steady(1)"
    assert states[14:19] == ["stopping"] * 5
    assert states[19:] == ["unknown"] * 2


def test_a_value_that_wavers_at_a_border_changes_nothing() -> None:
    states, machine = follow([1000] * 6 + [1105, 1095, 1119, 885] * 3 + [60, 45, 60, 69, 45])
    assert states[5:18] == ["steady(0)"] * 13
    assert states[-4:] == ["off"] * 4
    assert machine.totals.starts == 0


def test_silence_is_unknown_and_no_running_time() -> None:
    machine = StateMachine(SPEC)
    for at in range(1, 8):
        machine.take(at * S, 1000)
    assert str(machine.at(8 * S)) == "steady(0)"
    assert str(machine.at(8 * S + GAP_US)) == "unknown"
    assert str(machine.take(8 * S, math.nan)) == "unknown"
    before = machine.totals
    assert str(machine.take(9 * S + GAP_US, 1000)) == "starting"
    assert machine.totals == before
    assert str(machine.take(14 * S + GAP_US, 1000)) == "steady(0)"


def test_late_rows_change_nothing() -> None:
    _, machine = follow([1000] * 8)
    kept = machine.to_json()
    machine.take(3 * S, 0)
    assert machine.to_json() == kept


def test_it_goes_on_after_a_restart_as_if_nothing_had_been() -> None:
    values = [0, 0, 400, 1000, 1000, 1000, 1000, 1000, 1000, 1300, 1500, 1500, 1500, 1500, 1500, 1500, 300, 0]
    whole, machine = follow(values)
    for cut in range(1, len(values)):
        _, first = follow(values[:cut])
        again = StateMachine.from_json(orjson.loads(orjson.dumps(first.to_json())))
        rest = [str(again.take((at + 1) * S, values[at])) for at in range(cut, len(values))]
        assert rest == whole[cut:]
        assert again.totals == machine.totals
    wrong: list[dict[str, Any]] = [{}, {"spec": {}}, machine.to_json() | {"state": ["flying", 0]}]
    for bad in wrong:
        with pytest.raises(Rejected):
            StateMachine.from_json(bad)


def test_a_rule_has_one_state_and_a_signal_one_a_value() -> None:
    rule = StateSpec("speed", 10.0, ((10.0, sys.float_info.max),), 2.0, 0, "rule")
    assert follow([0, 11, 13, 1e300, 9], rule)[0] == ["off", "off", "steady(0)", "steady(0)", "off"]
    signal = by_signal("mode", (1.0, 2.0, 5.0), off=0.0, settle_us=0)
    assert follow([0, 1, 2, 5, 2, 0], signal)[0] == ["off", *(f"steady({k})" for k in (0, 1, 2, 1)), "off"]
    with pytest.raises(Misconfigured):
        by_signal("mode", (0.0, 1.0), off=0.0, settle_us=0)
    for levels in ((), ((5.0, 4.0),), ((1.0, 3.0), (2.0, 4.0))):
        with pytest.raises(Misconfigured, match="hint"):
            StateSpec("speed", 0.0, levels, 0.0, 0, "rule")


def test_clusters_are_found_where_set_points_lie_thick() -> None:
    rng = np.random.default_rng(4)
    held = np.concatenate([rng.normal(1000, 3, 4000), rng.normal(1500, 3, 2000), np.zeros(500)])
    passing = np.linspace(0, 1500, 20)
    values = np.concatenate([held, passing, [math.nan]])
    spec = by_clusters("speed", values, off=50.0, noise=3.0, settle_us=S)
    assert len(spec.levels) == 2
    for (low, high), centre in zip(spec.levels, (1000, 1500), strict=True):
        assert centre - 30 < low < centre - 6
        assert centre + 6 < high < centre + 30
    assert (
        by_clusters("speed", rng.uniform(500, 1500, 5000), off=50.0, noise=3.0, settle_us=S).levels[0][1]
        > 1490
    )
    with pytest.raises(Rejected, match="never ran"):
        by_clusters("speed", np.zeros(10), off=1.0, noise=1.0, settle_us=S)
    with pytest.raises(Rejected, match="set-points"):
        by_clusters("speed", np.arange(1.0, 100.0) * 1000, off=1.0, noise=1.0, settle_us=S)
