"""Deadband and rate limits: what is left out, and that it is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.input_limits import DEADBAND, RATE, Held, InputLimits
from edge.settings import SensorLimits
from shared.frames import Quality, Readings

S = 1_000_000


def readings(*rows: tuple[float, float], sensor: str = "temp", quality: Quality = Quality.GOOD) -> Readings:
    """(seconds, value) of one sensor."""
    count = len(rows)
    return Readings(
        (sensor,),
        ("degC",),
        np.zeros(count, np.int64),
        np.array([round(at * S) for at, _ in rows], np.int64),
        np.full(count, 5 * S, np.int64),
        np.array([value for _, value in rows], np.float64),
        np.full(count, quality, np.uint8),
    )


def limited(**limits: float) -> InputLimits:
    made = InputLimits()
    made.set("m1", "temp", SensorLimits(**limits))
    return made


def test_a_deadband_keeps_what_moves_and_what_breaks_a_silence() -> None:
    limits = limited(deadband=0.5, silence_seconds=10)
    rows = [(0.0, 20.0), (1, 20.5), (2, 20.51), (3, 20.9), (4, 20.1), (5, 20.0), (16, 20.0), (17, 20.0)]
    kept, left = limits.take("m1", readings(*rows))
    assert kept.value.tolist() == [20.0, 20.51, 20.0, 20.0]
    assert kept.time_us.tolist() == [0, 2 * S, 5 * S, 16 * S]
    assert left == {DEADBAND: 4}
    assert limits.left_out == {"m1": {"temp": {DEADBAND: 4}}}


def test_a_deadband_that_begins_to_leave_out_is_told_once() -> None:
    limits = limited(deadband=0.5, silence_seconds=10)
    limits.take("m1", readings((0, 20), (1, 21)))
    assert limits.held() == []
    limits.take("m1", readings((2, 21), (3, 21), (4, 22), (5, 22)))
    assert limits.held() == [Held("m1", "temp", "degC", 2 * S, S, 0.5, 10)]
    limits.take("m1", readings((6, 22)))
    assert limits.held() == []
    twice = limited(deadband=0.5)
    twice.take("m1", readings((0, 20), (0, 20)))
    assert twice.held() == [], "the same reading again tells no interval"
    slow = limited(per_second=1)
    slow.take("m1", readings((0, 1), (0.1, 2), (0.2, 3)))
    assert slow.held() == [], "a rate thins evenly: no value is held"


def test_a_slow_drift_is_measured_from_the_last_value_kept() -> None:
    limits = limited(deadband=1.0, silence_seconds=1e6)
    kept, _ = limits.take("m1", readings(*((at, at * 0.3) for at in range(20))))
    assert np.diff(kept.value).min() > 1.0
    assert kept.value[-1] > 4.0


def test_a_change_of_quality_is_never_left_out() -> None:
    limits = limited(deadband=5.0)
    assert len(limits.take("m1", readings((0, 20)))[0]) == 1
    assert len(limits.take("m1", readings((1, 20), quality=Quality.BAD))[0]) == 1
    assert len(limits.take("m1", readings((2, 20), quality=Quality.BAD))[0]) == 0


@pytest.mark.parametrize(("per_second", "kept"), [(0.5, 5), (1, 10), (2, 21), (10, 100), (1000, 100)])
def test_a_rate_is_kept_in_event_time(per_second: float, kept: int) -> None:
    limits = limited(per_second=per_second)
    passed, left = limits.take("m1", readings(*((at * 0.1, at) for at in range(100))))
    assert abs(len(passed) - kept) <= 1
    assert left.get(RATE, 0) == 100 - len(passed)


def test_a_history_that_comes_late_fills_its_gap() -> None:
    limits = limited(deadband=100.0, per_second=1)
    limits.take("m1", readings((100, 1)))
    assert len(limits.take("m1", readings((10, 1), (10.1, 1), (10.2, 1)))[0]) == 3


def test_what_is_not_limited_passes_as_it_is() -> None:
    limits = limited(deadband=100.0)
    rows = readings((0, 1), (1, 1), sensor="flow")
    assert limits.take("m1", rows)[0] is rows
    assert limits.take("m2", readings((0, 1), (1, 1)))[1] == {}


@given(
    st.lists(st.tuples(st.floats(0, 1000), st.floats(-50, 50)), max_size=60),
    st.floats(0, 20),
    st.floats(0.1, 30),
)
def test_kept_and_left_out_are_all(
    rows: list[tuple[float, float]], deadband: float, per_second: float
) -> None:
    limits = limited(deadband=deadband, per_second=per_second)
    kept, left = limits.take("m1", readings(*rows))
    assert len(kept) + sum(left.values()) == len(rows)
    assert sum(limits.left_out.get("m1", {}).get("temp", {}).values()) == sum(left.values())
    # In the order of arrival: what is left out is near the reading before it that was kept.
    assert not len(rows) or len(kept) >= 1
