"""Writes an isolation forest as an ONNX graph, its trees by the operator of the standard domain ai.onnx.ml."""

from typing import Final

import numpy as np
from onnx import NodeProto, TensorProto, helper

from cloud.training.forest_trees import DISTANCE_WEIGHT, Forest
from cloud.training.onnx import Graph, finish, window_features

ML_OPSET: Final = 3


def to_onnx(model: Forest, window: int, limit: float, name: str) -> bytes:
    """The graph's bytes; inputs and outputs are those of `cloud.training.onnx.to_onnx`."""
    sensors = len(model.scale.centre)
    graph = Graph()
    window_features(graph, model.scale, (window,), window)
    _enter(graph, model)
    _isolate(graph, model, sensors)
    _share(graph, model, sensors)
    return finish(graph, window, sensors, limit, name, ml_opset=ML_OPSET)


def _enter(graph: Graph, model: Forest) -> None:
    """`left` float64[n, 1, 2S] in spreads, as `Forest.left_over`: the one time scale stays as the middle axis."""
    graph.constant("usual", model.usual)
    graph.constant("linear", model.linear)
    graph.constant("base", model.base)
    graph.constant("gain", model.gain)
    graph.add("Concat", ["level", "rest"], "features", axis=2)
    graph.add("Concat", ["spoke", "moved"], "known", axis=2)
    graph.add("Where", ["known", "features", "usual"], "f")
    graph.add("MatMul", ["f", "linear"], "explained")
    graph.add("Sub", ["f", "explained"], "unexplained")
    graph.add("Sub", ["unexplained", "base"], "left_raw")
    graph.add("Mul", ["left_raw", "gain"], "left_any")
    graph.add("Where", ["known", "left_any", "zero"], "left")


def _isolate(graph: Graph, model: Forest, sensors: int) -> None:
    """`isolation` [n, 1] of the window and `healed` [n, S] with each sensor as expected; then `score`."""
    own = np.arange(2 * sensors) % sensors == np.arange(sensors)[:, None]
    # One row for the window as it is, then one a sensor.
    graph.constant("owns", np.concatenate([np.zeros((1, 2 * sensors)), own]))
    graph.constant("heal", model.heal)
    graph.constant("order", model.order, np.int64)
    graph.constant("flat", [-1, 2 * sensors], np.int64)
    graph.constant("square", [-1, sensors + 1], np.int64)
    graph.add("Mul", ["left", "owns"], "blamed")
    graph.add("MatMul", ["blamed", "heal"], "change")
    graph.add("Add", ["left", "change"], "asked")
    graph.add("Gather", ["asked", "order"], "given", axis=2)
    graph.add("Cast", ["given"], "given32", to=TensorProto.FLOAT)
    graph.add("Reshape", ["given32", "flat"], "asked_flat")
    graph.nodes.append(_trees(model))
    graph.add("Reshape", ["paths", "square"], "paths_square")
    graph.add("Cast", ["paths_square"], "paths64", to=TensorProto.DOUBLE)
    graph.constant("per_path", -np.log(2.0) / (len(model.trees) * model.path))
    graph.add("Mul", ["paths64", "per_path"], "exponent")
    graph.add("Exp", ["exponent"], "isolations")
    graph.constant("parts", [1, sensors], np.int64)
    graph.split("isolations", "parts", ("isolation", "healed"), axis=1)
    graph.constant("lowest", model.low)
    graph.constant("stretch", model.stretch)
    graph.add("Sub", ["isolation", "lowest"], "above")
    graph.add("Mul", ["above", "stretch"], "stretched")
    graph.add("Max", ["stretched", "zero"], "score_column")
    graph.add("Squeeze", ["score_column", "cells"], "score64")
    graph.add("Cast", ["score64"], "score", to=TensorProto.FLOAT)


def _share(graph: Graph, model: Forest, sensors: int) -> None:
    """`contributions`, and `expected`: each sensor's level as the others say."""
    belongs = np.arange(sensors)[None, :] == (np.arange(2 * sensors) % sensors)[:, None]
    graph.constant("belongs", belongs, np.float64)
    graph.constant("distance_weight", DISTANCE_WEIGHT)
    graph.add("Abs", ["left"], "left_size")
    graph.add("MatMul", ["left_size", "belongs"], "far_scales")
    graph.add("Squeeze", ["far_scales", "cells"], "far")
    graph.add("Add", ["far", "one"], "far_more")
    graph.add("Div", ["far", "far_more"], "far_share")
    graph.add("Mul", ["far_share", "distance_weight"], "far_weighted")
    graph.add("Sub", ["isolation", "healed"], "drop_signed")
    graph.add("Max", ["drop_signed", "zero"], "drop")
    graph.add("Add", ["drop", "far_weighted"], "each_raw")
    graph.add("Greater", ["score_column", "zero"], "deviates")
    graph.add("Where", ["deviates", "each_raw", "zero"], "each")
    graph.share("each", "cells", "shares")
    graph.add("Cast", ["shares"], "contributions", to=TensorProto.FLOAT)

    inverse = model.scale.inverse
    spread = np.divide(1.0, inverse, out=np.zeros_like(inverse), where=inverse > 0)
    graph.constant("spread", spread)
    graph.constant("halves", [sensors, sensors], np.int64)
    graph.add("Add", ["explained", "base"], "usual_scales")
    graph.add("Squeeze", ["usual_scales", "cells"], "usual_both")
    graph.split("usual_both", "halves", ("usual_level", "usual_rest"), axis=1)
    graph.add("Mul", ["usual_level", "spread"], "usual_centred")
    graph.add("Add", ["usual_centred", "centre"], "expected")


def _trees(model: Forest) -> NodeProto:
    """All trees as one node: float32[m, 2S] to `paths` float32[m, 1], the sum of path lengths."""
    sizes = [len(tree.left) for tree in model.trees]
    numbers = [np.arange(size) for size in sizes]
    leaf = [np.flatnonzero(tree.left < 0) for tree in model.trees]
    inside = np.concatenate([tree.left for tree in model.trees]) >= 0
    owner = np.repeat(np.arange(len(sizes)), sizes)
    leaf_owner = np.repeat(np.arange(len(sizes)), [len(each) for each in leaf])
    leaf_path = np.concatenate([tree.path[at] for tree, at in zip(model.trees, leaf, strict=True)])
    return helper.make_node(
        "TreeEnsembleRegressor",
        ["asked_flat"],
        ["paths"],
        name="paths",
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=owner.tolist(),
        nodes_nodeids=np.concatenate(numbers).tolist(),
        nodes_featureids=np.concatenate([tree.column for tree in model.trees]).tolist(),
        nodes_values=np.where(inside, np.concatenate([tree.cut for tree in model.trees]), 0.0).tolist(),
        nodes_modes=["BRANCH_LEQ" if each else "LEAF" for each in inside.tolist()],
        nodes_truenodeids=np.maximum(np.concatenate([tree.left for tree in model.trees]), 0).tolist(),
        nodes_falsenodeids=np.maximum(np.concatenate([tree.right for tree in model.trees]), 0).tolist(),
        target_treeids=leaf_owner.tolist(),
        target_nodeids=np.concatenate(leaf).tolist(),
        target_ids=[0] * len(leaf_path),
        target_weights=leaf_path.tolist(),
    )
