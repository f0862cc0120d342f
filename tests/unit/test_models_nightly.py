"""How good the first model is, on recordings and what training delivers on simulated machines."""

from collections.abc import Sequence

import numpy as np
import pytest

from bench.judge.figures import counts
from bench.judge.methods import shipped
from bench.simulator.faults import load as load_faults
from bench.simulator.methods import DELIVERED
from bench.simulator.page import held
from bench.simulator.run import judge
from cloud.training.datasets.protocols import ANOMALY_SETS
from cloud.training.datasets.run import Run
from industrialmind.score import score_rows
from shared.errors import Misconfigured
from shared.settings import datasets_dir


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_what_training_delivers_holds_on_machines_that_nobody_saw() -> None:
    first = int(np.random.default_rng().integers(1, 2**31))  # drawn now
    judged = judge(load_faults(), (first, first + 1))
    said = f"seed {first}: {held(judged)} {judged.figures(DELIVERED)}"
    # Ten machines have 80 strong faults and 20 healthy weeks: all lines but that on how many weeks there are.
    assert {name for name, holds in held(judged).items() if not holds} == {"healthy_weeks"}, said


def valve() -> Sequence[Run]:
    try:
        return ANOMALY_SETS["SKAB"](datasets_dir()).runs
    except Misconfigured:
        pytest.skip("no data")


@pytest.mark.nightly
def test_skab_valve1_holds_its_gates() -> None:
    found = counts([shipped(run, 0) for run in valve()])
    assert found.f1 >= 0.76
    assert found.far <= 0.15


def test_a_real_run_scores_the_same_renamed_and_rescaled() -> None:
    one = valve()[0]
    base = score_rows(one.sensors, one.fit_us, one.fit, one.test_us, one.test)
    factor = np.linspace(-3, 4.5, len(one.sensors))
    fit, test = (table[:, ::-1] * factor + 50 for table in (one.fit, one.test))
    again = score_rows(tuple("xyzuvwab"), one.fit_us, fit, one.test_us, test)
    np.testing.assert_allclose(again.score, base.score, rtol=1e-6)
    np.testing.assert_allclose(again.contributions, base.contributions[:, ::-1], atol=1e-6)
