"""Window PCA over several time scales."""

from functools import cache

import numpy as np
import pytest

from cloud.training import pca, scales
from cloud.training.limits import TailOf
from cloud.training.logic import Config, fit, fit_window_pca
from cloud.training.packing import Fitted
from shared.artifact import unpack
from shared.onnxcheck import check_onnx
from shared.onnxruntime import Scorer
from tests.models import healthy, packed, recording

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@cache
def fitted() -> Fitted:
    return fit_window_pca(recording(), Config())


@cache
def scorer() -> Scorer:
    return Scorer(unpack(packed()))


def windows(table: Floats) -> Floats:
    view = np.lib.stride_tricks.sliding_window_view(table, 16, axis=0)
    return np.ascontiguousarray(view.transpose(0, 2, 1))


def gappy() -> Floats:
    table = healthy(400, seed=5)
    table[100:110, 2] = np.nan
    table[200:240] = np.nan
    table[300:, 3] += 0.4
    return windows(table)


def test_the_time_scales_are_octaves_and_never_longer_than_the_window() -> None:
    assert scales.lengths_of(16) == (4, 8, 16)
    assert scales.lengths_of(64) == (16, 32, 64)
    assert scales.lengths_of(5) == (4, 5)
    assert scales.lengths_of(1) == (1,)


def test_training_and_the_graph_agree_with_and_without_empty_cells() -> None:
    score, shares = fitted().score(gappy())
    made = scorer().score(gappy())
    assert np.abs(made.score - score).max() <= 1e-4 * made.limit
    clear = np.abs(score - made.limit) > 1e-3 * made.limit
    assert (made.alarm == (score > made.limit))[clear].all()
    np.testing.assert_allclose(made.contributions, shares, atol=1e-5)
    assert (made.contributions >= 0).all()
    np.testing.assert_allclose(made.contributions.sum(axis=1)[made.score > 0], 1, atol=1e-5)
    assert np.isfinite(made.expected).all()
    assert np.isfinite(made.score).all()


def test_one_at_a_time_it_repeats_itself_to_the_bit_and_batches_come_close() -> None:
    given = gappy()[:60]
    one, again = ([scorer().score(given[k : k + 1]).score[0] for k in range(60)] for _ in range(2))
    assert one == again
    np.testing.assert_allclose(scorer().score(given).score, one, rtol=1e-6)


def test_the_graph_is_small() -> None:
    assert check_onnx(unpack(packed()).model) < 120


def test_a_burst_of_four_cells_shows_at_once_and_a_small_shift_in_time() -> None:
    table = healthy(400, seed=8)
    burst, shift = table.copy(), table.copy()
    burst[300:304, 1] += 6.0
    shift[300:, 1] += 1.0
    limit = fitted().limit.value
    for faulty, at in ((burst, 303), (shift, 320)):
        scores = fitted().score(windows(faulty))[0]
        assert scores[at - 15] > limit
        assert scores[:285].max() < limit
    # The newest four cells see it more clearly than the mean of all sixteen.
    shown = windows(burst)[303 - 15 : 304 - 15]
    model = scales.fit_scales(fitted().scale, _table(), 16)
    each = [
        pca.score_features(member, scales.features(fitted().scale, shown)[:, at])[0]
        for at, member in enumerate(model.members)
    ]
    assert each[0] > 1.1 * each[-1]


def _table() -> Floats:
    return scales.features_of(fitted().scale, fitted().cells, fitted().ends)


def test_expected_is_what_the_window_would_be_without_the_shift() -> None:
    table = healthy(400, seed=8)
    table[300:, 1] += 3.0
    made = scorer().score(windows(table))
    assert (made.contributions[320:].argmax(axis=1) == 1).all()
    gap = made.seen[320:, 1] - made.expected[320:, 1]
    assert 2.4 < float(np.median(gap)) < 3.6


def test_the_margin_grows_with_what_the_future_brought() -> None:
    random = np.random.default_rng(0)
    calm = random.normal(size=(800, 3, 6))
    none = pca.Scale(np.zeros(3), np.zeros(3), np.zeros(3))
    assert scales.forward_ratio(none, calm, 16) < 1.5
    grown = calm * np.repeat([1, 1, 1, 1, 2, 5, 5, 5], 100)[:, None, None]
    assert scales.forward_ratio(none, grown, 16) > 1.9
    # Scores that shrink are no reason to trust less than the calibration part.
    assert scales.forward_ratio(none, calm[::-1] / np.arange(1, 801)[:, None, None], 16) >= 1.0
    assert scales.forward_ratio(none, np.zeros((800, 3, 6)), 16) == 1.0


def test_growth_compares_whole_parts_behind_a_gap_and_never_looks_ahead() -> None:
    asked: list[tuple[int, slice]] = []

    def tail(count: int) -> TailOf:
        def of(part: slice) -> float:
            asked.append((count, part))
            return float(2.0 ** (part.start // 10))

        return of

    # A part is ten rows, as long as the gap at least; each is twice the one before.
    assert scales.growth(120, 10, tail) == pytest.approx(2.0)
    pairs = list(zip(asked[::2], asked[1::2], strict=True))
    assert [count for (count, _), _ in pairs] == [40, 50, 60, 70, 80, 90]
    for (count, known), (again, new) in pairs:
        assert (again, known.start, known.stop, new.start, new.stop) == (
            count,
            count + 10,
            count + 20,
            count + 20,
            count + 30,
        )
    asked.clear()
    scales.growth(120, 20, tail)
    assert all(part.stop - part.start == 20 and part.stop <= 120 for _, part in asked)
    assert scales.growth(20, 10, tail) == 1.0


def test_one_burst_in_one_part_is_not_the_whole_margin() -> None:
    tails = np.array([1.0] * 8 + [9.0] + [1.0] * 4)

    def tail(_count: int) -> TailOf:
        return lambda part: float(tails[part.start // 10])

    assert 1.5 < scales.growth(120, 10, tail) < 9.0


def test_a_long_history_is_thinned_and_the_calibration_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert scales.thinned(np.arange(10))[1] == 1
    whole = fitted()
    monkeypatch.setattr(scales, "WINDOWS_MAX", 200)
    few = fit_window_pca(recording(), Config())
    assert len(few.healthy) == len(whole.healthy)
    assert few.limit.value == pytest.approx(whole.limit.value, rel=0.4)


def test_the_same_rows_give_the_same_bytes() -> None:
    again = fit(recording(), machine="pump-1", machine_type="pump", now_us=7, config=Config())
    assert again == packed()
