"""Runs methods over a set, seed by seed."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.judge.figures import Answers, beside, f1_of, figures, pr_auc_of
from bench.judge.methods import FLOORS, Method, shipped
from cloud.training.datasets.run import AnomalySet
from cloud.training.measures.bootstrap import interval

Say = Callable[[str], None]


@dataclass(frozen=True)
class Spread:
    """A figure over the seeds."""

    mean: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value a seed."""
        return cls(float(np.mean(values)), float(np.min(values)), float(np.max(values)))


@dataclass(frozen=True, eq=False)
class Judged:
    """A set's outcome.

    Attributes:
        name: Of the set.
        ours: The shipped scorer's figures.
        floors: Those of each floor.
        answers: The shipped scorer's answers with the first seed.
        intervals: 90 % bootstrap intervals over runs, of the first seed.
        seconds: That the shipped scorer took, a seed.
    """

    name: str
    ours: Mapping[str, Spread]
    floors: Mapping[str, Mapping[str, Spread]]
    answers: Answers
    intervals: Mapping[str, tuple[float, float]]
    seconds: float


def judge(data: AnomalySet, seeds: Sequence[int], say: Say = lambda _: None) -> Judged:
    """Judge the shipped scorer and the floors on one set."""
    floors: dict[str, list[dict[str, float]]] = {name: [] for name in FLOORS}
    ours: list[dict[str, float]] = []
    first: Answers | None = None
    spent = 0.0
    for seed in seeds:
        for name, method in FLOORS.items():
            floors[name].append(figures(data.name, _answers(data, method, seed)))
        say(f"{data.name}: floors, seed {seed}")
        begun = time.monotonic()
        answers = _answers(data, shipped, seed)
        spent += time.monotonic() - begun
        say(f"{data.name}: shipped, seed {seed}")
        first = first or answers
        found = figures(data.name, answers)
        ours.append(found | beside(data.name, found, {name: each[-1] for name, each in floors.items()}))
    if first is None:
        raise ValueError("no seed to run with")
    return Judged(
        data.name,
        _spreads(ours),
        {name: _spreads(each) for name, each in floors.items()},
        first,
        {"f1": interval(first.runs, f1_of), "pr_auc": interval(first.runs, pr_auc_of)},
        spent / len(seeds),
    )


def _answers(data: AnomalySet, method: Method, seed: int) -> Answers:
    return Answers([method(run, seed) for run in data.runs], [method(run, seed) for run in data.healthy])


def _spreads(found: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    return {key: Spread.of([each[key] for each in found]) for key in found[0]}
