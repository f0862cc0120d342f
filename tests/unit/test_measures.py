import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    f1_score,
    mean_pinball_loss,
    root_mean_squared_error,
)

from cloud.training.datasets.run import Segment
from cloud.training.measures import bootstrap, events, life, rows

HOUR_US = 3_600_000_000


@pytest.mark.parametrize("seed", range(8))
def test_rows_count_as_scikit_learn_counts_them(seed: int) -> None:
    random = np.random.default_rng(seed)
    label, alarm = random.random(300) < 0.3, random.random(300) < 0.4
    found = rows.count(label, alarm)
    ((quiet, false), (missed, hit)) = confusion_matrix(label, alarm)
    assert (found.quiet, found.false, found.missed, found.hit) == (quiet, false, missed, hit)
    assert found.f1 == pytest.approx(f1_score(label, alarm), abs=1e-12)
    assert found.far == pytest.approx(false / (false + quiet))
    assert found.mar == pytest.approx(missed / (missed + hit))


@pytest.mark.parametrize("levels", [3, 20, 10**6])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_scikit_learn_s_with_ties_too(seed: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    label = random.random(400) < 0.1
    score = random.integers(levels, size=400) + 2.0 * label
    assert rows.average_precision(label, score) == pytest.approx(
        average_precision_score(label, score), abs=1e-12
    )


def test_unscored_rows_rank_last_and_a_run_without_anomalies_has_no_precision() -> None:
    label = np.array([True, False, True, False])
    score = np.array([np.nan, -5.0, 1.0, np.nan])
    assert rows.average_precision(label, score) == pytest.approx(
        average_precision_score(label, [-9, -5, 1, -9])
    )
    assert np.isnan(rows.average_precision(np.zeros(4, dtype=np.bool_), score))


def test_pooling_weighs_by_rows_not_by_runs() -> None:
    whole = rows.pooled([rows.Counts(hit=9, missed=1), rows.Counts(false=1, quiet=99)])
    assert whole == rows.Counts(9, 1, 1, 99)
    assert whole.f1 == pytest.approx(0.9)
    assert np.isnan(rows.Counts(hit=1).far)
    assert np.isnan(rows.Counts(quiet=1).mar)
    assert rows.Counts(quiet=1).f1 == 0


LABEL = np.array([0, 0, 1, 1, 1, 0, 0, 1, 1, 0], dtype=np.bool_)
TIMES = np.arange(10, dtype=np.int64) * 1_000_000


def test_alarming_always_hits_every_event_and_starts_in_none() -> None:
    found = events.judge(LABEL, np.ones(10, dtype=np.bool_), TIMES)
    assert found == events.Events(events=2, hit=2, onset=0, delays_us=())


def test_an_onset_is_an_alarm_that_starts_inside_and_its_delay_counts_from_the_event_s_first_row() -> None:
    alarm = np.array([0, 1, 1, 0, 1, 0, 0, 0, 1, 0], dtype=np.bool_)
    assert events.judge(LABEL, alarm, TIMES) == events.Events(2, 2, 2, (2_000_000, 1_000_000))
    assert events.spans(LABEL) == [(2, 5), (7, 9)]
    assert events.spans(np.zeros(3, dtype=np.bool_)) == []


def test_false_episodes_begin_on_normal_rows_and_need_their_m_of_n() -> None:
    alarm = np.zeros(40, dtype=np.bool_)
    alarm[[2, 3, 4]] = True  # an episode
    alarm[20] = True  # none: one of five
    alarm[[30, 31, 32]] = True  # one that begins in an event
    label = np.zeros(40, dtype=np.bool_)
    label[28:36] = True
    assert events.false_episodes(label, alarm, m=3, n=5) == 1
    assert events.normal_hours(label, np.arange(40, dtype=np.int64) * HOUR_US) == 32


def test_alarms_closer_than_the_gap_are_one_episode() -> None:
    times = np.arange(200, dtype=np.int64) * HOUR_US
    label, alarm = np.zeros(200, dtype=np.bool_), np.zeros(200, dtype=np.bool_)
    label[100:140] = True
    alarm[[10, 33, 60, 99, 110]] = True  # 10 and 33 are one; 99 begins what 110 continues
    found = events.merged(label, alarm, times, 24 * HOUR_US)
    assert (found.false, found.onset, found.events) == (3, 0, 1)
    assert found.weeks == pytest.approx(199 / 168)
    alarm[99] = False
    assert events.merged(label, alarm, times, 24 * HOUR_US).onset == 1
    assert events.merged(label, np.zeros(200, dtype=np.bool_), times, HOUR_US).false == 0


def test_blame_is_judged_at_the_highest_score_of_alarming_events() -> None:
    contributions = np.full((10, 5), 0.1)
    contributions[3, 4], contributions[2, 0], contributions[8, 1] = 0.9, 0.9, 0.9
    score = np.arange(10.0)
    score[3] = 50.0
    alarm = LABEL.copy()
    alarm[7:] = False
    blamed = (Segment(2, 5, (4,)), Segment(7, 9, (1,)))
    found = events.blame(blamed, score, contributions, alarm, leading=1)
    assert (found.events, found.right) == (1, 1)
    assert found.chance == pytest.approx(1 / 5)
    alarm[8] = True
    found = events.blame((Segment(7, 9, (1, 2)),), score, contributions, alarm, leading=3)
    assert found.chance == pytest.approx(1 - (3 / 5) * (2 / 4) * (1 / 3))


def test_intervals_are_over_whole_parts_repeatable_and_cover() -> None:
    def mean(parts: object) -> float:
        return float(np.mean(np.asarray(parts)))

    assert bootstrap.interval([1.0, 2.0], mean, seed=3) == bootstrap.interval([1.0, 2.0], mean, seed=3)
    assert np.isnan(bootstrap.interval([1.0], mean)[0])
    random = np.random.default_rng(5)
    inside = 0
    for seed in range(60):
        low, high = bootstrap.interval(random.normal(size=40).tolist(), mean, seed=seed, draws=200)
        inside += low <= 0 <= high
    assert 48 <= inside <= 59  # 90 % of 60 is 54


def test_life_is_measured_with_late_predictions_costing_more() -> None:
    true = np.array([50.0, 50.0, 20.0])
    predicted = np.array([60.0, 37.0, 20.0])
    assert life.rmse(predicted, true) == pytest.approx(root_mean_squared_error(true, predicted))
    assert life.phm08(predicted, true) == pytest.approx((np.e - 1) + (np.e - 1))
    assert life.phm08(true + 20, true) > life.phm08(true - 20, true)
    assert life.phm08(true, true) == 0


def test_intervals_of_life_are_covered_where_the_truth_lies_within_and_cost_their_width_and_misses() -> None:
    low, high = np.array([0.0, 10.0, 10.0]), np.array([10.0, 20.0, 20.0])
    true = np.array([5.0, 25.0, 8.0])
    assert life.coverage(low, high, true) == pytest.approx(1 / 3)
    assert life.winkler(low, high, true) == pytest.approx(10 + 20 * (5 + 2) / 3)
    # Winkler's score is that of two quantiles' pinball losses, over their level.
    pinballs = mean_pinball_loss(true, low, alpha=0.05) + mean_pinball_loss(true, high, alpha=0.95)
    assert life.winkler(low, high, true) == pytest.approx(pinballs / 0.05)
    assert life.coverage(low, np.full(3, np.inf), true) == pytest.approx(2 / 3)


def test_coverage_is_told_by_bins_of_predicted_life() -> None:
    predicted = np.array([5.0, 15.0, 25.0, 95.0])
    true = predicted + np.array([0.0, 3.0, 0.0, 0.0])
    bins = life.coverage_by(predicted, predicted - 2, predicted + 2, true, [0, 20, 50, 80, 125])
    assert [(each.begin, each.units, each.coverage) for each in bins] == [(0, 2, 0.5), (20, 1, 1), (80, 1, 1)]
