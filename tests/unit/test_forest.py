"""The isolation forest: grown once for all of these, of fewer trees than it ships with."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from cloud.training import autoencoder, forest, pca
from cloud.training.candidates import DEFAULT, METHODS, fit_candidates
from cloud.training.forest import METHOD, SAMPLE, fit_forest, grow
from cloud.training.logic import Config, Recording
from cloud.training.packing import Fitted
from cloud.training.trained import Trained
from shared.artifact import unpack
from shared.errors import Misconfigured, Rejected
from shared.onnxcheck import check_onnx
from shared.onnxruntime import Scorer
from tests.models import SENSORS, STEP_US, UNITS, healthy, recording

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@pytest.fixture(autouse=True, scope="module")
def few_trees() -> Iterator[None]:
    """Half of them hold to the same promises in half the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forest, "TREES", 50)
        yield


@cache
def fitted() -> Fitted:
    return fit_forest(recording(), Config(), seed=0)


@cache
def trained() -> Trained:
    return fit_candidates(
        recording(), machine="m", machine_type="t", now_us=7, methods=("window-pca", METHOD)
    )


@cache
def scorer() -> Scorer:
    return Scorer(unpack(trained().candidates[-1].artifact))


def windows(table: Floats) -> Floats:
    view = np.lib.stride_tricks.sliding_window_view(table, 16, axis=0)
    return np.ascontiguousarray(view.transpose(0, 2, 1))


def gappy() -> Floats:
    table = healthy(400, seed=5)
    table[100:110, 2] = np.nan
    table[200:240] = np.nan
    table[300:, 3] += 4.0
    return windows(table)


def test_scikit_learn_and_the_trees_agree() -> None:
    own = fitted()
    rows = int(own.ends[int(len(own.ends) * 0.6) - 1]) + 1
    _, order = autoencoder.arrange(own.cells, rows)
    table = pca.features_of(own.scale, own.cells, own.ends)
    model = grow(own.scale, table, order, 0)
    given = model.enter(model.left_over(table))
    theirs = IsolationForest(n_estimators=forest.TREES, max_samples=SAMPLE, random_state=0).fit(given)
    asked = model.enter(model.left_over(pca.features(own.scale, gappy())))
    np.testing.assert_allclose(model.isolation(asked), -theirs.score_samples(asked), rtol=2e-5)


def test_training_and_the_graph_agree_with_and_without_empty_cells() -> None:
    score, shares = fitted().score(gappy())
    made = scorer().score(gappy())
    assert np.abs(made.score - score).max() <= 1e-4 * made.limit
    clear = np.abs(score - made.limit) > 1e-3 * made.limit
    assert (made.alarm == (score > made.limit))[clear].all()
    np.testing.assert_allclose(made.contributions, shares, atol=1e-5)
    assert (made.contributions >= 0).all()
    shown = (made.score > 0) & np.isfinite(gappy()).any(axis=(1, 2))  # what is wholly silent blames nobody
    np.testing.assert_allclose(made.contributions.sum(axis=1)[shown], 1, atol=1e-5)
    assert (made.contributions[made.score == 0] == 0).all()
    assert 0 < (made.score == 0).mean() < 1
    assert np.isfinite(made.expected).all()


def test_one_at_a_time_it_repeats_itself_to_the_bit_and_batches_come_close() -> None:
    given = gappy()[:60]
    one, again = ([scorer().score(given[k : k + 1]).score[0] for k in range(60)] for _ in range(2))
    assert one == again
    np.testing.assert_allclose(scorer().score(given).score, one, rtol=1e-6)


def test_the_artifact_is_small_and_proves_itself() -> None:
    artifact = trained().candidates[-1].artifact
    assert len(artifact) < 2_000_000
    assert check_onnx(unpack(artifact).model) < 120
    scorer().self_test()


def test_the_order_and_the_units_of_sensors_do_not_matter() -> None:
    order, scale, offset = (
        np.array([2, 0, 3, 1]),
        np.array([1e-3, -40.0, 7.0, 1e4]),
        np.array([5, 1e4, -3, 1]),
    )
    given = recording()
    other = fit_forest(
        Recording(given.times_us, SENSORS, UNITS, given.values[:, order] * scale + offset), Config(), seed=0
    )
    shown = gappy()
    score, shares = fitted().score(shown)
    again, moved = other.score(shown[:, :, order] * scale + offset)
    np.testing.assert_allclose(again, score, rtol=1e-6)
    np.testing.assert_allclose(moved, shares[:, order], atol=1e-6)
    assert other.limit.value == pytest.approx(fitted().limit.value, rel=1e-6)


def test_what_no_window_of_training_was_like_scores_high_and_its_sensor_leads() -> None:
    table = healthy(400, seed=8)
    quiet = fitted().score(windows(table))[0]
    table[300:, 1] += 3.0
    score, shares = fitted().score(windows(table))
    assert float(np.median(score[320:])) > 1.1 * float(quiet.max())
    assert (shares[320:].argmax(axis=1) == 1).mean() > 0.9
    made = scorer().score(windows(table))
    gap = made.seen[320:, 1] - made.expected[320:, 1]
    assert 2.4 < float(np.median(gap)) < 3.6


def test_a_seed_decides() -> None:
    again = fit_forest(recording(), Config(), seed=0)
    assert again.limit == fitted().limit
    assert again.graph() == fitted().graph()


def test_the_fit_takes_the_methods_it_is_asked_for() -> None:
    assert set(DEFAULT) < set(METHODS)
    assert [each.method for each in trained().candidates] == ["window-pca", METHOD]
    assert "isolation-forest.panel_found" in trained().candidates[0].metrics
    only = fit_candidates(recording(), machine="m", machine_type="t", now_us=7, methods=(METHOD, METHOD))
    assert [each.method for each in only.candidates] == [METHOD]
    for methods, said in ((("window-pca", "guess"), "no model 'guess'"), ((), "no model was named")):
        with pytest.raises(Misconfigured, match=said):
            fit_candidates(recording(), machine="m", machine_type="t", now_us=7, methods=methods)


def test_what_never_moves_teaches_nothing() -> None:
    still = Recording(np.arange(1, 401) * STEP_US, SENSORS, UNITS, np.ones((400, len(SENSORS))))
    with pytest.raises(Rejected, match="nothing to learn"):
        fit_forest(still, Config(), seed=0)
