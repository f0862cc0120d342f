"""The trees as an ONNX graph: features in, remaining life and the farthest it reaches out, in one node of trees."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from onnx import TensorProto, checker, helper

from cloud.life.sklearn import Trees
from cloud.training.onnx import IR_VERSION, OPSET
from shared.errors import Rejected

ML_OPSET: Final = 3
LIFE, FAR = 0, 1
NO_KNEE: Final = float(np.finfo(np.float32).max)


def to_onnx(life: Sequence[Trees], far: Sequence[Trees], features: int, knee: float) -> bytes:
    """Input `features` double[n, F], NaN = missing; outputs `life` float[n], in 0..knee, and `far` float[n].

    The ensembles' means are taken in the leaves. Thresholds stay float64: a feature on one side of a threshold here is
    on the same side there.

    Raises:
        Rejected: There is no tree.
    """
    if not life or not far:
        raise Rejected("there are no trees to export")
    attributes: dict[str, list[Any]] = {key: [] for key in _NODES + _LEAVES}
    number = 0
    for target, ensembles in ((LIFE, life), (FAR, far)):
        for trees in ensembles:
            number = _add(attributes, trees, target, len(ensembles), number)
    doubles: dict[str, Any] = {
        key: helper.make_tensor(key, TensorProto.DOUBLE, [len(values)], values)
        for key, values in (
            ("nodes_values_as_tensor", attributes.pop("nodes_values")),
            ("target_weights_as_tensor", attributes.pop("target_weights")),
            ("base_values_as_tensor", [float(np.mean([t.base for t in each])) for each in (life, far)]),
        )
    }
    named: dict[str, Any] = {
        "name": "trees",
        "domain": "ai.onnx.ml",
        "n_targets": 2,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
        **attributes,
        **doubles,
    }
    nodes = [
        helper.make_node("TreeEnsembleRegressor", ["features"], ["both"], **named),
        helper.make_node("Gather", ["both", "first"], ["mean"], name="mean", axis=1),
        helper.make_node("Gather", ["both", "second"], ["far"], name="far", axis=1),
        helper.make_node("Clip", ["mean", "zero", "knee"], ["life"], name="life"),
    ]
    top = knee if np.isfinite(knee) else NO_KNEE
    graph = helper.make_graph(
        nodes,
        "remaining-life",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["n", features])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("life", "far")],
        [
            helper.make_tensor("first", TensorProto.INT64, [], [LIFE]),
            helper.make_tensor("second", TensorProto.INT64, [], [FAR]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("knee", TensorProto.FLOAT, [], [top]),
        ],
    )
    proto = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=IR_VERSION,
        producer_name="industrialmind",
    )
    checker.check_model(proto)
    return bytes(proto.SerializeToString(deterministic=True))


_NODES: Final = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_modes",
    "nodes_values",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_missing_value_tracks_true",
)
_LEAVES: Final = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def _add(to: dict[str, list[Any]], trees: Trees, target: int, share: int, number: int) -> int:
    """Append an ensemble's trees, numbered from `number` on; returns the next number."""
    ends = [*trees.roots.tolist()[1:], len(trees.feature)]
    for root, end in zip(trees.roots.tolist(), ends, strict=True):
        own = slice(root, end)
        leaf = trees.feature[own] < 0
        at = np.arange(end - root)
        to["nodes_treeids"] += [number] * len(at)
        to["nodes_nodeids"] += at.tolist()
        to["nodes_featureids"] += np.maximum(trees.feature[own], 0).tolist()
        to["nodes_modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
        to["nodes_values"] += trees.threshold[own].tolist()
        to["nodes_truenodeids"] += np.where(leaf, 0, trees.left[own] - root).tolist()
        to["nodes_falsenodeids"] += np.where(leaf, 0, trees.right[own] - root).tolist()
        to["nodes_missing_value_tracks_true"] += trees.missing_left[own].astype(np.int64).tolist()
        to["target_treeids"] += [number] * int(leaf.sum())
        to["target_nodeids"] += at[leaf].tolist()
        to["target_ids"] += [target] * int(leaf.sum())
        to["target_weights"] += (trees.value[own][leaf] / share).tolist()
        number += 1
    return number
