"""An isolation forest over a window's features: how few random cuts set a window apart. Needs the extra [train].

F. T. Liu, K. M. Ting and Z.-H. Zhou, "Isolation forest", ICDM (2008), fitted by scikit-learn. It looks at each sensor's level
and restlessness, as window PCA does, less what the other sensors' make of them linearly: cuts of one feature at a time see
no relation between sensors, and what a duty cycle does would hide every fault.

- Cuts are drawn by the number of a column, so columns are put in an order of the data's own, and a sensor's longer tail
  points up: the order and the units of sensors don't matter.
- Features are float32 before a cut sees them. What another unit does to their last decimals is thereby rounded away,
  and a score, which jumps at a cut, stays where it is.
- Path lengths are whole multiples of 1/4096: float32 adds them up exactly, in whatever order a runtime does.
- A forest's own score ends at 1, where a margin says nothing. It is stretched: 0 is the usual one in training, 1 as high
  as it usually gets.
"""

from dataclasses import replace
from typing import Final

import numpy as np
import orjson
from sklearn.ensemble import IsolationForest

from cloud.training import autoencoder, limits, pca, scales
from cloud.training.forest_onnx import to_onnx
from cloud.training.forest_trees import DISTANCE_WEIGHT, Forest, Tree, judge
from cloud.training.logic import TRAIN_SHARE, Config, full_windows, split
from cloud.training.packing import Fitted
from cloud.training.pca import Floats, Scale
from cloud.training.recording import Recording
from shared.artifact import sha256
from shared.errors import Rejected
from shared.windows import Cells, Ints

METHOD: Final = "isolation-forest"
TREES: Final = 100
SAMPLE: Final = 256  # windows a tree sees: of more, the odd ones hide among each other
GRAIN: Final = 4096.0
USUAL: Final = 0.99  # the quantile of training scores that counts as 1, as for a time scale of window PCA
CHUNK: Final = 2048


def method_hash(config: Config) -> str:
    """Hash of the configuration and of the method's constants."""
    fixed = [TREES, SAMPLE, GRAIN, USUAL, DISTANCE_WEIGHT, TRAIN_SHARE, limits.MARGIN_MIN, limits.TAIL]
    return sha256(orjson.dumps([config.prepared(), fixed], option=orjson.OPT_SORT_KEYS))


