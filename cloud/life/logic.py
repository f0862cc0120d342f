"""Learns remaining life from units that ran to failure, and says how long others will last. Pure: no clock, no files.

Trees are fitted on capped life, each on other folds of units; what one says of a unit it has not seen makes the
intervals, and the mean of all is the figure.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np
import orjson

from cloud.life import conditions as _conditions
from cloud.life import evidence as _evidence
from cloud.life import features as _features
from cloud.life import intervals as _intervals
from cloud.life import sklearn as _trees
from cloud.life.conditions import Conditions, learn_conditions
from cloud.life.evidence import Evidence, learn_evidence
from cloud.life.features import Spans, features, learn_spans
from cloud.life.figures import figures
from cloud.life.intervals import COVERAGE, Intervals, learn_intervals
from cloud.life.knee import ALIKE, KNEES, SHORTEST, choose_knee
from cloud.life.runs import Runs
from cloud.life.sklearn import Trees, fit_trees
from cloud.life.survival import Survival, learn_survival
from shared.artifact import sha256
from shared.errors import Rejected
from shared.windows import Bools, Floats, Ints

UNITS_MIN: Final = 10
KNEE_FOLDS: Final = 3
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Config:
    """Everything that a person could turn. One configuration serves every file.

    Attributes:
        cap: The knee in cycles, 0 = none, None = found by cross-validation over units.
        seed: Draws folds, rows and the features that splits may ask for.
        folds: Parts of the units, each held out once a repeat.
        repeats: How often folds are drawn.
        rows: At most so many rows train one ensemble; neighbouring rows of a unit say nearly the same.
        heard: Rows of each held-out unit that make the intervals.
        rounds: Trees of an ensemble.
    """

    cap: float | None = None
    seed: int = 0
    folds: int = 5
    repeats: int = 2
    rows: int = 8000
    heard: int = 24
    rounds: int = _trees.ROUNDS

    def sha256(self) -> str:
        """Hash of the configuration and of the method's constants."""
        modules = (_conditions, _evidence, _features, _intervals, _trees)
        fixed = {
            f"{module.__name__}.{name}": value
            for module in modules
            for name, value in vars(module).items()
            if name.isupper() and isinstance(value, int | float)
        }
        knees = [*KNEES, SHORTEST, ALIKE, KNEE_FOLDS]
        return sha256(orjson.dumps([asdict(self), fixed, knees], option=orjson.OPT_SORT_KEYS))


@dataclass(frozen=True)
class Estimates:
    """Remaining life at each unit's newest row.

    Attributes:
        units: Their names.
        life: float64[U], cycles.
        low: float64[U], lower end of the interval.
        high: float64[U], upper end.
        open_ended: bool[U], the unit shows no wear yet: people read "more than" the lower end.
        evidence: bool[U]; False = unlike every unit that failed: life and interval then come from age alone.
    """

    units: tuple[str, ...]
    life: Floats
    low: Floats
    high: Floats
    open_ended: Bools
    evidence: Bools


@dataclass(frozen=True)
class LifeModel:
    """Everything that was learnt."""

    config: Config
    columns: tuple[str, ...]
    knee: float
    conditions: Conditions
    spans: Spans
    trees: tuple[Trees, ...]
    far: tuple[Trees, ...]
    intervals: Intervals
    survival: Survival
    evidence: Evidence
    figures: Mapping[str, float] = field(default_factory=dict)

    def features(self, runs: Runs) -> Floats:
        """See `cloud.life.features`. Raises Rejected where columns differ."""
        if runs.columns != self.columns:
            raise Rejected("the columns are not those that the model learnt")
        return features(self.conditions, self.spans, runs)

    def life(self, rows: Floats) -> Floats:
        """float64[n], remaining life at rows of features, never negative nor above the knee."""
        return np.asarray(np.clip(_mean(self.trees, rows), 0.0, self.knee))

    def estimate(self, runs: Runs) -> Estimates:
        """At each unit's newest row."""
        rows = self.features(runs)[runs.last]
        return self.around(runs, rows, self.life(rows), self.intervals)

    def around(self, runs: Runs, rows: Floats, life: Floats, intervals: Intervals) -> Estimates:
        """Intervals about what any model said at each unit's newest row, whose features are `rows`."""
        age = runs.lives
        interval = intervals.of(life, _mean(self.far, rows))
        enough = self.evidence.enough(rows)
        half = (1 + COVERAGE) / 2
        return Estimates(
            runs.units,
            np.where(enough, life, self.survival.quantile(age, 0.5)),
            np.where(enough, interval.low, 0.0),
            np.where(enough, interval.high, self.survival.quantile(age, half)),
            interval.open_ended & enough,
            enough,
        )


