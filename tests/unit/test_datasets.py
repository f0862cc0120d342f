import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cloud.training.datasets import ai4i, azure, cmapss, nab, skab, smd, tep
from cloud.training.datasets.catalogue import CATALOGUE, look
from cloud.training.datasets.protocols import ANOMALY_SETS
from cloud.training.datasets.run import AnomalySet, Run, seconds
from cloud.training.measures.events import spans
from cloud.training.measures.life import rmse
from industrialmind.cli import app
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


@pytest.mark.parametrize(("name", "units", "tested"), [("FD001", 100, 100), ("FD003", 100, 100)])
def test_engines_with_a_test_part_are_cut_off_with_what_was_left(name: str, units: int, tested: int) -> None:
    data = life(name)
    assert len(np.unique(data.train.unit)) == units
    assert len(data.left) == len(np.unique(data.test.unit)) == tested
    # A perfect model that never predicts above 125.
    perfect = np.minimum(data.left, cmapss.CAP)
    assert rmse(perfect, data.left) == pytest.approx({"FD001": 3.74, "FD003": 4.71}[name], abs=0.01)


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "units"), [("FD002", 260), ("FD004", 249)])
def test_engines_without_one_are_held_out_whole_and_cut_off_repeatably(name: str, units: int) -> None:
    data, again, other = life(name), life(name), life(name, seed=1)
    assert len(np.unique(data.train.unit)) == units - cmapss.HELD_OUT
    assert len(data.left) == cmapss.HELD_OUT * cmapss.CUTS
    assert not set(data.train.unit.tolist()) & set(data.engine.tolist())
    assert np.array_equal(data.left, again.left)
    assert not np.array_equal(data.left, other.left)
    assert (data.left >= 1).all()
    assert np.array_equal(np.unique(data.test.unit), np.arange(len(data.left)))


def life(name: str, seed: int = 0) -> cmapss.LifeSet:
    try:
        return cmapss.load(FOLDER, name, seed)
    except Misconfigured:
        pytest.skip("no data")


def test_an_engine_that_is_held_out_keeps_its_first_rows_in_order() -> None:
    lives = [40, 60, 50]
    unit = np.repeat([1, 2, 3], lives)
    cycle = np.concatenate([np.arange(1.0, each + 1) for each in lives])
    whole = cmapss.LifeRows(unit, cycle, np.repeat(cycle[:, None], len(cmapss.COLUMNS), axis=1))
    data = cmapss.hold_out("made", whole, seed=0, engines=2, cuts=3)
    assert len(np.unique(data.train.unit)) == 1
    for number, (left, engine) in enumerate(zip(data.left, data.engine, strict=True)):
        own = data.test.cycle[data.test.unit == number]
        assert np.array_equal(own, np.arange(1.0, len(own) + 1))
        assert len(own) >= cmapss.ROWS_MIN
        assert len(own) + left == lives[int(engine) - 1]
    with pytest.raises(Rejected, match="don't fit together"):
        cmapss.LifeRows(unit, cycle, np.zeros((150, 3)))


def test_ai4i_has_no_kind_of_failure_among_its_features_and_even_folds() -> None:
    try:
        data = ai4i.load(FOLDER)
    except Misconfigured:
        pytest.skip("no data")
    assert data.values.shape == (10_000, 6)
    assert data.failed.sum() == 339
    assert not {"TWF", "HDF", "PWF", "OSF", "RNF", "UID", ai4i.LABEL} & set(data.columns)
    shares = [data.failed[data.fold == fold].sum() for fold in range(ai4i.FOLDS)]
    assert max(shares) - min(shares) <= 1


def test_azure_machines_have_their_history_in_order() -> None:
    try:
        machines, happened = azure.load(FOLDER)
    except Misconfigured:
        pytest.skip("no data")
    assert [each.number for each in machines] == list(range(1, 101))
    assert Counter(each.kind for each in happened) == {"errors": 3919, "maint": 3286, "failures": 761}
    assert happened == sorted(happened)
    assert 1000 < azure.hours_between_failures(machines, happened) < 3000


def test_failures_at_the_same_time_are_one() -> None:
    hour = 3_600_000_000
    machines = [azure.Machine(1, "model1", 3)]
    happened = [
        azure.Happening(at * hour, 1, "failures", part) for at, part in ((0, "a"), (0, "b"), (100, "a"))
    ]
    assert azure.hours_between_failures(machines, happened) == 50


def test_the_catalogue_says_what_is_there_and_how_to_get_the_rest(tmp_path: Path) -> None:
    (tmp_path / "FMEA").mkdir()
    (tmp_path / "FMEA" / "fmea.csv").write_text('a,b\n1,"two\nlines"\n3,4\n', encoding="utf-8")
    (tmp_path / "TEP").mkdir()
    with gzip.open(tmp_path / "TEP" / "d00.dat.gz", "wt") as file:  # transposed
        file.write("".join(" 1.0 2.0\n" for _ in range(tep.COLUMNS)))
    found = {each.data.name: each for each in look(tmp_path)}
    assert (found["FMEA"].state, found["FMEA"].rows) == ("partly", 2)
    assert (found["TEP"].state, found["TEP"].rows) == ("partly", 2)
    assert (found["SKAB"].state, found["SKAB"].rows) == ("absent", 0)
    assert found["FMEA"].how.startswith(
        "clone nlp-tlp/Paper_Archive_Hybrid_RAG_FMEA from GitHub, check out e1875fde2c32"
    )
    assert "FMEA/questions_first10.jsonl" in found["FMEA"].how
    (tmp_path / "TEP" / "d00.dat.gz").write_bytes(b"\x1f\x8b\x08 and then nothing")
    with pytest.raises(Misconfigured, match=r"d00\.dat\.gz can't be read"):
        look(tmp_path)


def test_every_file_that_a_reader_needs_is_in_the_catalogue() -> None:
    known = {path for data in CATALOGUE for path in data.files}
    needed = [*skab.files(Path()), *smd.files(Path()), *tep.files(Path()), *nab.files(Path())]
    needed += [
        *ai4i.files(Path()),
        *azure.files(Path()),
        *cmapss.files(Path(), "FD003"),
        *cmapss.files(Path(), "FD004"),
    ]
    assert set(needed) <= known
    assert all(len(data.commit) == 40 for data in CATALOGUE)


def test_the_command_lists_sets_as_words_and_as_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IM_DATASETS", str(tmp_path))
    words = CliRunner().invoke(app, ["datasets", "list"])
    assert words.exit_code == 0
    assert "GPL-3.0" in words.stdout
    assert "SKAB: clone waico/SKAB from GitHub" in words.stdout
    told = json.loads(CliRunner().invoke(app, ["datasets", "list", "--json"]).stdout)
    assert told["folder"] == str(tmp_path)
    assert {each["state"] for each in told["sets"]} == {"absent"}
    assert all(each["licence"] and each["missing"] for each in told["sets"])
