import numpy as np
import pytest

from cloud.training import pca
from cloud.training.logic import Config, Recording, choose_step, fit
from industrialmind.score import RowScores, score_rows
from shared.artifact import unpack
from shared.errors import Rejected
from shared.grid import grid_frame
from shared.windows import GridSpec
from tests.models import SENSORS, STEP_US, UNITS, healthy, recording

FIT_ROWS = 900
TIMES = np.arange(1, 1401) * STEP_US


def faulty() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    table = healthy(1400, seed=4)
    table[1200:, 1] += 1.5
    return table


def judged(
    table: np.ndarray[tuple[int, int], np.dtype[np.float64]], first: int = 0, rows: int = 1400
) -> RowScores:
    names = tuple(f"c{index}" for index in range(table.shape[1]))
    return score_rows(
        names, TIMES[first:FIT_ROWS], table[first:FIT_ROWS], TIMES[FIT_ROWS:rows], table[FIT_ROWS:rows]
    )


def test_it_finds_a_shift_of_five_sigma_and_is_quiet_before() -> None:
    alarms = judged(faulty()).alarm
    assert not alarms[:300].any()
    assert alarms[316:].all()


@pytest.mark.parametrize("change", ["permuted", "rescaled", "both"])
def test_the_order_and_the_units_of_sensors_don_t_matter(change: str) -> None:
    table = faulty()
    order = np.array([2, 0, 3, 1]) if change != "rescaled" else np.arange(4)
    scale, offset = (
        ([1e-3, -40.0, 7.0, 1e4], [5.0, 1e4, -3.0, 0.1]) if change != "permuted" else ([1.0], [0.0])
    )
    base, other = judged(table), judged(table[:, order] * scale + offset)
    np.testing.assert_allclose(other.score, base.score, rtol=1e-6)
    np.testing.assert_allclose(other.contributions, base.contributions[:, order], atol=1e-6)
    assert other.alarm.tolist() == base.alarm.tolist()


def test_no_score_depends_on_later_rows() -> None:
    whole, part = judged(faulty()), judged(faulty(), rows=1250)
    np.testing.assert_array_equal(whole.score[:350], part.score)


def test_a_hundred_rows_less_change_little() -> None:
    whole, part = judged(faulty()), judged(faulty(), first=100)
    assert (whole.alarm == part.alarm).mean() > 0.96


def test_a_stuck_sensor_is_found_by_its_rest() -> None:
    table = healthy(1400, seed=6)
    table[1200:, 3] = table[1200, 3]
    result = judged(table)
    assert result.alarm[330:].mean() > 0.9
    assert result.contributions[-1].argmax() == 3


def test_constant_silent_and_doubled_sensors_are_taken_as_they_are() -> None:
    table = np.column_stack(
        [healthy(1400, seed=2), np.full(1400, 7.0), np.full(1400, np.nan), healthy(1400, seed=2)[:, 0]]
    )
    result = judged(table)
    learnt = [sensor.learnt for sensor in result.manifest.sensors]
    assert learnt == [True, True, True, True, False, True]  # the silent one is left out
    assert result.left_out == ("c5",)
    assert np.isfinite(result.score).all()
    assert result.alarm.mean() < 0.05
    assert not result.contributions[:, 4:6].any()


def test_a_sensor_that_rarely_moves_is_learnt_from_those_moves() -> None:
    table = healthy(1400, seed=2)
    table[:, 2] = (np.arange(1400) % 311 == 5) * 1.0
    scale = pca.fit_scale(table)
    assert np.isfinite(scale.inverse).all()
    assert scale.inverse[2] > 0


def test_nothing_that_moves_is_nothing_to_learn() -> None:
    still = Recording(TIMES, SENSORS, UNITS, np.ones((1400, 4)))
    with pytest.raises(Rejected, match="no sensor moves"):
        fit(still, machine="m", machine_type="t", now_us=0)


def test_too_few_rows_say_how_many_it_takes() -> None:
    few = Recording(TIMES[:100], SENSORS, UNITS, healthy(100))
    with pytest.raises(Rejected, match="at least 144 rows a sensor at a step of 1 s"):
        fit(few, machine="m", machine_type="t", now_us=0)


def test_rows_must_fit_together_and_have_two_times() -> None:
    with pytest.raises(Rejected, match="don't fit together"):
        Recording(TIMES[:3], SENSORS, UNITS, healthy(4))
    with pytest.raises(Rejected, match="two rows at different times"):
        choose_step(Recording(TIMES[:1], SENSORS, UNITS, healthy(1)), 0.2)
    with pytest.raises(Rejected, match="operating sensor 'rpm' is not among speed"):
        fit(recording(), machine="m", machine_type="t", now_us=0, operating_sensor="rpm")


def test_the_step_is_what_all_but_the_slowest_sensors_keep() -> None:
    table = healthy(1400)
    table[np.arange(1400) % 5 > 0, 0] = np.nan
    jitter = np.random.default_rng(0).integers(-2000, 2000, 1400)
    assert choose_step(Recording(TIMES + jitter, SENSORS, UNITS, table), 0.3) == STEP_US
    assert choose_step(Recording(TIMES, SENSORS, UNITS, table), 0.2) == 5 * STEP_US


def test_single_readings_at_times_of_their_own_fit_as_well() -> None:
    table = healthy(400)
    row, sensor = np.nonzero(np.isfinite(table))
    times = TIMES[row] - sensor * 1000
    long = Recording.from_rows(SENSORS, UNITS, sensor, times, table[row, sensor])
    assert long.values.shape == (1600, 4)
    spec = GridSpec(SENSORS, STEP_US, 16)
    np.testing.assert_array_equal(
        grid_frame(spec, long.times_us, long.values).cells, grid_frame(spec, TIMES[:400], table).cells
    )
    made = unpack(fit(long, machine="m", machine_type="t", now_us=0))
    assert made.manifest.grid.step_us == STEP_US


def test_the_configuration_has_a_hash() -> None:
    assert Config().sha256() == Config().sha256() != Config(window=17).sha256()