def fit(
    runs: Runs, config: Config | None = None, tell: Tell | None = None, running: Floats | None = None
) -> LifeModel:
    """Learn from units that each ended in failure. The same arguments give the same model.

    `running`: ages of units that did not fail yet. They say how long units live, not how wear looks.

    Raises:
        Rejected: Too few units, or nothing in them moves.
    """
    config = config or Config()
    tell = tell or _quiet
    if len(runs) < UNITS_MIN:
        raise Rejected(
            f"{len(runs)} units that ran to failure are too few to learn from: at least {UNITS_MIN}"
        )
    conditions, spans = learn_conditions(runs), learn_spans(runs)
    if not len(conditions.sensors):
        raise Rejected("no sensor moves within its operating condition: there is nothing to learn from")
    table = features(conditions, spans, runs)
    draws = np.random.default_rng(config.seed)
    folds = draw_folds(draws, len(runs), config)
    if config.cap is None:
        knee = choose_knee(
            table,
            runs,
            draws.permutation(len(runs)) % KNEE_FOLDS,
            rows=config.rows // 2,
            rounds=(config.rounds + 1) // 2,
            seed=config.seed,
        )
    else:
        knee = config.cap or np.inf
    heard = heard_rows(runs, config.heard)
    fits = config.folds * (config.repeats + 1)
    trees, held = _held_out(
        table, np.minimum(runs.remaining, knee), runs, folds, heard, config, lambda done: tell(done, fits)
    )
    far, reach = _held_out(
        table,
        runs.remaining,
        runs,
        folds[:1],
        heard,
        config,
        lambda done: tell(len(trees) + done, fits),
        quantile=(1 + COVERAGE) / 2,
    )
    held, left, unit = np.clip(held, 0.0, knee), runs.remaining[heard], runs.of_row[heard]
    intervals = learn_intervals(held, reach, left, unit, knee)
    evidence = learn_evidence(table[heard], folds[0][runs.of_row[heard]])
    return LifeModel(
        config,
        runs.columns,
        knee,
        conditions,
        spans,
        trees,
        far,
        intervals,
        learn_survival(runs.lives, running),
        evidence,
        figures(held, reach, left, runs.cycles[heard], unit, knee),
    )


def _held_out(
    table: Floats,
    target: Floats,
    runs: Runs,
    folds: list[Ints],
    heard: Ints,
    config: Config,
    tell: Callable[[int], None],
    quantile: float | None = None,
) -> tuple[tuple[Trees, ...], Floats]:
    """An ensemble a part of each of the folds, and what those say of each row of `heard` that have not seen its unit."""
    unit = runs.of_row
    position = np.arange(len(unit)) - runs.starts[unit]
    stride = max(1, round(len(unit) * (1 - 1 / config.folds) / config.rows))
    held = np.zeros(len(heard))
    made: list[Trees] = []
    for fold in folds:
        for number in range(config.folds):
            out = fold[unit[heard]] == number
            rows = (fold[unit] != number) & ((position + len(made)) % stride == 0)
            trees = fit_trees(
                table[rows],
                target[rows],
                seed=config.seed + len(made),
                rounds=config.rounds,
                quantile=quantile,
            )
            held[out] += trees.predict(table[heard[out]]) / len(folds)
            made.append(trees)
            tell(len(made))
    return tuple(made), held


def _mean(ensembles: tuple[Trees, ...], rows: Floats) -> Floats:
    return np.asarray(np.mean([trees.predict(rows) for trees in ensembles], axis=0))


def draw_folds(draws: np.random.Generator, units: int, config: Config) -> list[Ints]:
    """int64[units] a repeat: the part that each unit is held out with."""
    return [draws.permutation(units) % config.folds for _ in range(config.repeats)]


def heard_rows(runs: Runs, most: int) -> Ints:
    """Rows of each unit, evenly over its life."""
    return np.concatenate(
        [
            np.unique(np.linspace(rows.start, rows.stop - 1, most + 2)[1:-1].round().astype(np.int64))
            for rows in runs.rows()
        ]
    )


def _quiet(_done: int, _total: int) -> None:
    """Nobody asked how far it is."""
