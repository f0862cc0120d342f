"""Window PCA, the autoencoder and the better of them on SKAB valve1 by protocol, beside floors measured in the same run.

Each run is fitted on its first 400 rows and scored on the rest; rows are pooled, without point adjustment. More than
half of the scored rows are anomalous: read F1 only with FAR and MAR.
"""

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from cloud.training.candidates import fit_candidates
from cloud.training.logic import Config, Recording
from cloud.training.trained import Trained
from industrialmind.score import score_rows
from shared.artifact import unpack
from shared.grid import grid_frame
from shared.onnxruntime import Scorer
from shared.persistence import episodes
from shared.settings import datasets_dir

FIT_ROWS = 400
MULTIPLIERS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Run:
    """One file."""

    name: str
    times_us: NDArray[np.int64]
    values: Array
    anomaly: Bools


@dataclass(frozen=True)
class Outcome:
    """Scores over the limit (NaN = unscored) and alarms of the scored part of one run."""

    run: Run
    ratio: Array

    def alarms(self, multiplier: float = 1.0) -> Bools:
        """Rows above so many times the limit."""
        return np.nan_to_num(self.ratio, nan=-1.0) > multiplier


def load(folder: Path) -> list[Run]:
    """The runs of valve1, in order of their numbers."""
    runs = []
    for path in sorted((folder / "SKAB" / "valve1").glob("*.csv"), key=lambda each: int(each.stem)):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, delimiter=";"))[1:]
        times = [datetime.fromisoformat(row[0]).replace(tzinfo=UTC).timestamp() * 1e6 for row in rows]
        table = np.array([[float(cell) for cell in row[1:]] for row in rows])
        runs.append(Run(path.stem, np.array(times, dtype=np.int64), table[:, :-2], table[:, -2] > 0))
    return runs


def ours(run: Run) -> Array:
    """Window PCA through artifact, grid and scorer."""
    sensors = tuple(f"s{index}" for index in range(run.values.shape[1]))
    fit, test = slice(0, FIT_ROWS), slice(FIT_ROWS, None)
    result = score_rows(sensors, run.times_us[fit], run.values[fit], run.times_us[test], run.values[test])
    return np.asarray(result.score / result.manifest.limit, dtype=np.float64)


@cache
def _trained(run: Run) -> Trained:
    known = Recording(
        run.times_us[:FIT_ROWS],
        tuple(f"s{index}" for index in range(run.values.shape[1])),
        ("",) * run.values.shape[1],
        run.values[:FIT_ROWS],
    )
    return fit_candidates(known, machine="m", machine_type="skab", now_us=0)


def autoencoder(run: Run) -> Array:
    """The convolutional autoencoder, the last window that has closed when a row comes."""
    return _rows(run, _trained(run).candidates[-1].artifact)


def better(run: Run) -> Array:
    """Whichever training would deliver."""
    return _rows(run, _trained(run).chosen.artifact)


def _rows(run: Run, data: bytes) -> Array:
    scorer = Scorer(unpack(data))
    spec = scorer.manifest.grid_spec()
    begin = FIT_ROWS - 3 * spec.window
    cells = grid_frame(spec, run.times_us[begin:], run.values[begin:])
    windows = cells.gather(np.arange(len(cells)))
    scores = scorer.score(windows.values)
    ratio = np.where(windows.scorable, scores.score / scores.limit, np.nan)
    closed = np.searchsorted(windows.times_us, run.times_us[FIT_ROWS:], side="right") - 1
    made: Array = ratio[np.maximum(closed, 0)].astype(np.float64)
    return made


def always(run: Run) -> Array:
    """An alarm on every row."""
    return np.full(len(run.values) - FIT_ROWS, 9.0)


def chance(run: Run) -> Array:
    """Uniform scores that alarm at the true rate."""
    label = run.anomaly[FIT_ROWS:]
    scores: Array = np.random.default_rng(int(run.name)).random(len(label)) / float(1 - label.mean())
    return scores


