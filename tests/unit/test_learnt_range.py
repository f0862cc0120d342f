"""The operating range that a history teaches, and what a machine may do in and beyond it."""

import numpy as np
import pytest

from cloud.training.learnt_range import learn_range, tail_scale
from cloud.training.logic import Config, fit
from firmware_sim.machine import Machine
from firmware_sim.machines.pump import PUMP
from industrialmind.model_words import stays_between
from shared.artifact import unpack
from shared.errors import Rejected
from shared.grid import grid_frame
from shared.onnxruntime import Scorer
from shared.windows import Floats, GridSpec, Operating
from tests.models import STEP_US, healthy, packed, recording

S = 1_000_000
HOUR = 3600
HELD = 3
NOISE = 8.0  # three widths of what the pump's speed does from cell to cell, rpm


def taught(values: Floats, hours: float | None = None, noise: float = NOISE) -> Operating:
    step = S if hours is None else round(hours * HOUR * S / len(values))
    seen = learn_range(values, step_us=step, window=16, held=HELD, noise=noise)
    return Operating("speed", seen.low, seen.high, 600, seen.below, seen.above, HELD)


def leavings(point: Operating, values: Floats) -> int:
    beyond, count = 0, 0
    for value in values.tolist():
        before, beyond = beyond, point.beyond(value, beyond)
        count += beyond >= point.leave > before
    return count


def speeds(seed: int, from_h: float, hours: float) -> Floats:
    machine = Machine(PUMP, f"pump-{seed}", seed=seed, interval_us=S)
    first = (1_760_000_000 + seed * 86_400) + round(from_h * HOUR)
    return machine.values(first, round(hours * HOUR))[:, PUMP.sensor_names.index("speed")]


def test_a_pump_with_an_hour_of_history_is_watched_the_day_after() -> None:
    left = before = 0
    for seed in range(4):
        history, day = speeds(seed, 0, 1), speeds(seed, 1, 24)
        left += leavings(taught(history), day)
        before += leavings(Operating("speed", history.min() - NOISE, history.max() + NOISE, 600), day)
    assert before > 100  # what the least and the largest value of an hour are worth
    assert left <= 4  # one a month each was asked for, of an hour


def test_the_next_set_point_is_not_within_the_margin() -> None:
    for seed in range(4):
        point = taught(speeds(seed, 0, 1))
        wander = 0.006 * 2950 * 0.75
        assert 2950 * 0.75 + wander < point.low - point.below  # the lowest is 0.80
        assert point.high + point.above < 2950 * 1.05 - wander  # the highest is 1.00


@pytest.mark.parametrize("seed", range(5))
def test_no_history_leaves_its_own_range(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=400).cumsum()
    point = taught(values, noise=0.0)
    plain = Operating("speed", point.low, point.high, 0, leave=HELD)
    assert leavings(plain, values) == 0
    assert taught(np.tile([0.0, 1.0], 50), noise=0.0).low == 0.0  # where no value is held at all, too
    assert taught(np.tile([0.0, 1.0], 50), noise=0.0).high == 1.0


def test_a_reading_that_was_not_held_is_no_operating_point() -> None:
    values = speeds(1, 0, 1).copy()
    values[[700, 701, 1500]] = [9_000.0, 8_000.0, -4_000.0]
    clean = speeds(1, 0, 1)
    assert taught(values).high == pytest.approx(taught(clean).high, abs=10)
    assert taught(values).low == pytest.approx(taught(clean).low, abs=10)
    values[2000:2003] = 9_000.0
    assert taught(values).high == 9_000.0 + NOISE


def test_the_longer_the_history_the_narrower_the_margin() -> None:
    values = speeds(2, 0, 6)
    hour, day, month = (taught(values, hours) for hours in (1, 24, 720))
    assert hour.low == day.low == month.low
    assert hour.below > day.below > month.below > 0
    assert hour.above > day.above > month.above > 0


def test_set_points_that_pass_within_two_cells_are_learnt_all_the_same() -> None:
    values = np.tile([70.0, 70.0, 80.0, 80.0, 80.0, 90.0, 100.0, 80.0], 100)
    point = taught(values, noise=1.0)
    assert (point.low, point.high, point.leave) == (69.0, 101.0, HELD)


def test_it_moves_with_the_units() -> None:
    values = speeds(3, 0, 2)
    one, other = taught(values), taught(-0.1 * values + 7, noise=0.1 * NOISE)
    assert (other.low, other.high) == pytest.approx((7 - 0.1 * one.high, 7 - 0.1 * one.low))
    assert (other.below, other.above) == pytest.approx((0.1 * one.above, 0.1 * one.below))


