"""How good the first model is, on recordings and what training delivers on simulated machines."""

import numpy as np
import pytest

from bench.score_skab import FIT_ROWS, Outcome, counts, load, ours
from bench.simulator.faults import load as load_faults
from bench.simulator.methods import DELIVERED
from bench.simulator.page import held
from bench.simulator.run import judge
from industrialmind.score import score_rows
from shared.settings import datasets_dir


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_what_training_delivers_holds_on_machines_that_nobody_saw() -> None:
    first = int(np.random.default_rng().integers(1, 2**31))  # drawn now
    judged = judge(load_faults(), (first, first + 1))
    said = f"seed {first}: {held(judged)} {judged.figures(DELIVERED)}"
    # Ten machines have 80 strong faults and 20 healthy weeks: all lines but that on how many weeks there are.
    assert {name for name, holds in held(judged).items() if not holds} == {"healthy_weeks"}, said


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
