"""The autoencoders: each trained once for all of these."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from cloud.training import autoencoder, candidates
from cloud.training.candidates import fit_candidates
from cloud.training.ensemble import fit_ensemble
from cloud.training.learning import Learning, Transformer
from cloud.training.logic import Config, Recording, fit_window_pca
from cloud.training.packing import Fitted, Request, pack_fitted
from cloud.training.trained import Trained
from cloud.training.watch import Unwatched
from shared.artifact import unpack
from shared.errors import Misconfigured, Rejected
from shared.onnxcheck import check_onnx
from shared.onnxruntime import Scorer
from tests.models import SENSORS, STEP_US, UNITS, healthy

torch = pytest.importorskip("torch")
torch_fit = pytest.importorskip("cloud.training.torch.fit")
convolution = pytest.importorskip("cloud.training.torch.convolution")
network = pytest.importorskip("cloud.training.torch.network")
transformer = pytest.importorskip("cloud.training.torch.transformer")
ROWS = 1600
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def bent(rows: int, seed: int = 0) -> Floats:
    """A machine whose pressure goes with the square of its speed."""
    table = healthy(rows, seed)
    table[:, 2] = table[:, 0] ** 2 / 4e5 + np.random.default_rng(seed).normal(size=rows) * 0.02
    return table


def recording(table: Floats) -> Recording:
    return Recording(np.arange(1, len(table) + 1) * STEP_US, SENSORS, UNITS, table)


@cache
def fitted() -> Fitted:
    made: Fitted = torch_fit.fit_autoencoder(recording(bent(ROWS)), Config(), seed=0)
    return made


@cache
def trained() -> Trained:
    """The candidates, with the network above: a fit takes seconds, and the same arguments give the same one."""
    ready = replace(candidates.METHODS["conv-autoencoder"], fit=lambda *_: fitted())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "METHODS", {**candidates.METHODS, "conv-autoencoder": ready})
        return fit_candidates(recording(bent(ROWS)), machine="m", machine_type="t", now_us=7)


@cache
def scorer() -> Scorer:
    return Scorer(unpack(trained().candidates[-1].artifact))


def windows(table: Floats) -> Floats:
    view = np.lib.stride_tricks.sliding_window_view(table, 32, axis=0)
    return np.ascontiguousarray(view.transpose(0, 2, 1))


def gappy() -> Floats:
    table = bent(400, seed=5)
    table[100:110, 2] = np.nan
    table[200:260] = np.nan
    table[300:, 3] += 0.4
    return windows(table)


def test_torch_and_the_graph_agree_with_and_without_empty_cells() -> None:
    given = gappy()
    score, shares = fitted().score(given)
    made = scorer().score(given)
    limit = made.limit
    assert np.abs(made.score - score).max() <= 1e-4 * limit
    clear = np.abs(score - limit) > 1e-3 * limit
    assert (made.alarm == (score > limit))[clear].all()
    np.testing.assert_allclose(made.contributions, shares, atol=1e-4)
    assert np.isfinite(made.expected).all()
    assert (made.contributions >= 0).all()
    np.testing.assert_allclose(made.contributions.sum(axis=1)[made.score > 0], 1, atol=1e-5)


def test_one_at_a_time_it_repeats_itself_to_the_bit_and_batches_come_close() -> None:
    given = gappy()[:60]
    one, again = ([scorer().score(given[k : k + 1]).score[0] for k in range(60)] for _ in range(2))
    assert one == again
    np.testing.assert_allclose(scorer().score(given).score, one, rtol=2e-6, atol=2e-6)


def test_the_artifact_is_small_and_proves_itself() -> None:
    artifact = trained().candidates[-1].artifact
    assert len(artifact) < 200_000
    assert check_onnx(unpack(artifact).model) < 200
    scorer().self_test()
    assert b".py" not in unpack(artifact).model


def test_every_candidate_carries_all_figures_and_the_best_is_chosen() -> None:
    first, long, last = trained().candidates
    assert [each.method for each in (first, long, last)] == [
        "window-pca",
        "window-pca-long",
        "conv-autoencoder",
    ]
    for own in trained().candidates:
        assert unpack(own.artifact).manifest.metrics == own.metrics
        for rival in trained().candidates:
            if rival is not own:
                assert own.metrics["panel_found"] == rival.metrics[f"{own.method}.panel_found"]
    most = max(each.metrics["panel_found"] for each in trained().candidates)
    assert trained().chosen.metrics["panel_found"] == most
    assert unpack(long.artifact).manifest.grid.window == 64
    assert len(last.curves["train_loss"]) == len(last.curves["validation_loss"]) > 3
    assert not first.curves


def test_a_bent_relation_is_followed_and_a_shift_off_it_found_and_named() -> None:
    table = bent(600, seed=9)
    quiet = scorer().score(windows(table))
    assert quiet.alarm.mean() < 0.02
    table[:, 2] += 0.4  # window PCA takes this for another speed
    shifted = scorer().score(windows(table))
    assert shifted.alarm.mean() > 0.8
    assert (shifted.contributions.argmax(axis=1) == 2).mean() > 0.8
    gap = shifted.seen[:, 2] - shifted.expected[:, 2]
    assert 0.3 < float(np.median(gap)) < 0.5


def test_what_decides_the_training_does_not_depend_on_order_and_units() -> None:
    # Two trainings see the same numbers, so they come to the same network.
    order, scale, offset = (
        np.array([2, 0, 3, 1]),
        np.array([1e-3, -40.0, 7.0, 1e4]),
        np.array([5, 1e4, -3, 1]),
    )
    given = recording(bent(ROWS))
    table = given.values[:, order] * scale + offset
    other = torch_fit.fit_autoencoder(Recording(given.times_us, SENSORS, UNITS, table), Config(), seed=0)
    shown = windows(bent(200, seed=3))
    base, shares = fitted().score(shown)
    again, moved = other.score(shown[:, :, order] * scale + offset)
    np.testing.assert_allclose(again, base, rtol=1e-5)
    np.testing.assert_allclose(moved, shares[:, order], atol=1e-5)
    assert other.curves == fitted().curves  # and the same arguments give the same network, so the same bytes


def test_too_few_rows_leave_window_pca_alone() -> None:
    only = fit_candidates(recording(bent(200)), machine="m", machine_type="t", now_us=7)
    assert [each.method for each in only.candidates] == ["window-pca"]
    assert only.chosen.method == "window-pca"


def test_one_sensor_has_no_others_to_be_expected_from() -> None:
    with pytest.raises(Rejected, match="2 to 64 sensors"):
        torch_fit.fit_autoencoder(
            Recording(np.arange(1, 401) * STEP_US, ("a",), ("",), bent(400)[:, :1]),
            Config(),
            seed=0,
        )


def test_without_torch_the_trainer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, "cloud.training.torch.fit", None)
    with pytest.raises(Misconfigured) as caught:
        candidates.fit_candidates(recording(bent(ROWS)), machine="m", machine_type="t", now_us=7)
    assert "industrialmind[train]" in str(caught.value.hint)


def test_a_judge_of_nothing_that_moves_is_refused() -> None:
    still = np.zeros((400, 4))
    readout, left = autoencoder.fit_readout(still, np.zeros((400, 2, 3)))
    with pytest.raises(Rejected, match="no sensor moves"):
        autoencoder.fit_judge(readout, left, 32)


def test_it_joins_an_ensemble_with_longer_windows() -> None:
    rows = recording(bent(ROWS))
    graph = unpack(trained().candidates[-1].artifact).model
    long = fit_window_pca(rows, Config(window=64), STEP_US)
    both = fit_ensemble([long, replace(fitted(), graph=lambda: graph)])
    artifact = unpack(pack_fitted(both, rows, Request("m", "t", 7)))
    check_onnx(artifact.model)
    joined = Scorer(artifact)
    joined.self_test()
    view = np.lib.stride_tricks.sliding_window_view(bent(300, seed=5), 64, axis=0).transpose(0, 2, 1)
    made, (score, shares) = joined.score(np.ascontiguousarray(view)), both.score(view)
    assert np.abs(made.score - score).max() <= 1e-4 * made.limit
    np.testing.assert_allclose(made.contributions, shares, atol=1e-4)
    alone = scorer().score(np.ascontiguousarray(view[:, -32:])).score / both.figures["conv-autoencoder.unit"]
    assert (made.score >= alone * (1 - 1e-5)).all()
    assert np.isclose(made.score, alone, rtol=1e-5).any()


# The Transformer's


SHORT = Config(window=8, learning=Learning(epochs=3), transformer=Transformer(width=8, layers=1))


def fit_transformer(table: Floats, config: Config = SHORT) -> Fitted:
    method = candidates.METHODS["transformer-autoencoder"]
    return method.fit(recording(table), config, 0, STEP_US, Unwatched())


@cache
def attentive() -> Fitted:
    return fit_transformer(bent(800))


def short(table: Floats) -> Floats:
    return np.ascontiguousarray(windows(table)[:, -16:])


def test_a_transformer_and_its_graph_agree_and_its_artifact_proves_itself() -> None:
    artifact = unpack(pack_fitted(attentive(), recording(bent(800)), Request("m", "t", 7)))
    assert artifact.manifest.method.startswith("transformer-autoencoder/")
    assert check_onnx(artifact.model) < 300
    assert len(artifact.model) < 200_000
    assert b".py" not in artifact.model
    graph = Scorer(artifact)
    graph.self_test()
    given = np.ascontiguousarray(gappy()[:, -16:])
    (score, shares), made = attentive().score(given), graph.score(given)
    assert np.abs(made.score - score).max() <= 1e-4 * made.limit
    clear = np.abs(score - made.limit) > 1e-3 * made.limit
    assert (made.alarm == (score > made.limit))[clear].all()
    np.testing.assert_allclose(made.contributions, shares, atol=1e-4)
    assert np.isfinite(made.expected).all()
    one, again = ([graph.score(given[k : k + 1]).score[0] for k in range(40)] for _ in range(2))
    assert one == again
    np.testing.assert_allclose(graph.score(given[:40]).score, one, rtol=2e-6, atol=2e-6)


def test_a_transformer_finds_and_names_a_shift_and_expects_what_was() -> None:
    table = bent(400, seed=9)
    assert (attentive().score(short(table))[0] > attentive().limit.value).mean() < 0.02
    table[:, 1] += 6.0
    score, shares = attentive().score(short(table))
    assert (score > attentive().limit.value).mean() > 0.9
    assert (shares.argmax(axis=1) == 1).mean() > 0.9


def test_order_and_units_do_not_steer_a_transformer() -> None:
    order, scale = np.array([2, 0, 3, 1]), np.array([1e-3, -40.0, 7.0, 1e4])
    other = fit_transformer(bent(800)[:, order] * scale + 5)
    shown = short(bent(200, seed=3))
    base, shares = attentive().score(shown)
    again, moved = other.score(shown[:, :, order] * scale + 5)
    np.testing.assert_allclose(again, base, rtol=1e-5)
    np.testing.assert_allclose(moved, shares[:, order], atol=1e-5)
    assert other.curves == attentive().curves


def test_its_size_is_told_and_another_one_is_another_method() -> None:
    assert {"patch", "width", "heads", "layers"} <= attentive().parameters.keys()
    assert attentive().parameters["width"] == 8
    larger = replace(SHORT, transformer=Transformer(width=12))
    hashes = {
        torch_fit.method_hash(design, config)
        for config in (SHORT, larger)
        for design in (convolution.DESIGN, transformer.design(config.transformer))
    }
    assert len(hashes) == 3, "the convolutions know nothing of it"


@pytest.mark.parametrize("window", [7, 16, 33])
def test_no_code_hears_its_own_sensor_and_each_hears_every_cell_of_the_others(window: int) -> None:
    for design in (convolution.DESIGN, transformer.design(Transformer())):
        torch.manual_seed(1)
        net = network.Autoencoder(design, 3, window).eval()
        cells = torch.randn(1, 3, window, requires_grad=True)
        codes = net.codes(cells, torch.ones_like(cells))
        for sensor in range(3):
            (slope,) = torch.autograd.grad(codes[0, sensor].sum(), cells, retain_graph=True)
            heard = slope[0].abs() > 0
            others = [other for other in range(3) if other != sensor]
            assert not heard[sensor].any()
            assert heard[others].all()
        narrow = net.narrow.out_features
        assert narrow < 3, "a code is narrower than the sensors"
