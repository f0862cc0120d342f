"""One network with all heads, networks with one head each, what ships and boosted floors, on units that none of them had seen.

All share the trees' conditions, features and parts of the units; single networks have the same encoder, seeds, windows and way to stop.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from bench.life import runs_of
from bench.tasks.fleet import Fleet, simulate_fleet
from bench.tasks.heads import heads_for
from cloud.life import sklearn as boosting
from cloud.life.choice import HeldOut
from cloud.life.logic import Config, LifeModel, fit
from cloud.life.runs import Runs
from cloud.life.torch.fit import fit_parts, target_scale
from cloud.life.torch.heads import Head
from cloud.training.datasets.cmapss import whole
from industrialmind.score import score_rows
from shared.windows import Floats, Ints

TASKS: Final = ("life", "anomaly", "mode")
MULTI, SINGLE, TREES, BOOSTED, SHIPPED = "multi-task", "single task", "trees", "boosted", "window PCA"
MACHINES: Final = 40
KINDS: Final = ("centrifugal-pump", "conveyor-gearbox")
TURBOFANS: Final = "FD003"  # two failure modes
FIT_H: Final = 36  # of each machine's first hours; every simulated fault begins later
LAST: Final = 30.0  # cycles: where nobody knows the onset, an engine with no more left is called degraded
ROUNDS: Final = 100


@dataclass(frozen=True, eq=False)
class Case:
    """Units that ran to failure and what is known of them.

    Attributes:
        name: Of the set.
        runs: The units.
        degraded: float64[n], 0 or 1.
        mode: float64[n], NaN = unknown; None: in all rows.
        modes: How many there are.
        fleet: The machines where they are simulated.
        seed: Of everything.
    """

    name: str
    runs: Runs
    degraded: Floats
    mode: Floats | None
    modes: int
    fleet: Fleet | None
    seed: int

    @property
    def engines(self) -> int:
        """What to add to a unit's number to tell it from those of other seeds: simulated machines are drawn anew, engines are the same."""
        return self.seed * len(self.runs) if self.fleet else 0


@dataclass(frozen=True, eq=False)
class Told:
    """What each contestant said of the rows that were asked about.

    Attributes:
        unit: int64[m].
        true: By task float64[m]; NaN = not asked.
        said: By task and contestant: life in cycles, a number that is high where it degrades, the mode's number.
    """

    unit: Ints
    true: Mapping[str, Floats]
    said: Mapping[str, Mapping[str, Floats]]


def simulated(kind: str, seed: int, machines: int = MACHINES) -> Case:
    """Machines of one type, drawn by the seed."""
    fleet = simulate_fleet(kind, machines, seed)
    return Case(kind, fleet.runs, fleet.degraded, fleet.mode, len(fleet.modes), fleet, seed)


def turbofans(folder: Path, name: str, seed: int) -> Case:
    """The training part of one set of C-MAPSS: nobody tells onsets or modes."""
    runs = runs_of(whole(folder, name))
    return Case(name, runs, np.asarray(runs.remaining <= LAST, dtype=np.float64), None, 0, None, seed)


def cases(folder: Path, seed: int) -> Iterator[Case]:
    """All sets, one after the other."""
    for kind in KINDS:
        yield simulated(kind, seed)
    yield turbofans(folder, TURBOFANS, seed)


