"""Fits the Transformer-LSTM on what the trees were fitted on: the same conditions, knee, parts of the units and reach."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cloud.life.choice import HeldOut, held_out
from cloud.life.intervals import Intervals, learn_intervals
from cloud.life.logic import Estimates, LifeModel
from cloud.life.runs import Runs
from cloud.life.torch.heads import LIFE, Head
from cloud.life.torch.network import Curves, Inputs, Singles, TransformerLstm, answers, train
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
class Sight:
    """All rows of some units as networks take them; only rows up to the one that is asked about are ever given.

    Attributes:
        cells: float32[n, C], clipped, what is missing as usual.
        summary: float32[n, S].
        begins: int64[n], the first row of each row's unit.
        window: Rows of a window.
    """

    cells: Singles
    summary: Singles
    begins: Ints
    window: int

    def at(self, rows: Ints) -> Inputs:
        """Windows that end at these rows, and what the trees are told there."""
        at = rows[:, None] + np.arange(1 - self.window, 1)
        there = at >= self.begins[rows][:, None]
        made = np.where(there[:, :, None], self.cells[np.maximum(at, 0)], np.float32(0))
        return Inputs(
            np.concatenate([made, there[:, :, None].astype(np.float32)], axis=2), self.summary[rows]
        )


@dataclass(frozen=True, eq=False)
class Parts:
    """A network a part of the units, which has not seen that part.

    Attributes:
        networks: In order of the parts.
        scale: Of the summary.
        beside: The rows that were asked about, and what trees say there that have not seen their units either.
        said: float64[m, K], what the networks' heads say there.
        curves: Of each network's training.
    """

    networks: tuple[TransformerLstm, ...]
    scale: Scale
    beside: HeldOut
    said: Floats
    curves: tuple[Curves, ...]


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
        return see(self.trees, self.scale, runs, self.rows).at(rows)

    def life(self, inputs: Inputs) -> Floats:
        """float64[n], never negative nor above the knee."""
        with repeatable():
            said = np.mean([answers(network, inputs)[:, 0] for network in self.networks], axis=0)
        return np.asarray(_life(self.trees, said))

    def estimate(self, runs: Runs) -> Estimates:
        """At each unit's newest row."""
        life = self.life(self.inputs(runs, runs.last))
        return self.trees.around(runs, self.trees.features(runs)[runs.last], life, self.intervals)


def fit_network(runs: Runs, trees: LifeModel, *, seed: int = 0, windows: int = WINDOWS) -> NetworkModel:
    """Learn life from the units that `trees` were fitted on. The same arguments give the same networks."""
    top = target_scale(trees)
    parts = fit_parts(
        runs, trees, np.minimum(runs.remaining, top)[:, None] / top, (LIFE,), seed=seed, windows=windows
    )
    heard, part = parts.beside.rows, parts.beside.part
    held = HeldOut(heard, part, _life(trees, parts.said[:, 0]), parts.beside.reach)
    intervals = learn_intervals(held.life, held.reach, runs.remaining[heard], runs.of_row[heard], trees.knee)
    return NetworkModel(trees, window_rows(trees), parts.scale, parts.networks, held, intervals, parts.curves)


def fit_parts(
    runs: Runs,
    trees: LifeModel,
    targets: Floats,
    heads: Sequence[Head],
    *,
    seed: int = 0,
    windows: int = WINDOWS,
) -> Parts:
    """Learn whatever the heads ask from the units that `trees` were fitted on, by their parts.

    Within each part's complement some whole units only stop the training, so that the part itself stays unseen.

    Args:
        runs: Those units.
        trees: Whose conditions, features and parts are shared.
        targets: float64[n, H], a column a head; NaN = unknown.
        heads: What is asked.
        seed: The same arguments give the same networks.
        windows: At most so many train one network.
    """
    beside = held_out(trees, runs)
    part, unit, heard = beside.part, runs.of_row, beside.rows
    scale = _scale(trees.features(runs))
    sight = see(trees, scale, runs, window_rows(trees))
    position = np.arange(len(unit)) - runs.starts[unit]
    draws = np.random.default_rng([seed, 11])
    networks, curves = list[TransformerLstm](), list[Curves]()
    said = np.zeros((len(heard), sum(head.outputs for head in heads)))
    with repeatable():
        for number in range(trees.config.folds):
            learnt = draws.permutation(np.flatnonzero(part != number))
            stops = learnt[: max(1, len(learnt) // STOP)]
            of_learnt = (part[unit] != number) & ~np.isin(unit, stops)
            stride = max(1, round(int(of_learnt.sum()) / windows))
            chosen = np.flatnonzero(of_learnt & ((position + number) % stride == 0))
            stopping = heard[np.isin(unit[heard], stops)]
            network, curve = train(
                sight.at(chosen).dataset(targets[chosen]),
                sight.at(stopping).dataset(targets[stopping]),
                seed + number,
                heads,
            )
            out = part[unit[heard]] == number
            said[out] = answers(network, sight.at(heard[out]))
            networks.append(network)
            curves.append(curve)
    return Parts(tuple(networks), scale, beside, said, tuple(curves))


def see(trees: LifeModel, scale: Scale, runs: Runs, window: int) -> Sight:
    """What is missing counts as usual."""
    standard = trees.conditions.standardise(runs.values)
    cells = np.clip(np.where(np.isfinite(standard), standard, 0.0), -CLIP, CLIP)
    summary = np.clip((trees.features(runs) - scale.centre) * scale.inverse, -CLIP, CLIP)
    return Sight(
        cells.astype(np.float32),
        np.where(np.isfinite(summary), summary, 0.0).astype(np.float32),
        runs.starts[runs.of_row],
        window,
    )


def window_rows(trees: LifeModel) -> int:
    """Rows of a window."""
    return min(ROWS_MAX, trees.spans.level)


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
