"""The ensemble of models over windows of different lengths: fitted once for all of these."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from cloud.training import candidates, limits
from cloud.training.candidates import LONG, LONG_WINDOWS, METHODS, fit_candidates
from cloud.training.checkpoints import Keep
from cloud.training.compare import HELD
from cloud.training.ensemble import METHOD, fit_ensemble
from cloud.training.logic import Config, Recording, fit_window_pca
from cloud.training.packing import Fitted
from cloud.training.watch import Watch
from shared.artifact import unpack
from shared.errors import Rejected
from shared.onnxcheck import check_onnx
from shared.onnxruntime import Scorer
from tests.models import SENSORS, STEP_US, UNITS, healthy, recording

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
MEMBERS = ("window-pca", LONG)  # over windows of two lengths
ROWS = 1600


def fit(given: Recording) -> tuple[Fitted, ...]:
    members = (
        fit_window_pca(given, Config(), STEP_US),
        fit_window_pca(given, Config(window=LONG_WINDOWS * Config().window), STEP_US, LONG),
    )
    return (*members, fit_ensemble(members))


@cache
def fitted() -> tuple[Fitted, ...]:
    return fit(recording(ROWS))


@cache
def artifact() -> bytes:
    method = candidates.Method(METHODS[METHOD].fit, METHODS[METHOD].windows, MEMBERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "METHODS", {**METHODS, METHOD: method})
        trained = fit_candidates(
            recording(ROWS), machine="m", machine_type="t", now_us=7, methods=("window-pca", METHOD)
        )
    assert [each.method for each in trained.candidates] == ["window-pca", METHOD]
    assert "ensemble.panel_found" in trained.candidates[0].metrics
    return trained.candidates[1].artifact


@cache
def scorer() -> Scorer:
    return Scorer(unpack(artifact()))


def windows(table: Floats) -> Floats:
    view = np.lib.stride_tricks.sliding_window_view(table, 64, axis=0)
    return np.ascontiguousarray(view.transpose(0, 2, 1))


def gappy() -> Floats:
    table = healthy(500, seed=5)
    table[100:110, 2] = np.nan
    table[200:300] = np.nan
    table[400:, 3] += 4.0
    return windows(table)


def test_training_and_the_graph_agree_with_and_without_empty_cells() -> None:
    score, shares = fitted()[-1].score(gappy())
    made = scorer().score(gappy())
    assert made.limit == pytest.approx(fitted()[-1].limit.value)
    assert np.abs(made.score - score).max() <= 1e-4 * made.limit
    np.testing.assert_allclose(made.contributions, shares, atol=1e-5)
    assert (made.contributions >= 0).all()
    np.testing.assert_allclose(made.contributions.sum(axis=1)[score > 0], 1, atol=1e-5)
    assert np.isfinite(made.expected).all()
    clear = np.abs(score - made.limit) > 1e-3 * made.limit
    assert (made.alarm == (score > made.limit))[clear].all()
    assert made.alarm.any()
    assert not made.alarm.all()


def test_it_is_the_largest_of_its_members_over_their_units() -> None:
    *members, ensemble = fitted()
    shown = gappy()
    each = [
        member.score(shown[:, -member.cells.spec.window :])[0] / ensemble.figures[f"{member.method}.unit"]
        for member in members
    ]
    np.testing.assert_allclose(ensemble.score(shown)[0], np.max(each, axis=0), rtol=1e-9)
    assert set(np.argmax(each, axis=0)) >= {0, 1}, "more than one member has a say"
    assert len(ensemble.healthy) == len(ensemble.after)


def test_rows_that_models_are_compared_on_set_no_unit() -> None:
    short, *_, ensemble = fitted()
    cut = int(len(short.healthy) * (1 - HELD))
    spec = short.cells.spec
    own = limits.set_limit(
        short.healthy[:cut],
        window=spec.window,
        step_us=spec.step_us,
        budget=short.budget,
        forward_ratio=short.forward,
    )
    assert ensemble.figures["window-pca.unit"] == own.value


def test_one_at_a_time_it_repeats_itself_to_the_bit_and_batches_come_close() -> None:
    given = gappy()[:60]
    one, again = ([scorer().score(given[k : k + 1]).score[0] for k in range(60)] for _ in range(2))
    assert one == again
    np.testing.assert_allclose(scorer().score(given).score, one, rtol=1e-6)


def test_the_artifact_passes_the_check_and_proves_itself_and_repeats() -> None:
    assert check_onnx(unpack(artifact()).model) < 400
    scorer().self_test()
    assert fitted()[-1].graph() == unpack(artifact()).model


def test_the_order_and_the_units_of_sensors_do_not_matter() -> None:
    order, scale, offset = (
        np.array([2, 0, 3, 1]),
        np.array([1e-3, -40.0, 7.0, 1e4]),
        np.array([5, 1e4, -3, 1]),
    )
    given = recording(ROWS)
    other = fit(Recording(given.times_us, SENSORS, UNITS, given.values[:, order] * scale + offset))[-1]
    shown = gappy()
    score, shares = fitted()[-1].score(shown)
    again, moved = other.score(shown[:, :, order] * scale + offset)
    np.testing.assert_allclose(again, score, rtol=1e-4)
    np.testing.assert_allclose(moved, shares[:, order], atol=1e-3)
    assert other.limit.value == pytest.approx(fitted()[-1].limit.value, rel=1e-4)


def test_a_shifted_sensor_scores_high_and_leads() -> None:
    table = healthy(500, seed=8)
    table[400:, 1] += 3.0
    made = scorer().score(windows(table))
    assert made.alarm[400:].all()
    assert (made.contributions[400:].argmax(axis=1) == 1).all()
    gap = made.seen[400:, 1] - made.expected[400:, 1]
    assert 2.4 < float(np.median(gap)) < 3.6


def test_members_that_are_ready_are_not_fitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []

    def counting(name: str) -> candidates.Method:
        own = METHODS[name].fit

        def fit_one(
            given: Recording, config: Config, seed: int, step: int, watch: Watch, keep: Keep | None = None
        ) -> Fitted:
            counted.append(name)
            return own(given, config, seed, step, watch, keep)

        return candidates.Method(fit_one, METHODS[name].windows)

    ensemble = candidates.Method(METHODS[METHOD].fit, METHODS[METHOD].windows, ("window-pca", LONG))
    names = ("window-pca", LONG)
    monkeypatch.setattr(candidates, "METHODS", {METHOD: ensemble, **{name: counting(name) for name in names}})
    fit_candidates(recording(ROWS), machine="m", machine_type="t", now_us=7, methods=("window-pca", METHOD))
    assert counted == ["window-pca", LONG]


def test_no_window_in_common_is_refused() -> None:
    short = fitted()[0]
    half = len(short.after) // 2
    with pytest.raises(Rejected, match="in common"):
        fit_ensemble([replace(short, after=part) for part in (short.after[:half], short.after[half:])])