def pca(run: Run) -> Array:
    """Row-wise T² and Q, 90 % variance, fitted on 70 % of FIT, limit at the 99.5 % quantile of the rest."""
    cut = int(FIT_ROWS * 0.7)
    scaler = StandardScaler().fit(run.values[:cut])
    table = scaler.transform(run.values)
    model = PCA(0.9).fit(table[:cut])
    scores = model.transform(table)
    t2 = (scores**2 / model.explained_variance_).sum(axis=1)
    q = ((table - model.inverse_transform(scores)) ** 2).sum(axis=1)
    held = slice(cut, FIT_ROWS)
    ratio = np.maximum(t2 / np.quantile(t2[held], 0.995), q / np.quantile(q[held], 0.995))
    return np.asarray(ratio[FIT_ROWS:], dtype=np.float64)


def forest(run: Run) -> Array:
    """Isolation forest of 100 trees, limit at the 99.5 % quantile of FIT."""
    model = IsolationForest(n_estimators=100, random_state=0).fit(run.values[:FIT_ROWS])
    scores = -model.score_samples(run.values)
    return np.asarray(scores[FIT_ROWS:] / np.quantile(scores[:FIT_ROWS], 0.995), dtype=np.float64)


def counts(outcomes: list[Outcome], multiplier: float = 1.0) -> tuple[float, float, float]:
    """Pooled F1, false-alarm rate and missed-alarm rate."""
    alarm = np.concatenate([each.alarms(multiplier) for each in outcomes])
    label = np.concatenate([each.run.anomaly[FIT_ROWS:] for each in outcomes])
    hit, false = int((alarm & label).sum()), int((alarm & ~label).sum())
    missed = int((~alarm & label).sum())
    return 2 * hit / max(2 * hit + false + missed, 1), false / int((~label).sum()), missed / int(label.sum())


def row(name: str, outcomes: list[Outcome]) -> str:
    """One line of the table."""
    f1, far, mar = counts(outcomes)
    precision, worst, hits, onsets, events, false, delays = [], 1.0, 0, 0, 0, 0, []
    normal_s = 0.0
    for each in outcomes:
        label, alarm = each.run.anomaly[FIT_ROWS:], each.alarms()
        times = each.run.times_us[FIT_ROWS:]
        precision.append(average_precision_score(label, np.nan_to_num(each.ratio)))
        worst = min(worst, counts([each])[0])
        starts = np.flatnonzero(alarm & ~np.concatenate([[False], alarm[:-1]]))
        edges = np.flatnonzero(np.diff(np.concatenate([[0], label.astype(int), [0]])))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            events += 1
            inside = starts[(starts >= begin) & (starts < end)]
            hits += bool(alarm[begin:end].any())
            onsets += bool(len(inside))
            if len(inside):
                delays.append((times[inside[0]] - times[begin]) / 1e6)
        budget = Config().budget
        found = episodes(range(len(alarm)), alarm.tolist(), budget.m, budget.n)
        false += sum(not label[at] for at, _ in found)
        normal_s += float(np.median(np.diff(times))) / 1e6 * int((~label).sum())
    delay = f"{np.median(delays):5.0f}" if delays else "    -"
    return (
        f"{name:11} {f1:6.3f} {100 * far:6.2f} {100 * mar:6.2f} {np.mean(precision):7.3f} {hits / events:7.2f} "
        f"{onsets / events:6.2f} {delay} {false / normal_s * 3600:8.2f} {worst:9.3f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=datasets_dir(), help="folder that holds SKAB/valve1")
    runs = load(parser.parse_args().data)
    if not runs:
        raise SystemExit("no SKAB/valve1 here: set IM_DATASETS or give --data")
    methods: dict[str, Callable[[Run], Array]] = {
        "window PCA": ours,
        "autoencoder": autoencoder,
        "better": better,
        "always": always,
        "random": chance,
        "PCA": pca,
        "IForest": forest,
    }
    print(f"SKAB valve1, {len(runs)} runs, configuration {Config().sha256()[:12]}, limits from FIT alone")
    print("method          F1   FAR %  MAR %  PR-AUC  events  onset delay false/h  worst run F1")
    outcomes = {name: [Outcome(run, method(run)) for run in runs] for name, method in methods.items()}
    for name, each in outcomes.items():
        print(row(name, each))
    print("limit x     F1   FAR %   (window PCA)")
    for multiplier in MULTIPLIERS:
        f1, far, _ = counts(outcomes["window PCA"], multiplier)
        print(f"{multiplier:7.2f} {f1:6.3f} {100 * far:6.2f}")


if __name__ == "__main__":
    main()
