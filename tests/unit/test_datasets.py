from pathlib import Path

import numpy as np
import pytest

from cloud.training.datasets import nab, skab, smd, tep
from cloud.training.datasets.protocols import ANOMALY_SETS
from cloud.training.datasets.run import AnomalySet, Run, seconds
from cloud.training.measures.events import spans
from shared.errors import Misconfigured, Rejected
from shared.settings import datasets_dir

FOLDER = datasets_dir()


def there(name: str) -> AnomalySet:
    try:
        return ANOMALY_SETS[name](FOLDER)
    except Misconfigured:
        pytest.skip("no data")


def test_skab_is_fitted_on_400_rows_of_the_run_itself() -> None:
    data = there("SKAB")
    assert [run.name for run in data.runs] == [str(number) for number in range(16)]
    assert {run.fit.shape for run in data.runs} == {(skab.FIT_ROWS, 8)}
    label = np.concatenate([run.anomaly for run in data.runs])
    assert 0.53 < label.mean() < 0.54  # an alarm on every row scores F1 .698
    assert all(run.test_us[0] > run.fit_us[-1] for run in data.runs)
    assert not {"anomaly", "changepoint"} & set(data.runs[0].sensors)


def test_smd_blames_sensors_where_its_labels_say_anomalous() -> None:
    data = there("SMD")
    assert [round(100 * float(run.anomaly.mean()), 1) for run in data.runs] == [15.7, 4.9, 2.7]
    for run in data.runs:
        assert run.test.shape[1] == len(run.sensors) == 38
        assert {sensor for each in run.blamed for sensor in each.sensors} <= set(range(38))
        blamed = np.zeros(len(run.anomaly), dtype=np.bool_)
        for each in run.blamed:
            blamed[each.begin : each.end] = True
        assert np.array_equal(blamed, run.anomaly)
    assert len(spans(data.runs[0].anomaly)) == len(data.runs[0].blamed) == 30
    assert len(smd.files(FOLDER)) == 12


def test_tep_turns_the_transposed_run_and_knows_where_faults_start() -> None:
    data = there("TEP")
    assert [run.name for run in data.runs] == [f"d{fault:02}_te" for fault in tep.FAULTS]
    assert {run.fit.shape for run in data.runs} == {(500, 52)}
    assert {spans(run.anomaly)[0] for run in data.runs} == {(160, 960)}
    (healthy,) = data.healthy
    assert not healthy.anomaly.any()
    # Both normal runs are of one process: a transposed table would not agree.
    assert np.allclose(healthy.fit.mean(axis=0), healthy.test.mean(axis=0), rtol=0.1)


def test_nab_has_three_of_its_windows_after_fit() -> None:
    (run,) = there("NAB").runs
    assert (len(run.fit), len(run.test)) == (3404, 19291)
    assert len(spans(run.anomaly)) == 3
    assert 0.087 < run.anomaly.mean() < 0.089
    assert run.step_us == 300_000_000
    assert len(nab.files(FOLDER)) == 2


@pytest.mark.parametrize("name", ANOMALY_SETS)
def test_a_set_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"no data: .* is not there"):
        ANOMALY_SETS[name](tmp_path)


def test_a_cut_run_keeps_what_is_left_as_it_was() -> None:
    values = np.arange(20.0).reshape(10, 2)
    run = Run("r", ("a", "b"), seconds(10), values, seconds(10, 10), values, np.arange(10) > 5)
    cut = run.cut(skip=3, rows=4)
    assert np.array_equal(cut.fit, values[3:])
    assert np.array_equal(cut.test_us, run.test_us[:4])
    assert len(cut.anomaly) == 4
    with pytest.raises(Rejected, match="don't fit together"):
        Run("r", ("a",), seconds(10), values, seconds(10), values, np.zeros(10, dtype=np.bool_))
