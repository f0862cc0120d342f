"""Remaining life: what is learnt, and what never shows in it."""

from dataclasses import replace

import numpy as np
import pytest

from cloud.life.conditions import learn_conditions
from cloud.life.features import features, learn_spans
from cloud.life.intervals import learn_intervals
from cloud.life.knee import choose_knee
from cloud.life.logic import Config, LifeModel, fit
from cloud.life.runs import Runs, make_runs
from cloud.life.sklearn import fit_trees, regressor
from cloud.life.survival import learn_survival
from shared.errors import Rejected
from tests.unit.life_fleet import COLUMNS, fleet, lives

QUICK = Config(cap=50, folds=3, repeats=1, rows=500, rounds=30)


@pytest.fixture(scope="module")
def model() -> LifeModel:
    return fit(fleet(), QUICK)


def test_units_that_still_run_make_lives_longer_by_the_product_limit() -> None:
    lives = np.array([4.0, 1.0, 3.0, 2.0])
    np.testing.assert_array_equal(learn_survival(lives).lives, np.sort(lives))
    np.testing.assert_array_equal(learn_survival(lives, np.zeros(0)).lives, np.sort(lives))
    # At 1, 2, 3 and 4 still 4/5, 3/5, 3/10 and none are there: who is at risk at 3 are two.
    np.testing.assert_array_equal(learn_survival(lives, np.array([2.5])).lives, [1, 2, 3, 3, 4])
    # Who is censored at an age at which others fail was there; what nobody outlived ends with the oldest.
    np.testing.assert_array_equal(learn_survival(lives, np.array([4.0, 9.0])).lives, [1, 2, 3, 4, 9, 9])


def test_rows_come_in_any_order_and_equal_rows_once() -> None:
    runs = make_runs(
        ["b", "a", "b", "b"],
        np.array([2.0, 5.0, 1.0, 2.0]),
        np.array([[2.0, np.nan], [5.0, 5.0], [1.0, 1.0], [np.nan, 3.0]]),
        ["x", "y"],
    )
    assert runs.units == ("b", "a")
    assert runs.cycles.tolist() == [1, 2, 5]
    assert runs.values.tolist() == [[1, 1], [2, 3], [5, 5]]
    assert runs.remaining.tolist() == [1, 0, 0]
    assert runs.take(np.array([1, 0])).cycles.tolist() == [5, 1, 2]


@pytest.mark.parametrize(
    ("cycles", "values", "reason"),
    [([1.0, 1.0], [[1.0], [2.0]], "two different rows"), ([1.0, np.inf], [[1.0], [1.0]], "finite")],
)
def test_rows_that_contradict_are_refused(
    cycles: list[float], values: list[list[float]], reason: str
) -> None:
    with pytest.raises(Rejected, match=reason):
        make_runs(["a", "a"], np.array(cycles), np.array(values), ["x"])


def test_set_points_are_found_by_what_they_do() -> None:
    found = learn_conditions(fleet())
    assert [COLUMNS[point.column] for point in found.points] == ["load"]
    assert len(found.combined) == 2
    assert {COLUMNS[at] for at in found.sensors} == {"flow", "heat", "noise", "steps"}
    assert {COLUMNS[at] for at in found.sensors[:2]} == {"flow", "heat"}


def test_a_condition_never_seen_is_not_judged_and_a_silent_set_point_not_guessed() -> None:
    found = learn_conditions(fleet())
    rows = np.array(
        [[10.0, 3, 50, 7, 0, 1], [25.0, 3, 50, 7, 0, 1], [np.nan, 3, 50, 7, 0, 1], [40.0, 9, np.nan, 7, 0, 1]]
    )
    standard = found.standardise(rows)
    assert found.of(rows).tolist()[1:3] == [-1, -1]
    assert np.isfinite(standard[0]).all()
    assert np.isnan(standard[1:3]).all()
    assert np.isnan(standard[3]).sum() == 1


