"""The harness itself: controls catch those who cheat, floors are those of the data sets' table, stages are what is documented."""

import csv
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from bench.judge import figures, methods
from bench.judge.controls import control
from bench.judge.gates import GATES, Gate
from bench.judge.methods import FLOORS, Method, Scored
from bench.judge.page import commit
from bench.judge.run import judge
from bench.models import arguments
from cloud.training.datasets.protocols import ANOMALY_SETS
from cloud.training.datasets.run import AnomalySet, Run, seconds
from industrialmind.score import run_score
from shared.errors import Misconfigured
from shared.settings import datasets_dir
from tests.models import SENSORS, healthy

ROOT = Path(__file__).parents[2]


def made(name: str = "made", seed: int = 1) -> Run:
    test = healthy(300, seed=seed, start=600)
    test[200:, 2] -= 0.3
    return Run(name, SENSORS, seconds(600), healthy(600), seconds(300, 600), test, np.arange(300) >= 200)


def honest(run: Run, seed: int) -> Scored:
    return methods.pca(run, seed)


def by_position(run: Run, seed: int) -> Scored:
    return _and(honest(run, seed), np.arange(len(run.sensors), dtype=np.float64) @ run.test.T)


def by_name(run: Run, seed: int) -> Scored:
    first = min(range(len(run.sensors)), key=lambda at: run.sensors[at])
    return _and(honest(run, seed), (run.test[:, first] - run.fit[:, first].mean()) / run.fit[:, first].std())


def by_unit(run: Run, seed: int) -> Scored:
    return _and(honest(run, seed), run.test.sum(axis=1))


def by_the_future(run: Run, seed: int) -> Scored:
    return _and(honest(run, seed), np.full(len(run.test), run.test.std()))


def by_where_fit_begins(run: Run, seed: int) -> Scored:
    found = honest(run, seed)
    return replace(found, alarm=found.alarm if len(run.fit) == 600 else ~found.alarm)


def by_order_of_blame(run: Run, seed: int) -> Scored:
    return replace(honest(run, seed), contributions=np.tile([0.7, 0.3, 0.0, 0.0], (len(run.test), 1)))