def fit_forest(recording: Recording, config: Config, *, seed: int, step_us: int | None = None) -> Fitted:
    """Fit a forest and set its limit; deterministic in its arguments. Raises Rejected: too few rows, or none that moves."""
    cells, ends = full_windows(recording, config, step_us)
    train, after = split(ends, config.window)
    rows = int(train[-1]) + 1
    scale = pca.fit_scale(cells.cells[:rows])
    _, order = autoencoder.arrange(cells, rows)
    every, hop = scales.thinned(ends)
    table = pca.features_of(scale, cells, every)
    model = grow(scale, table[: int(np.searchsorted(every, train[-1], side="right"))], order, seed)

    def tail(count: int) -> limits.TailOf:
        earlier = grow(scale, table[:count], order, seed)
        return lambda part: float(np.quantile(judge(earlier, table[part])[0], limits.TAIL))

    forward = scales.growth(len(table), -(-config.window // hop), tail)
    healthy = _scores(model, cells, after)
    limit = limits.set_limit(
        healthy, window=config.window, step_us=cells.spec.step_us, budget=config.budget, forward_ratio=forward
    )

    def score(windows: Floats) -> tuple[Floats, Floats]:
        return judge(model, pca.features(scale, windows), explain=True)

    leaves = sum(int((tree.left < 0).sum()) for tree in model.trees)
    return Fitted(
        method=METHOD,
        method_hash=method_hash(config),
        scale=scale,
        cells=cells,
        ends=ends,
        after=after,
        healthy=healthy,
        forward=forward,
        limit=limit,
        budget=config.budget,
        settle_s=config.settle_s,
        score=score,
        graph=lambda: to_onnx(model, config.window, limit.value, METHOD),
        parameters={
            "window": config.window,
            "step_us": cells.spec.step_us,
            "trees": TREES,
            "sample": SAMPLE,
            "seed": seed,
        },
        figures={"leaves": float(leaves)},
    )


def grow(scale: Scale, table: Floats, order: Ints, seed: int) -> Forest:
    """Of float64[n, 2S] features; `order` is the sensors' own. Raises Rejected: nothing moves."""
    chosen = table[:: max(1, len(table) // autoencoder.WINDOWS)]
    bare = _expectation(scale, chosen, order)
    given = bare.enter(bare.left_over(chosen))
    forest = IsolationForest(n_estimators=TREES, max_samples=min(SAMPLE, len(given)), random_state=seed)
    forest.fit(given)
    path = float(_average_path(np.array([forest.max_samples_]))[0])
    grown = replace(bare, trees=tuple(_tree(each.tree_) for each in forest.estimators_), path=path)
    low, high = np.quantile(grown.isolation(given), [0.5, USUAL])
    if not high > low:
        raise Rejected("all training windows look alike to a forest: there is nothing to learn")
    return replace(grown, low=float(low), stretch=float(1 / (high - low)))


def _expectation(scale: Scale, table: Floats, order: Ints) -> Forest:
    """A forest without trees yet: what each feature is expected to be from the other sensors', and how far it is off."""
    both, sensors = table.shape[1], len(order)
    silent = np.isnan(table).all(axis=0)
    usual = np.nanmean(np.where(silent, 0.0, table), axis=0)
    filled = np.where(np.isnan(table), usual, table)
    moves = filled.std(axis=0) > pca.TINY
    if not moves.any():
        raise Rejected("no sensor moves in the training rows: there is nothing to learn")
    linear, base = np.zeros((both, both)), np.zeros(both)
    for sensor in range(sensors):
        own = np.array([sensor, sensors + sensor])
        others = np.setdiff1d(np.arange(both), own)
        penalty = np.full(len(others), autoencoder.RIDGE_LINEAR)
        linear[np.ix_(others, own)], base[own] = autoencoder.ridge(filled[:, others], filled[:, own], penalty)
    left = filled - filled @ linear - base
    gain = np.divide(1.0, left.std(axis=0), out=np.zeros(both), where=moves & (left.std(axis=0) > pca.TINY))
    skew = (np.clip(left * gain, -4, 4) ** 3).mean(axis=0)
    gain[:sensors] *= np.where(skew[:sensors] < 0, -1.0, 1.0)
    columns = np.concatenate([order, sensors + order])
    return Forest(scale, usual, linear, base, gain, columns, (), 1.0)


def _tree(fitted: object) -> Tree:
    left = np.asarray(fitted.children_left, np.int64)  # type: ignore[attr-defined]
    right = np.asarray(fitted.children_right, np.int64)  # type: ignore[attr-defined]
    depth = np.zeros(len(left))
    for node in np.flatnonzero(left >= 0).tolist():  # a node comes before its children
        depth[[left[node], right[node]]] = depth[node] + 1
    held = np.asarray(fitted.n_node_samples, np.int64)  # type: ignore[attr-defined]
    path = np.round((depth + _average_path(held)) * GRAIN) / GRAIN
    at = np.asarray(fitted.threshold, np.float64)  # type: ignore[attr-defined]
    # Cells are float32: x <= at is x <= the largest float32 that is not above it.
    near = at.astype(np.float32)
    cut = np.where(near > at, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)
    column = np.maximum(np.asarray(fitted.feature, np.int64), 0)  # type: ignore[attr-defined]
    return Tree(left, right, column, cut, path.astype(np.float32))


def _average_path(held: Ints) -> Floats:
    """The usual number of cuts that set one of so many windows apart (Liu et al., equation 1)."""
    many = np.maximum(held.astype(np.float64), 3.0)
    long = 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    made: Floats = np.where(held <= 1, 0.0, np.where(held == 2, 1.0, long))  # noqa: PLR2004 - two are apart by one cut
    return made


def _scores(model: Forest, cells: Cells, ends: Ints) -> Floats:
    parts = [
        judge(model, pca.features_of(model.scale, cells, ends[at : at + CHUNK]))[0]
        for at in range(0, len(ends), CHUNK)
    ]
    return np.concatenate([np.zeros(0), *parts])
