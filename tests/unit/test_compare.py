"""Synthetic faults, and which of two models is the better."""

import numpy as np
import pytest

from cloud.training.compare import KINDS, STRETCH, Fault, Panel, better, judge_all, lay
from cloud.training.logic import Config, fit_window_pca
from shared.errors import Rejected
from tests.models import recording


def panel(found: float, over: float) -> Panel:
    return Panel(found, int(over), over, 10, 1.0)


def test_fewer_false_episodes_come_first_then_more_found_then_the_simpler() -> None:
    assert better([panel(0.2, 0), panel(0.9, 1)]) == 0
    assert better([panel(0.2, 0), panel(0.9, 0)]) == 1
    assert better([panel(0.5, 1), panel(0.5, 1)]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_begins_where_it_says_and_is_as_large(kind: str) -> None:
    clean = np.random.default_rng(0).normal(size=STRETCH + 40)
    column = clean.copy()
    lay(column, Fault(0, kind, 4.0, 0, 1), 40, 0.5)
    np.testing.assert_array_equal(column[:40], clean[:40])
    moved = column[40:] - clean[40:]
    expected = {"up": 2.0, "down": -2.0, "ramp": 1.0}
    if kind in expected:
        assert moved.mean() == pytest.approx(expected[kind], rel=0.01)
    elif kind == "stuck":
        assert np.ptp(column[40:]) == 0
    else:
        assert moved.std() == pytest.approx(2.0, rel=0.2)


def test_the_panel_is_the_same_for_the_same_seed_and_judges_held_out_rows() -> None:
    fitted = fit_window_pca(recording(2400), Config())
    (one,) = judge_all([fitted], 3)
    assert judge_all([fitted], 3) == [one]
    assert one.faults == 40
    assert 0.4 < one.found < 1
    assert one.false == 0
    assert one.hours == pytest.approx(len(fitted.after) / 3 / 3600, rel=0.1)


def test_too_few_rows_can_t_be_compared_on() -> None:
    with pytest.raises(Rejected, match="too few to compare"):
        judge_all([fit_window_pca(recording(500), Config())], 0)