def compete(case: Case) -> Told:
    """Fit everybody on all parts but one and ask about that one, in turn."""
    trees = fit(case.runs, Config(seed=case.seed))
    top = target_scale(trees)
    columns = [np.minimum(case.runs.remaining, top) / top, case.degraded]
    targets = np.column_stack(columns if case.mode is None else [*columns, case.mode])
    heads = heads_for(torch.from_numpy(targets.astype(np.float32)), case.modes)
    together = fit_parts(case.runs, trees, targets, heads, seed=case.seed)
    beside, said = together.beside, {head.name: dict[str, Floats]() for head in heads}
    outputs = np.cumsum([0, *(head.outputs for head in heads)]).tolist()
    for number, head in enumerate(heads):
        own = together.said[:, outputs[number] : outputs[number + 1]]
        alone = fit_parts(case.runs, trees, targets[:, number : number + 1], (head,), seed=case.seed)
        said[head.name] = {MULTI: _answer(head, own, trees), SINGLE: _answer(head, alone.said, trees)}
    said["life"][TREES] = beside.life
    said["anomaly"][TREES] = -beside.life
    for number, head in enumerate(heads[1:], 1):
        said[head.name][BOOSTED] = boosted(trees, case.runs, beside, targets[:, number])
    asked = targets[beside.rows].copy()
    asked[:, 0] = np.minimum(case.runs.remaining[beside.rows], trees.knee)
    if case.fleet is not None:
        shipped = watched(case.fleet)[beside.rows]
        said["anomaly"][SHIPPED] = shipped
        asked[np.isnan(shipped), 1] = np.nan
    true = {head.name: asked[:, number] for number, head in enumerate(heads)}
    return Told(case.runs.of_row[beside.rows] + case.engines, true, said)


def _answer(head: Head, said: Floats, trees: LifeModel) -> Floats:
    match head.name:
        case "life":
            return np.asarray(np.clip(said[:, 0] * target_scale(trees), 0.0, trees.knee))
        case "mode":
            return np.asarray(said.argmax(axis=1), dtype=np.float64)
        case _:
            return said[:, 0]


def boosted(trees: LifeModel, runs: Runs, beside: HeldOut, target: Floats) -> Floats:
    """A floor: boosted trees on the features, with the constants of those that ship. A class, or of two how likely the second is."""
    table, unit = trees.features(runs), runs.of_row
    known = np.isfinite(target)
    classes = len(np.unique(target[known]))
    position = np.arange(len(unit)) - runs.starts[unit]
    stride = max(1, round(len(unit) * (1 - 1 / trees.config.folds) / trees.config.rows))
    of_part, said = beside.part[unit[beside.rows]], np.zeros(len(beside.rows))
    for number in range(trees.config.folds):
        rows = known & (beside.part[unit] != number) & ((position + number) % stride == 0)
        model = HistGradientBoostingClassifier(
            learning_rate=boosting.RATE * boosting.ROUNDS / ROUNDS,
            max_iter=ROUNDS,
            max_leaf_nodes=boosting.LEAVES,
            min_samples_leaf=boosting.LEAF_ROWS,
            l2_regularization=boosting.L2,
            max_features=boosting.FEATURES_SHARE,
            early_stopping=False,
            random_state=trees.config.seed + number,
        )
        out = of_part == number
        with threadpool_limits(limits=1):
            model.fit(table[rows], target[rows])
            asked = table[beside.rows[out]]
            said[out] = model.predict(asked) if classes > 2 else model.predict_proba(asked)[:, 1]
    return said


def watched(fleet: Fleet) -> Floats:
    """float64[n], each hour's mean of what `industrialmind score` says of a machine's minutes, over the limit; NaN in the hours that it learnt from."""
    found = []
    for life in fleet.lives:
        known = FIT_H * 60
        result = score_rows(
            fleet.kind.sensor_names,
            life.times_us[:known],
            life.values[:known],
            life.times_us[known:],
            life.values[known:],
        )
        ratio = (result.score / result.manifest.limit).reshape(-1, 60)
        scored = np.isfinite(ratio)
        mean = np.where(scored, ratio, 0.0).sum(axis=1) / np.maximum(scored.sum(axis=1), 1)
        # An hour with nothing scored is as quiet as can be: the product raises nothing there.
        found.append(np.concatenate([np.full(FIT_H, np.nan), mean]))
    return np.concatenate(found)


def joined(parts: Sequence[Told]) -> Told:
    """Rows of several seeds together."""
    first = parts[0]
    return Told(
        np.concatenate([part.unit for part in parts]),
        {task: np.concatenate([part.true[task] for part in parts]) for task in first.true},
        {
            task: {who: np.concatenate([part.said[task][who] for part in parts]) for who in said}
            for task, said in first.said.items()
        },
    )