def test_set_points_that_are_held_exactly_have_no_margin() -> None:
    point = taught(np.repeat([1000.0, 1500.0, 1200.0, 1000.0], 100), noise=0.0)
    assert (point.low, point.high, point.below, point.above) == (1000.0, 1500.0, 0.0, 0.0)


def test_a_set_point_that_was_rarely_held_is_no_tail() -> None:
    random = np.random.default_rng(4)
    level = np.full(86_400, 1000.0)
    level[40_000:42_000] = 500.0  # 2.3 % of the day
    point = taught(level + 3 * random.normal(size=len(level)))
    assert point.below < 20
    often = -(level + 3 * random.normal(size=len(level)))
    assert float((often[often > -600] + 600).mean()) > 90  # by the first quantile alone it would be the step


def test_the_scale_of_a_tail_is_wider_the_fewer_peaks_it_is_told_by() -> None:
    tail = -2.0 * np.log1p(-(np.arange(20_000) + 0.5) / 20_000)  # an exponential one of scale 2
    np.random.default_rng(5).shuffle(tail)
    assert tail_scale(tail, 1) == pytest.approx(2.0, rel=0.06)
    # One peak: 2 over the lower quartile of chi squared with 2 degrees of freedom, 0.5754.
    assert tail_scale(tail, 10**6) == pytest.approx(2.0 * 2 / 0.5754, rel=0.03)


def judged(table: Floats) -> tuple[list[bool], Scorer, GridSpec]:
    made = unpack(packed("speed"))
    spec = made.manifest.grid_spec()
    (windows,) = grid_frame(spec, np.arange(1, len(table) + 1) * STEP_US, table).windows()
    return windows.scorable.tolist(), Scorer(made), spec


def test_a_hair_outside_the_range_silences_nothing() -> None:
    made = unpack(packed("speed")).manifest
    assert (made.preparation_version, made.operating is not None) == (3, True)
    assert made.operating is not None
    table = healthy(200, seed=3)
    table[100:130, 0] = made.operating.low - made.operating.below / 2
    ready, _, _ = judged(table)
    assert all(ready[16:])
    table[100:130, 0] = made.operating.low - 2 * made.operating.below
    ready, _, _ = judged(table)
    assert all(ready[16:100])
    assert not any(ready[100:])


def test_standstill_and_a_set_point_never_seen_are_not_learnt_and_settle() -> None:
    for speed in (0.0, 1900.0, 700.0):
        table = healthy(900, seed=3)
        table[100:150, 0] = speed
        ready, _, spec = judged(table)
        assert not any(ready[100 : 150 + spec.window + 600 - 1])
        assert all(ready[150 + spec.window + 600 - 1 :])


def test_a_reading_far_outside_is_held_back_and_then_judged_as_it_is() -> None:
    table = healthy(200, seed=3)
    table[120, 0] = 9_000.0  # a transmitter's glitch: flow and pressure know nothing of it
    ready, scorer, spec = judged(table)
    assert not ready[120]
    assert all(ready[16:120])
    assert all(ready[121:])
    cells = grid_frame(spec, np.arange(1, 201) * STEP_US, table)
    scores = scorer.score(cells.gather(np.arange(121, 136)).values)
    assert scores.alarm.all()
    assert (scores.contributions.argmax(axis=1) == 0).all()


def test_what_no_window_was_trained_on_teaches_no_range() -> None:
    rows = recording()
    rows.values[600:660, 0] = 3_000.0  # somebody tries it out,
    rows.values[590:670, 1:] = np.nan  # with the other sensors not there yet
    made = fit(rows, machine="m", machine_type="t", now_us=0, operating_sensor="speed")
    operating = unpack(made).manifest.operating
    assert operating is not None
    assert stays_between(operating.model_dump())[1] < 1_700
    assert stays_between({"low": 1.0, "high": 2.0}) == (1.0, 2.0)  # models of earlier releases


def test_an_operating_sensor_with_no_reading_is_refused() -> None:
    rows = recording()
    rows.values[:, 3] = np.nan
    config = Config(mask_limit=0.5)
    with pytest.raises(Rejected, match="'temperature' has no readings to learn a range from"):
        fit(rows, machine="m", machine_type="t", now_us=0, config=config, operating_sensor="temperature")
