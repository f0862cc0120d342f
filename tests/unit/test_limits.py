from collections.abc import Callable

import numpy as np
import pytest

from cloud.training.limits import (
    Budget,
    Floats,
    alpha_for,
    decorrelation_steps,
    exceeded_once,
    peaks_over_threshold,
    set_limit,
)
from shared.errors import Rejected

HOUR_US = 3_600_000_000


def test_few_rows_give_the_largest_score_times_the_margin_and_a_provisional_model() -> None:
    scores = np.random.default_rng(1).random(200) + 1
    limit = set_limit(scores, window=16, step_us=1_000_000, budget=Budget(), forward_ratio=1.1)
    assert limit.provisional
    assert limit.method == "max-with-margin"
    assert limit.value == pytest.approx(scores.max() * 1.5)
    wild = set_limit(scores, window=16, step_us=1_000_000, budget=Budget(), forward_ratio=2.5)
    assert wild.margin == 2.5
    assert wild.value == pytest.approx(scores.max() * 2.5)
    assert limit.n_eff == pytest.approx(200 / 16)


def test_enough_rows_give_a_tail_that_keeps_alpha() -> None:
    random = np.random.default_rng(2)
    scores = random.exponential(size=60_000)
    limit = set_limit(scores, window=1, step_us=HOUR_US, budget=Budget(episodes_month=2), forward_ratio=1.0)
    assert not limit.provisional
    assert limit.method == "peaks-over-threshold"
    fresh = random.exponential(size=2_000_000)
    assert (fresh > limit.value).mean() == pytest.approx(limit.alpha, rel=0.35)


def test_tails_of_three_shapes_are_followed() -> None:
    random = np.random.default_rng(7)
    draws: list[tuple[Callable[[int], Floats], float]] = [
        (lambda size: random.exponential(size=size), -np.log(1e-3)),
        (random.random, 1 - 1e-3),
        (lambda size: random.pareto(6, size), 1e-3 ** (-1 / 6) - 1),
    ]
    for draw, quantile in draws:
        assert peaks_over_threshold(draw(40_000), 1e-3) == pytest.approx(quantile, rel=0.1)


def test_degenerate_tails_still_give_a_level() -> None:
    assert peaks_over_threshold(np.ones(100), 1e-3) == 1.0
    one = np.ones(100)
    one[50] = 4.0
    assert np.isfinite(peaks_over_threshold(one, 1e-3))
    two = np.concatenate([np.ones(95), np.full(5, 2.0)])
    assert np.isfinite(peaks_over_threshold(two, 1e-3))


def test_decorrelation_is_the_time_to_one_over_e() -> None:
    noise = np.random.default_rng(3).normal(size=20_000)
    assert decorrelation_steps(noise) == 1.0
    slow = np.convolve(noise, np.ones(50), mode="valid")
    assert 25 <= decorrelation_steps(slow) <= 40
    assert decorrelation_steps(np.ones(10)) == 1.0
    assert decorrelation_steps(np.array([1.0, 2.0])) == 1.0


def test_runs_of_alarms_make_one_episode_and_so_more_windows_may_alarm() -> None:
    noise = np.random.default_rng(4).normal(size=5_000)
    slow = np.convolve(noise, np.ones(40), mode="valid")
    single = Budget(m=1, n=1)
    assert alpha_for(slow, 1_000_000, single) > 2 * alpha_for(noise, 1_000_000, single)
    # Noise rarely makes three of five, so persistence lets more of its windows alarm.
    assert alpha_for(noise, 1_000_000, Budget()) > 5 * alpha_for(noise, 1_000_000, single)
    assert alpha_for(noise, 10**15, Budget()) == 0.01


@pytest.mark.parametrize("count", [2, 3, 6, 12])
def test_one_of_the_next_values_exceeds_the_level_as_the_largest_would_be(count: int) -> None:
    random = np.random.default_rng(count)
    draws = random.normal(size=(5_000, count + 1)) * 3 - 1
    levels = np.array([exceeded_once(row) for row in draws[:, :count]])
    assert (draws[:, count] > levels).mean() == pytest.approx(1 / (count + 1), rel=0.1)


def test_the_level_is_steadier_than_the_largest_and_told_in_the_values_own_unit() -> None:
    draws = np.random.default_rng(11).normal(size=(4_000, 6))
    levels = np.array([exceeded_once(row) for row in draws])
    assert levels.std() < 0.95 * draws.max(axis=1).std()
    assert exceeded_once(5 * draws[0] + 2) == pytest.approx(5 * levels[0] + 2)
    assert exceeded_once(np.full(6, 0.7)) == pytest.approx(0.7)
    assert exceeded_once(np.array([0.7])) == 0.7


@pytest.mark.parametrize("scores", [np.zeros(0), np.zeros(50)])
def test_no_scores_no_limit(scores: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    with pytest.raises(Rejected, match="more training rows"):
        set_limit(scores, window=4, step_us=1, budget=Budget(), forward_ratio=1.0)