def test_of_very_many_sensors_those_are_judged_that_say_most_of_age() -> None:
    runs = fleet(12)
    noise = np.random.default_rng(4).standard_normal((len(runs.cycles), 60))
    wide = replace(
        runs,
        columns=(*(f"noise {at}" for at in range(60)), *COLUMNS),
        values=np.hstack([noise, runs.values]),
    )
    found = learn_conditions(wide)
    assert len(found.sensors) == 40
    assert {wide.columns[at] for at in found.sensors[:2]} == {"flow", "heat"}
    assert [wide.columns[point.column] for point in found.points] == ["load"]


def test_features_know_nothing_of_later_rows() -> None:
    runs = fleet(12)
    conditions, spans = learn_conditions(runs), learn_spans(runs)
    ends = runs.starts[:-1] + 30
    part = runs.cut(ends)
    kept = np.concatenate([np.arange(s, e + 1) for s, e in zip(runs.starts[:-1], ends, strict=True)])
    np.testing.assert_array_equal(features(conditions, spans, part), features(conditions, spans, runs)[kept])


def test_trees_held_as_arrays_say_what_scikit_learn_says() -> None:
    draws = np.random.default_rng(0)
    table = draws.standard_normal((400, 5))
    table[draws.random((400, 5)) < 0.1] = np.nan
    target = np.nan_to_num(table[:, 0]) ** 2 + np.nan_to_num(table[:, 1])
    model = regressor(seed=3, rows=400, rounds=20)
    model.fit(table, target)
    asked = draws.standard_normal((200, 5))
    asked[draws.random((200, 5)) < 0.2] = np.nan
    trees = fit_trees(table, target, seed=3, rounds=20)
    np.testing.assert_allclose(trees.predict(asked), model.predict(asked), rtol=1e-12, atol=1e-12)


def test_life_is_told_far_better_than_by_the_mean_and_the_interval_holds(model: LifeModel) -> None:
    told = model.estimate(fleet(seed=5, cut=True))
    truth = lives(seed=5) - fleet(seed=5, cut=True).lives
    near = truth < 50
    error = np.sqrt(np.mean((told.life - truth)[near] ** 2))
    assert near.sum() > 5
    assert error < np.std(truth[near])
    assert np.mean((told.low <= truth) & (truth <= told.high)) >= 0.75
    assert (told.low <= told.life).all()
    assert (told.life <= told.high).all()


def test_order_names_and_units_of_columns_leave_no_trace(model: LifeModel) -> None:
    order = [3, 5, 1, 0, 4, 2]
    scale = np.array([2.0, -3.0, 0.1, 7.0, 1e3, -4.0])
    shift = np.array([1.0, 50.0, -3.0, 0.0, 2.0, 9.0])

    def turned(runs: Runs) -> Runs:
        names = tuple(f"column {at}" for at in range(len(order)))
        return replace(runs, columns=names, values=runs.values[:, order] * scale + shift)

    asked = fleet(12, seed=6, cut=True)
    before, after = model.estimate(asked), fit(turned(fleet()), QUICK).estimate(turned(asked))
    np.testing.assert_allclose(after.life, before.life, rtol=1e-6)
    np.testing.assert_allclose(after.high, before.high, rtol=1e-6)


def test_the_same_seed_gives_the_same_figures_and_another_others(model: LifeModel) -> None:
    asked = fleet(12, seed=6, cut=True)
    again, other = fit(fleet(), QUICK), fit(fleet(), replace(QUICK, seed=1))
    np.testing.assert_array_equal(again.estimate(asked).life, model.estimate(asked).life)
    assert (other.estimate(asked).life != model.estimate(asked).life).any()
    assert again.config.sha256() != other.config.sha256()


def test_units_do_not_speak_for_each_other(model: LifeModel) -> None:
    asked = fleet(12, seed=6, cut=True)
    alone = model.estimate(asked.take(np.array([4])))
    assert alone.life[0] == pytest.approx(model.estimate(asked).life[4], rel=1e-12)


def test_a_unit_without_wear_lasts_more_than_the_knee_tells(model: LifeModel) -> None:
    told = model.estimate(fleet(12, seed=7, worn=0.0, cut=True))
    assert told.open_ended.sum() >= 10
    assert (told.high[told.open_ended] >= model.knee).all()
    assert (told.life <= model.knee).all()


