"""Boosted trees by scikit-learn, held as plain arrays: what predicts here is what the exported graph computes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from shared.windows import Bools, Floats, Ints

RATE: Final = 0.05
ROUNDS: Final = 200
LEAVES: Final = 15
LEAF_ROWS: Final = 30
FEATURES_SHARE: Final = 0.3  # tried at each split: trees then differ, and their mean says more
L2: Final = 1.0


@dataclass(frozen=True)
class Trees:
    """One boosted ensemble: the base value plus a leaf's value of each tree.

    Attributes:
        base: What all start from.
        roots: int64[T], number of each tree's first node.
        feature: int64[N], feature that a node asks for; -1 at leaves.
        threshold: float64[N], at or below it the left child follows.
        left: int64[N], number of the left child.
        right: int64[N], number of the right child.
        missing_left: bool[N], where a missing feature goes.
        value: float64[N], what a leaf adds.
    """

    base: float
    roots: Ints
    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    missing_left: Bools
    value: Floats

    def predict(self, features: Floats) -> Floats:
        """float64[n], one a row of features."""
        total = np.full(len(features), self.base)
        rows = np.arange(len(features))
        for root in self.roots.tolist():
            node = np.full(len(features), root)
            while ((asked := self.feature[node]) >= 0).any():
                seen = features[rows, np.maximum(asked, 0)]
                left = np.where(np.isnan(seen), self.missing_left[node], seen <= self.threshold[node])
                node = np.where(asked < 0, node, np.where(left, self.left[node], self.right[node]))
            total += self.value[node]
        return total


def regressor(
    *, seed: int, rows: int, rounds: int = ROUNDS, quantile: float | None = None
) -> HistGradientBoostingRegressor:
    """What `fit_trees` fits on so many rows, as scikit-learn has it."""
    loss: dict[str, Any] = (
        {"loss": "squared_error"} if quantile is None else {"loss": "quantile", "quantile": quantile}
    )
    return HistGradientBoostingRegressor(
        learning_rate=RATE * ROUNDS / rounds,
        max_iter=rounds,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=min(LEAF_ROWS, max(2, rows // (2 * LEAVES))),
        l2_regularization=L2,
        max_features=FEATURES_SHARE,
        early_stopping=False,
        random_state=seed,
        **loss,
    )


def fit_trees(
    features: Floats,
    target: Floats,
    *,
    seed: int,
    quantile: float | None = None,
    rounds: int = ROUNDS,
    weights: Floats | None = None,
) -> Trees:
    """Fit on rows of features. The same arguments give the same trees.

    Args:
        features: float64[n, F], NaN = missing.
        target: float64[n].
        seed: Draws the features that each split may ask for.
        quantile: Fit this quantile of the target, not its mean.
        rounds: Trees; fewer take larger steps.
        weights: float64[n], of the rows.
    """
    model = regressor(seed=seed, rows=len(target), rounds=rounds, quantile=quantile)
    # One thread: small trees gain little from more, and where others compute too, threads that wait for each other
    # take minutes for seconds.
    with threadpool_limits(limits=1):
        model.fit(features, target, sample_weight=weights)
    base = float(np.ravel(model._baseline_prediction)[0])  # noqa: SLF001 - no public way to the nodes
    return _arrays(base, [each[0].nodes for each in model._predictors])  # noqa: SLF001 - the same


def _arrays(base: float, trees: Sequence[npt.NDArray[Any]]) -> Trees:
    sizes = np.array([len(tree) for tree in trees], dtype=np.int64)
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    nodes = np.concatenate(list(trees))
    shift = np.repeat(roots, sizes)
    leaf = nodes["is_leaf"].astype(np.bool_)
    return Trees(
        base=base,
        roots=roots,
        feature=np.where(leaf, -1, nodes["feature_idx"]).astype(np.int64),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]).astype(np.float64),
        left=np.where(leaf, 0, nodes["left"] + shift).astype(np.int64),
        right=np.where(leaf, 0, nodes["right"] + shift).astype(np.int64),
        missing_left=nodes["missing_go_to_left"].astype(np.bool_),
        value=np.where(leaf, nodes["value"], 0.0).astype(np.float64),
    )