def _and(found: Scored, extra: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Scored:
    return replace(found, ratio=found.ratio + 0.01 * np.abs(extra))


@pytest.mark.parametrize(
    ("method", "caught"),
    [
        (honest, set()),
        (by_position, {"columns permuted: score, relative", "columns rescaled: score, relative"}),
        (by_name, {"columns renamed: score, relative"}),
        (by_unit, {"columns rescaled: score, relative"}),
        (by_the_future, {"TEST cut at 31%: scores before", "TEST cut at 77%: scores before"}),
        (by_where_fit_begins, {"100 FIT rows cut off: F1"}),
        (by_order_of_blame, {"columns permuted: contributions"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_controls_catch_exactly_those_who_cheat(method: Method, caught: set[str]) -> None:
    runs = [method(made(), 0)]
    failed = {each.name for each in control(runs, 0, method) if not each.holds}
    assert caught <= failed
    assert (failed == set()) == (not caught)


def test_the_shipped_scorer_passes_the_controls_on_a_made_machine() -> None:
    runs = [methods.shipped(made(), 0)]
    assert [each for each in control(runs, 0) if not each.holds] == []


def test_judging_tells_figures_spreads_floors_and_gates() -> None:
    judged = judge(AnomalySet("SKAB", (made("a"), made("b", seed=2))), (0, 1))
    assert set(judged.floors) == set(FLOORS)
    assert judged.floors["always"]["far"].mean == 1
    assert judged.floors["always"]["onset"].mean == 0
    assert judged.ours["f1"].mean > 0.8
    assert judged.ours["f1"].least == judged.ours["f1"].most  # window PCA draws nothing
    assert judged.floors["random"]["f1"].least < judged.floors["random"]["f1"].most
    assert judged.intervals["f1"][0] <= judged.ours["f1"].mean <= judged.intervals["f1"][1]


def test_a_gate_holds_up_to_its_value_and_never_for_nothing() -> None:
    gate = Gate("far", "≤", 0.15, 0.13)
    assert gate.holds(0.15)
    assert not gate.holds(0.151)
    assert not gate.holds(float("nan"))
    assert gate.distance(0.15) == pytest.approx(0.02)
    assert gate.distance(0.1) == 0
    assert Gate("x", "≥", 1.0).distance(0.0) is None
    assert set(GATES) == set(ANOMALY_SETS)


# F1, FAR %, MAR %, PR-AUC of the data sets' own table; `always` and PCA draw nothing.
TABLE = {
    ("SKAB", "always"): (0.698, 100, 0, 0.536),
    ("SKAB", "PCA"): (0.740, 49.51, 16.15, 0.751),
    ("SKAB", "IForest"): (0.379, 6.55, 75.32, 0.737),
    ("SMD", "always"): (0.144, 100, 0, 0.078),
    ("SMD", "IForest"): (0.333, 17.92, 37.50, 0.247),
    ("TEP", "always"): (0.909, 100, 0, 0.833),
    ("TEP", "PCA"): (0.834, 5.00, 27.70, 0.956),
    ("TEP", "IForest"): (0.715, 5.31, 43.76, 0.947),
    ("NAB", "always"): (0.162, 100, 0, 0.088),
    ("NAB", "PCA"): (0.495, 1.28, 62.73, 0.477),
    ("NAB", "IForest"): (0.496, 0.27, 66.08, 0.545),
}
QUICK = {("SKAB", "always"), ("SKAB", "PCA"), ("NAB", "PCA")}


@pytest.mark.parametrize(
    ("name", "floor"),
    [pytest.param(*key, marks=[] if key in QUICK else [pytest.mark.nightly]) for key in TABLE],
)
def test_floors_are_those_of_the_data_sets_own_table(name: str, floor: str) -> None:
    assert floor_figures(name, floor) == pytest.approx(TABLE[name, floor], rel=0.002, abs=0.006)


@pytest.mark.nightly
def test_pca_on_smd_is_near_the_table_whose_scaling_is_not_said() -> None:
    f1, far, mar, precision = floor_figures("SMD", "PCA")
    assert (f1, precision) == pytest.approx((0.358, 0.375), abs=0.035)
    assert (far, mar) == pytest.approx((17.45, 32.98), abs=3.5)


def floor_figures(name: str, floor: str) -> tuple[float, float, float, float]:
    try:
        data = ANOMALY_SETS[name](datasets_dir())
    except Misconfigured:
        pytest.skip("no data")
    runs = [FLOORS[floor](run, 0) for run in data.runs]
    whole = figures.counts(runs)
    return whole.f1, 100 * whole.far, 100 * whole.mar, figures.pr_auc_of(runs)


def test_stages_call_the_command_for_every_set_and_depend_on_files_that_exist() -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["models"]
    assert stage["foreach"] == list(ANOMALY_SETS)
    for name in stage["foreach"]:
        words = shlex.split(stage["do"]["cmd"].replace("${item}", name))
        at = words.index("bench/models.py")
        given = arguments().parse_args(words[at + 1 :])
        assert given.sets == [name]
        assert given.write_docs
        assert not given.quick
        (metrics,) = stage["do"]["metrics"]
        assert next(iter(metrics)).replace("${item}", name) == f"{given.metrics}/{name}.json"
    own = [path for path in stage["do"]["deps"] if not path.startswith("..")]
    assert [path for path in own if not (ROOT / path).exists()] == []


def test_the_page_has_a_place_for_every_set() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert re.findall(r"<!-- ([A-Z]+) -->", page) == [*ANOMALY_SETS, "SIMULATOR", "OPERATING"]


@pytest.mark.parametrize("begin", [0, 600])  # numbers often begin anew in TEST
def test_what_is_judged_is_what_the_command_says_of_the_same_rows_in_files(
    tmp_path: Path, begin: int
) -> None:
    run = made()
    files = {"fit": (0, run.fit), "test": (begin, run.test)}
    for name, (first, table) in files.items():
        lines = [f"{first + at}," + ",".join(map(repr, row)) for at, row in enumerate(table.tolist())]
        (tmp_path / name).write_text("\n".join([",".join(["time", *run.sensors]), *lines]), encoding="utf-8")
    report = run_score(tmp_path / "fit", tmp_path / "test", tmp_path / "out")
    judged = methods.shipped(run, 0)
    with (tmp_path / "out").open(newline="", encoding="utf-8") as file:
        told = list(csv.DictReader(file))
    scores = np.array([float(row["score"] or "nan") for row in told])
    assert scores / report.limit == pytest.approx(judged.ratio, rel=1e-8, nan_ok=True)
    assert [row["alarm"] == "1" for row in told] == judged.alarm.tolist()
    assert judged.contributions is not None
    shares = np.array([[float(row[name]) for name in run.sensors] for row in told])
    assert np.abs(shares - judged.contributions).max() < 1e-6


def test_the_page_says_which_commit_it_judged(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ("-c", "user.name=n", "-c", "user.email=n@example.org")
        made = subprocess.run(
            [shutil.which("git") or "/usr/bin/git", "-C", str(tmp_path), *who, *words],
            check=True,
            capture_output=True,
            text=True,
        )
        return made.stdout.strip()

    assert commit(tmp_path) == "commit unknown"
    git("init", "-q")
    for name in ("a.py", "a.md"):
        (tmp_path / name).write_text("1")
    git("add", ".")
    git("commit", "-qm", "m")
    clean = f"commit `{git('rev-parse', '--short=12', 'HEAD')}`"
    (tmp_path / "a.md").write_text("2")
    assert commit(tmp_path) == clean
    (tmp_path / "a.py").write_text("2")
    assert commit(tmp_path) == f"{clean} with changes"