def test_a_unit_unlike_all_that_failed_gets_the_figures_of_its_age(model: LifeModel) -> None:
    asked = fleet(4, seed=8, cut=True)
    strange = replace(asked, values=asked.values + np.array([0.0, 500.0, -3000.0, 0, 0, 0]))
    silent = replace(asked, values=np.full(asked.values.shape, np.nan))
    for told in (model.estimate(strange), model.estimate(silent)):
        assert not told.evidence.any()
        assert not told.open_ended.any()
        assert told.low.tolist() == [0.0] * 4
        assert told.life.tolist() == model.survival.quantile(asked.lives, 0.5).tolist()
    assert model.estimate(asked).evidence.all()


def test_other_columns_are_refused(model: LifeModel) -> None:
    asked = fleet(4)
    with pytest.raises(Rejected, match="columns"):
        model.features(replace(asked, columns=COLUMNS[::-1]))


@pytest.mark.parametrize("flat", [False, True])
def test_too_little_to_learn_from_is_refused(*, flat: bool) -> None:
    runs = fleet(12) if flat else fleet(4)
    if flat:
        runs = replace(runs, values=np.ones_like(runs.values))
    with pytest.raises(Rejected, match="nothing to learn" if flat else "too few"):
        fit(runs, QUICK)


def test_the_knee_lies_where_wear_begins() -> None:
    # What is seen falls over the last 30 of 80 to 120 cycles: before that all lives look alike.
    draws = np.random.default_rng(2)
    names, cycles, rows = [], [], []
    for unit in range(12):
        life = int(draws.integers(80, 121))
        for cycle in range(1, life + 1):
            names.append(str(unit))
            cycles.append(cycle)
            rows.append([min(life - cycle, 30) + 0.1 * draws.standard_normal()])
    runs = make_runs(names, np.array(cycles, float), np.array(rows), ["seen"])
    knee = choose_knee(runs.values, runs, np.arange(12) % 2, rows=300, rounds=15, seed=0)
    assert 30 < knee < 80


def test_survivors_tell_what_is_left_by_age() -> None:
    survival = learn_survival(np.arange(101.0, 201.0))
    left = survival.quantile(np.array([0.0, 100.0, 150.0, 195.0, 500.0]), 0.5)
    assert left[:3].tolist() == [150.5, 50.5, 25.5]
    assert left[3] == left[4] > 0
    assert (survival.quantile(np.array([150.0]), 0.95) > left[2]).all()


def test_the_interval_follows_the_errors_near_a_prediction() -> None:
    draws = np.random.default_rng(3)
    predicted = draws.uniform(0, 100, 4000)
    remaining = np.maximum(predicted + draws.standard_normal(4000) * (1 + predicted / 10), 0)
    unit = np.arange(4000) // 20
    learnt = learn_intervals(predicted, np.full(4000, 200.0), remaining, unit, np.inf)
    told = learnt.of(np.array([10.0, 80.0]), np.array([50.0, 50.0]))
    assert (told.high - told.low).tolist() == pytest.approx([2 * 1.645 * 2, 2 * 1.645 * 9], rel=0.25)
    assert not told.open_ended.any()


def test_near_failure_an_interval_holds_no_more_than_it_should() -> None:
    def lives_and_guesses(seed: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], ...]:
        draws = np.random.default_rng(seed)
        remaining = draws.uniform(0, 100, 8000)
        return remaining, np.maximum(remaining + 8 * draws.standard_normal(8000), 0)

    remaining, predicted = lives_and_guesses(5)
    learnt = learn_intervals(predicted, np.full(8000, 200.0), remaining, np.arange(8000) // 20, np.inf)
    truth, asked = lives_and_guesses(6)
    near = asked < 10
    told = learnt.of(asked[near], asked[near])
    held = (told.low <= truth[near]) & (truth[near] <= told.high)
    assert (told.low == 0).mean() > 0.5  # no life is missed there on that side
    assert 0.87 < held.mean() < 0.93
