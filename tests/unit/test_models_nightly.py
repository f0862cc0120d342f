"""How good the first model is, on recordings and on simulated weeks."""

import numpy as np
import pytest

from bench.score_simulator import pooled, run
from bench.score_skab import FIT_ROWS, Outcome, counts, load, ours
from firmware_sim.machines import MACHINE_TYPES
from industrialmind.score import score_rows
from shared.settings import datasets_dir


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_ten_simulated_weeks_find_the_faults_with_few_false_episodes() -> None:
    # Seeds are drawn now: the model must hold on weeks that nobody saw.
    first = int(np.random.default_rng().integers(1, 2**31))
    tally = pooled(run((first, first + 1), tuple(MACHINE_TYPES), ("window PCA",)), "window PCA")
    said = (
        f"seed {first}: found {tally.found}/{tally.strong}, false a week {tally.false_week:.2f} {tally.false}"
    )
    assert tally.weeks > 9.9, said
    assert tally.detection >= 0.8, said
    assert tally.false_week <= 2, said
    assert tally.right / tally.found > 2 * tally.chance / tally.found, said


@pytest.mark.nightly
def test_skab_valve1_by_protocol_beats_the_floors() -> None:
    runs = load(datasets_dir())
    if not runs:
        pytest.skip("no data")
    f1, far, _ = counts([Outcome(run, ours(run)) for run in runs])
    assert f1 >= 0.76
    assert far <= 0.18


def test_a_real_run_scores_the_same_renamed_and_rescaled() -> None:
    runs = load(datasets_dir())[:1]
    if not runs:
        pytest.skip("no data")
    (one,) = runs
    names = tuple(f"s{index}" for index in range(one.values.shape[1]))
    fit, test = slice(0, FIT_ROWS), slice(FIT_ROWS, None)
    base = score_rows(names, one.times_us[fit], one.values[fit], one.times_us[test], one.values[test])
    other = one.values[:, ::-1] * np.linspace(-3, 4.5, len(names)) + 50
    again = score_rows(tuple("xyzuvwab"), one.times_us[fit], other[fit], one.times_us[test], other[test])
    np.testing.assert_allclose(again.score, base.score, rtol=1e-6)
    np.testing.assert_allclose(again.contributions, base.contributions[:, ::-1], atol=1e-6)
