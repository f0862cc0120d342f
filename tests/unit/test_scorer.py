import subprocess
import sys

import numpy as np
import pytest

from cloud.training.logic import Config, fit_window_pca
from shared.artifact import Artifact, unpack
from shared.errors import Rejected
from shared.grid import grid_frame
from shared.onnxruntime import Scorer, check_machine
from tests.models import STEP_US, artifact, healthy, packed, recording


def windows_of(
    table: np.ndarray[tuple[int, int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, int, int], np.dtype[np.float64]]:
    cells = grid_frame(artifact().manifest.grid_spec(), np.arange(1, len(table) + 1) * STEP_US, table)
    return cells.gather(np.arange(40, len(cells))).values


def test_the_graph_does_what_training_did_with_and_without_empty_cells() -> None:
    made = artifact()
    fitted = fit_window_pca(recording(), Config())
    table = healthy(400, seed=5)
    table[100:150, 2] = np.nan
    table[200:260] = np.nan
    table[300:, 3] += 5
    windows = windows_of(table)
    scores = Scorer(made).score(windows)
    score, contributions = fitted.score(windows)
    np.testing.assert_allclose(scores.score, score, rtol=1e-6)
    np.testing.assert_allclose(scores.contributions, contributions, atol=1e-6)
    assert (scores.contributions >= 0).all()
    np.testing.assert_allclose(scores.contributions.sum(axis=1)[scores.score > 0], 1, atol=1e-6)
    assert scores.alarm.tolist() == (scores.score > np.float32(scores.limit)).tolist()
    assert scores.limit == pytest.approx(made.manifest.limit)


def test_a_fault_scores_high_names_its_sensor_and_says_what_was_expected() -> None:
    scorer = Scorer(artifact())
    table = healthy(200, seed=9)
    calm = scorer.score(windows_of(table))
    table[:, 2] -= 0.4
    scores = scorer.score(windows_of(table))
    assert calm.alarm.mean() < 0.05
    assert scores.alarm.all()
    assert set(scores.contributions.argmax(axis=1).tolist()) == {2}
    assert np.abs(scores.seen[:, 2] - scores.expected[:, 2] + 0.4).max() < 0.1


def test_a_silent_window_deviates_by_nothing() -> None:
    scores = Scorer(artifact()).score(np.full((1, 16, 4), np.nan))
    assert scores.score[0] == 0
    assert not scores.contributions.any()
    assert np.isnan(scores.seen).all()
    assert np.isfinite(scores.expected).all()


def test_batches_of_one_are_bit_equal_and_others_within_a_millionth() -> None:
    windows = windows_of(healthy(120, seed=3))
    first, second = Scorer(artifact()), Scorer(artifact())
    whole = first.score(windows)
    ones = [first.score(windows[at : at + 1]) for at in range(len(windows))]
    again = [second.score(windows[at : at + 1]) for at in range(len(windows))]
    assert [each.score.tobytes() for each in ones] == [each.score.tobytes() for each in again]
    np.testing.assert_allclose([each.score[0] for each in ones], whole.score, rtol=1e-6)
    assert len(whole) == len(windows)


def test_wild_values_give_finite_scores() -> None:
    windows = np.full((3, 16, 4), 1e300)
    windows[1] = -1e300
    windows[2, :, 0] = 1e12
    assert np.isfinite(Scorer(artifact()).score(windows).score).all()


def test_the_self_test_passes_and_catches_a_model_that_answers_otherwise() -> None:
    made = artifact()
    Scorer(made).self_test()
    Scorer(unpack(packed("speed"))).self_test()
    probe = made.probe
    assert {True, False} == set(probe.alarms)
    for update, reason in (
        ({"scores": tuple(score * 1.01 for score in probe.scores)}, "score differs"),
        ({"alarms": tuple(not alarm for alarm in probe.alarms)}, "decision"),
        ({"contributions": tuple(row[::-1] for row in probe.contributions)}, "contribution"),
        ({"edges_us": tuple(edge + 1 for edge in probe.edges_us)}, "recorded windows"),
    ):
        bad = Artifact(made.version_hash, made.manifest, made.model, probe.model_copy(update=update))
        with pytest.raises(Rejected, match=reason):
            Scorer(bad).self_test()


def test_a_graph_that_is_none_or_does_not_fit_is_rejected() -> None:
    made = artifact()
    with pytest.raises(Rejected, match="can't load"):
        Scorer(Artifact("0", made.manifest, b"\x3a\x00", made.probe))
    fewer = made.manifest.model_copy(update={"sensors": made.manifest.sensors[:3]})
    with pytest.raises(Rejected, match="does not take windows of 16 cells by 3 sensors"):
        Scorer(Artifact("0", fewer, made.model, made.probe))
    with pytest.raises(Rejected, match=r"shape \(2, 4\)"):
        Scorer(made).score(np.zeros((2, 4)))


def test_a_machine_without_the_sensors_unit_or_rate_is_refused_with_both_named() -> None:
    manifest = artifact().manifest
    units = dict(zip(recording().sensors, recording().units, strict=True))
    check_machine(manifest, units, STEP_US)
    check_machine(manifest, dict.fromkeys(units, ""), int(1.2 * STEP_US))
    with pytest.raises(Rejected, match="needs flow, pressure; the machine has speed, temperature"):
        check_machine(manifest, {"speed": "rpm", "temperature": "degC"})
    with pytest.raises(Rejected, match="pressure in bar, the machine sends kPa"):
        check_machine(manifest, {**units, "pressure": "kPa"})
    with pytest.raises(Rejected, match=r"every 1 s, the machine sends one every 1\.3 s"):
        check_machine(manifest, units, 1_300_000)


def test_importing_the_scorer_brings_no_training_library() -> None:
    code = "import sys, shared.onnxruntime; print({'onnx', 'torch', 'sklearn', 'pandas', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
