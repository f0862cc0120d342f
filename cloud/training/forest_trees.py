"""What a grown isolation forest says of features, as its graph computes it. Only numpy."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cloud.training.pca import Floats, Scale
from shared.windows import Ints

Singles = npt.NDArray[np.float32]

DISTANCE_WEIGHT: Final = 1e-6  # where no sensor alone makes a window usual, the one furthest out leads


@dataclass(frozen=True)
class Tree:
    """One tree's nodes: where x[column] <= cut it goes on to the left. `left` is negative at a leaf; `path` is its length."""

    left: Ints
    right: Ints
    column: Ints
    cut: Singles
    path: Singles


@dataclass(frozen=True)
class Forest:
    """The fitted model.

    Attributes:
        scale: Centre and noise of cells.
        usual: [2S], stands in for a feature that the window does not show, before it is itself expected.
        linear: [2S, 2S], what a feature is expected to be is f @ linear + base; a sensor's own have no weight.
        base: [2S].
        gain: [2S], sign and 1 / spread of left-overs, 0 where a feature never moved.
        order: [2S], the trees' columns as numbers of features.
        trees: The trees.
        path: The usual path length, which they are measured by.
        low: The usual isolation in training, from which the score is measured.
        stretch: 1 / how far it usually gets above that.
    """

    scale: Scale
    usual: Floats
    linear: Floats
    base: Floats
    gain: Floats
    order: Ints
    trees: tuple[Tree, ...]
    path: float
    low: float = 0.0
    stretch: float = 1.0

    def left_over(self, table: Floats) -> Floats:
        """float64[n, 2S], in spreads, of float64[n, 2S] features with NaN; 0 for a feature that the window does not show."""
        silent = np.isnan(table)
        known = np.where(silent, self.usual, table)
        left: Floats = np.where(silent, 0.0, (known - known @ self.linear - self.base) * self.gain)
        return left

    @property
    def heal(self) -> Floats:
        """[2S, 2S]: what all left-overs change by when those of one sensor become 0, a unit of them."""
        inverse = np.divide(1.0, self.gain, out=np.zeros_like(self.gain), where=self.gain != 0)
        made: Floats = inverse[:, None] * self.linear * self.gain - np.eye(len(self.gain))
        return made

    def enter(self, left: Floats) -> Singles:
        """float32[n, 2S] as the trees take them, of float64[n, 2S] left-overs."""
        return np.ascontiguousarray(left[:, self.order], dtype=np.float32)

    def isolation(self, given: Singles) -> Floats:
        """float64[n], between 0 and 1: the fewer cuts set a window apart, the more."""
        total = np.zeros(len(given))
        rows = np.arange(len(given))
        for tree in self.trees:
            node = np.zeros(len(given), np.int64)
            while True:
                inside = tree.left[node] >= 0
                if not inside.any():
                    break
                goes = given[rows, tree.column[node]] <= tree.cut[node]
                node = np.where(inside, np.where(goes, tree.left[node], tree.right[node]), node)
            total += tree.path[node]
        made: Floats = np.exp2(-total / (len(self.trees) * self.path))
        return made


def judge(model: Forest, table: Floats, *, explain: bool = False) -> tuple[Floats, Floats]:
    """float64[n] scores of float64[n, 2S] features, and if asked for float64[n, S] contributions (else none).

    A sensor's contribution is by how much isolation drops when both its features are what the others say.
    """
    left = model.left_over(table)
    isolation = model.isolation(model.enter(left))
    score = np.maximum((isolation - model.low) * model.stretch, 0.0)
    sensors = table.shape[1] // 2
    if not explain:
        return score, np.zeros((len(table), 0))
    heal = model.heal
    each = np.zeros((len(table), sensors))
    for sensor in range(sensors):
        own = [sensor, sensors + sensor]
        healed = model.enter(left + left[:, own] @ heal[own])
        far = np.abs(left[:, own]).sum(axis=1)
        drop = np.maximum(isolation - model.isolation(healed), 0.0)
        each[:, sensor] = drop + DISTANCE_WEIGHT * far / (1 + far)
    each *= (score > 0)[:, None]
    total = each.sum(axis=1, keepdims=True)
    return score, np.divide(each, total, out=np.zeros_like(each), where=total > 0)
