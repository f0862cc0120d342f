"""Fits the Transformer-LSTM on what the trees were fitted on: the same conditions, knee, parts of the units and reach."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.life.choice import HeldOut, held_out
from cloud.life.intervals import Intervals, learn_intervals
from cloud.life.logic import Estimates, LifeModel
from cloud.life.runs import Runs
from cloud.life.torch.network import Curves, Inputs, TransformerLstm, shares, train
from cloud.training.torch.network import repeatable
from shared.windows import Floats, Ints

ROWS_MAX: Final = 24  # of a window: attention and LSTM cost time by row
WINDOWS: Final = 2500  # at most so many train one network; neighbouring ones say nearly the same
STOP: Final = 8  # one of so many units that a network learns from stops it instead
CLIP: Final = 6.0  # spreads


@dataclass(frozen=True, eq=False)
class Scale:
    """Of the summary's columns: float64[S] mean, and 1 over the spread, 0 = never moved."""

    centre: Floats
    inverse: Floats


@dataclass(frozen=True, eq=False)
class NetworkModel:
    """One network a part of the units, each of which has not seen that part; their mean is the figure.

    Attributes:
        trees: The model whose conditions, features, knee, reach and evidence are shared.
        rows: Of a window.
        scale: Of the summary.
        networks: In order of the parts.
        held: What each said of the part it had not seen.
        intervals: By these.
        curves: Of each network's training.
    """

    trees: LifeModel
    rows: int
    scale: Scale
    networks: tuple[TransformerLstm, ...]
    held: HeldOut
    intervals: Intervals
    curves: tuple[Curves, ...]

    def inputs(self, runs: Runs, rows: Ints) -> Inputs:
        """What the networks take at these of the runs' rows."""
        return make_inputs(self.trees, self.scale, runs, rows, self.rows)

    def life(self, inputs: Inputs) -> Floats:
        """float64[n], never negative nor above the knee."""
        with repeatable():
            said = np.mean([shares(network, inputs) for network in self.networks], axis=0)
        return np.asarray(_life(self.trees, said))

    def estimate(self, runs: Runs) -> Estimates:
        """At each unit's newest row."""
        life = self.life(self.inputs(runs, runs.last))
        return self.trees.around(runs, self.trees.features(runs)[runs.last], life, self.intervals)


def fit_network(runs: Runs, trees: LifeModel, *, seed: int = 0, windows: int = WINDOWS) -> NetworkModel:
    """Learn from the units that `trees` were fitted on. The same arguments give the same networks.

    Within each part's complement some whole units only stop the training, so that the part itself stays unseen.
    """
    beside = held_out(trees, runs)
    part, unit, heard = beside.part, runs.of_row, beside.rows
    rows = min(ROWS_MAX, trees.spans.level)
    scale = _scale(trees.features(runs))
    top = target_scale(trees)
    position = np.arange(len(unit)) - runs.starts[unit]
    draws = np.random.default_rng([seed, 11])

    def examples(chosen: Ints) -> Inputs:
        return make_inputs(trees, scale, runs, chosen, rows)

    def target(chosen: Ints) -> Floats:
        return np.asarray(np.minimum(runs.remaining[chosen], top) / top)

    networks, curves, said = list[TransformerLstm](), list[Curves](), np.zeros(len(heard))
    with repeatable():
        for number in range(trees.config.folds):
            learnt = draws.permutation(np.flatnonzero(part != number))
            stops = learnt[: max(1, len(learnt) // STOP)]
            of_learnt = (part[unit] != number) & ~np.isin(unit, stops)
            stride = max(1, round(int(of_learnt.sum()) / windows))
            chosen = np.flatnonzero(of_learnt & ((position + number) % stride == 0))
            stopping = heard[np.isin(unit[heard], stops)]
            network, curve = train(
                examples(chosen).dataset(target(chosen)),
                examples(stopping).dataset(target(stopping)),
                seed=seed + number,
            )
            out = part[unit[heard]] == number
            said[out] = shares(network, examples(heard[out]))
            networks.append(network)
            curves.append(curve)
    held = HeldOut(heard, part, _life(trees, said), beside.reach)
    intervals = learn_intervals(held.life, held.reach, runs.remaining[heard], unit[heard], trees.knee)
    return NetworkModel(trees, rows, scale, tuple(networks), held, intervals, tuple(curves))


def make_inputs(trees: LifeModel, scale: Scale, runs: Runs, rows: Ints, window: int) -> Inputs:
    """Windows that end at these rows, and what the trees are told there. What is missing counts as usual."""
    standard = trees.conditions.standardise(runs.values)
    known = np.isfinite(standard)
    cells = np.clip(np.where(known, standard, 0.0), -CLIP, CLIP).astype(np.float32)
    at = rows[:, None] + np.arange(1 - window, 1)
    there = at >= runs.starts[runs.of_row[rows]][:, None]
    made = np.where(there[:, :, None], cells[np.maximum(at, 0)], np.float32(0))
    summary = np.clip((trees.features(runs)[rows] - scale.centre) * scale.inverse, -CLIP, CLIP)
    return Inputs(
        np.concatenate([made, there[:, :, None].astype(np.float32)], axis=2),
        np.where(np.isfinite(summary), summary, 0.0).astype(np.float32),
    )


def _scale(table: Floats) -> Scale:
    count = np.maximum(np.isfinite(table).sum(axis=0), 1)
    centre = np.where(np.isfinite(table), table, 0.0).sum(axis=0) / count
    off = np.where(np.isfinite(table), table - centre, 0.0)
    spread = np.sqrt((off**2).sum(axis=0) / count)
    return Scale(centre, np.divide(1.0, spread, out=np.zeros(len(spread)), where=spread > 0))


def target_scale(trees: LifeModel) -> float:
    """What the targets are shares of: the knee, or without one the longest life that units showed."""
    return trees.knee if np.isfinite(trees.knee) else float(trees.intervals.remaining.max())


def _life(trees: LifeModel, said: Floats) -> Floats:
    return np.asarray(np.clip(said * target_scale(trees), 0.0, trees.knee))
