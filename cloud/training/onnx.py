"""Writes a fitted window PCA as an ONNX graph: the whole computation from a window to score, limit and contributions."""

from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, checker, helper, numpy_helper

from cloud.training.pca import CLIP, REST, Scale
from cloud.training.scales import ScaledPca

OPSET: Final = 18
IR_VERSION: Final = 9
ONNXRUNTIME: Final = ">=1.32"


class Graph:
    """Nodes and constants of a graph, in the order they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float64) -> str:
        """A constant; its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: int) -> str:
        """A node of one output; its name."""
        self.nodes.append(helper.make_node(kind, inputs, [output], output, None, None, None, **attributes))
        return output

    def split(self, value: str, sizes: str, outputs: tuple[str, ...], axis: int) -> None:
        """A node that splits a value along an axis."""
        self.nodes.append(
            helper.make_node("Split", [value, sizes], list(outputs), name=f"{value}_split", axis=axis)
        )

    def share(self, value: str, axis: str, output: str) -> str:
        """Each part of the sum along the axis; all 0 where that is 0."""
        self.add("ReduceSum", [value, axis], f"{value}_sum", keepdims=1)
        self.add("Greater", [f"{value}_sum", "zero"], f"{value}_any")
        self.add("Where", [f"{value}_any", f"{value}_sum", "one"], f"{value}_total")
        return self.add("Div", [value, f"{value}_total"], output)


def to_onnx(model: ScaledPca, window: int, limit: float, name: str = "window-pca") -> bytes:
    """The graph's bytes.

    Input `window` float64[n, W, S], NaN = empty. Outputs `score` float32[n], `limit` float32, `alarm` bool[n],
    `contributions` float32[n, S], `expected` and `seen` float64[n, S] in engineering units.
    """
    sensors = len(model.scale.centre)
    graph = Graph()
    window_features(graph, model.scale, model.lengths, window)
    _judge(graph, model, sensors)
    _explain(graph, model)
    return finish(graph, window, sensors, limit, name)


def window_features(graph: Graph, scale: Scale, lengths: tuple[int, ...], window: int) -> None:
    """`level` and `rest` [n, K, S] of K time scales, where they are known (`spoke`, `moved`), and `seen` [n, S].

    The same arithmetic as `cloud.training.scales.features`. Brings the constants `zero`, `one` and `cells`, the axis 1.
    """
    graph.constant("zero", 0.0)
    graph.constant("one", 1.0)
    graph.constant("nan", np.nan)
    graph.constant("cells", [1], np.int64)
    _standard(graph, scale)
    _features(graph, scale, lengths, window)


def finish(
    graph: Graph, window: int, sensors: int, limit: float, name: str, *, ml_opset: int | None = None
) -> bytes:
    """The bytes of a graph that has all outputs but `limit` and `alarm`; `ml_opset` of ai.onnx.ml, if it is used."""
    graph.constant("limit_value", np.float32(limit), np.float32)
    graph.add("Identity", ["limit_value"], "limit")
    graph.add("Greater", ["score", "limit_value"], "alarm")
    made = helper.make_graph(
        graph.nodes,
        name,
        [helper.make_tensor_value_info("window", TensorProto.DOUBLE, ["n", window, sensors])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("limit", TensorProto.FLOAT, []),
            helper.make_tensor_value_info("alarm", TensorProto.BOOL, ["n"]),
            helper.make_tensor_value_info("contributions", TensorProto.FLOAT, ["n", sensors]),
            helper.make_tensor_value_info("expected", TensorProto.DOUBLE, ["n", sensors]),
            helper.make_tensor_value_info("seen", TensorProto.DOUBLE, ["n", sensors]),
        ],
        graph.constants,
    )
    more = [] if ml_opset is None else [helper.make_opsetid("ai.onnx.ml", ml_opset)]
    proto = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET), *more],
        ir_version=IR_VERSION,
        producer_name="industrialmind",
    )
    checker.check_model(proto, full_check=True)
    return proto.SerializeToString(deterministic=True)


def _standard(graph: Graph, scale: Scale) -> None:
    """`standard` and `present` [n, W, S], and `seen` [n, S]."""
    graph.constant("centre", scale.centre)
    graph.constant("spread_inverse", scale.inverse)
    graph.constant("low", -CLIP)
    graph.constant("high", CLIP)
    graph.add("IsNaN", ["window"], "empty")
    graph.add("Not", ["empty"], "there")
    graph.add("Cast", ["there"], "present", to=TensorProto.DOUBLE)

    graph.add("ReduceSum", ["present", "cells"], "seen_count", keepdims=0)
    graph.add("Max", ["seen_count", "one"], "seen_safe")
    graph.add("Greater", ["seen_count", "zero"], "seen_any")
    graph.add("Where", ["empty", "zero", "window"], "raw")
    graph.add("ReduceSum", ["raw", "cells"], "raw_sum", keepdims=0)
    graph.add("Div", ["raw_sum", "seen_safe"], "raw_mean")
    graph.add("Where", ["seen_any", "raw_mean", "nan"], "seen")

    graph.add("Where", ["empty", "centre", "window"], "filled")
    graph.add("Sub", ["filled", "centre"], "centred")
    graph.add("Mul", ["centred", "spread_inverse"], "scaled")
    graph.add("Clip", ["scaled", "low", "high"], "clipped")
    # The model's values are float32; sums over them are taken in float64, so that the order of the sensors does not
    # show in a score.
    graph.add("Cast", ["clipped"], "standard32", to=TensorProto.FLOAT)
    graph.add("Cast", ["standard32"], "standard", to=TensorProto.DOUBLE)


def _features(graph: Graph, scale: Scale, lengths: tuple[int, ...], window: int) -> None:
    """`level` and `rest` [n, K, S] with where they are known: the same arithmetic as `scales.features`.

    Sums over the newest cells of each time scale are products with rows of ones.
    """
    newest = np.stack([np.arange(window) >= window - length for length in lengths])
    pairs = np.stack([np.arange(window - 1) >= window - length for length in lengths])
    graph.constant("newest", newest)
    graph.constant("newest_pairs", pairs)
    graph.constant("step_inverse", scale.step)
    graph.constant("rest_floor", REST)
    graph.add("MatMul", ["newest", "present"], "count")
    graph.add("Max", ["count", "one"], "count_safe")
    graph.add("Greater", ["count", "zero"], "spoke")
    graph.add("MatMul", ["newest", "standard"], "standard_sum")
    graph.add("Div", ["standard_sum", "count_safe"], "level")

    graph.constant("first", [0], np.int64)
    graph.constant("second", [1], np.int64)
    graph.constant("last", [-1], np.int64)
    graph.constant("end", [np.iinfo(np.int64).max], np.int64)
    for name in ("standard", "present"):
        graph.add("Slice", [name, "second", "end", "cells"], f"{name}_later")
        graph.add("Slice", [name, "first", "last", "cells"], f"{name}_earlier")
    graph.add("Sub", ["standard_later", "standard_earlier"], "step")
    graph.add("Mul", ["present_later", "present_earlier"], "both")
    graph.add("Mul", ["step", "step"], "step_squared")
    graph.add("Mul", ["step_squared", "both"], "step_masked")
    graph.add("MatMul", ["newest_pairs", "step_masked"], "step_sum")
    graph.add("MatMul", ["newest_pairs", "both"], "pairs")
    graph.add("Max", ["pairs", "one"], "pairs_safe")
    graph.add("Div", ["step_sum", "pairs_safe"], "step_mean")
    graph.add("Mul", ["step_mean", "step_inverse"], "step_relative")
    graph.add("Add", ["step_relative", "rest_floor"], "step_floored")
    graph.add("Log", ["step_floored"], "rest")
    graph.add("Greater", ["pairs", "zero"], "moved")


def _judge(graph: Graph, model: ScaledPca, sensors: int) -> None:
    """`score`, and `f` and `pull` = f phi [K, n, 2S], from which the rest follows."""
    graph.constant("mean", np.stack([member.mean for member in model.members]))
    graph.constant("feature_inverse", np.stack([member.inverse for member in model.members]))
    graph.constant("phi", np.stack([member.phi for member in model.members]))
    graph.add("Concat", ["level", "rest"], "features", axis=2)
    graph.add("Concat", ["spoke", "moved"], "known", axis=2)
    graph.add("Sub", ["features", "mean"], "deviation")
    graph.add("Mul", ["deviation", "feature_inverse"], "deviation_scaled")
    graph.add("Where", ["known", "deviation_scaled", "zero"], "by_window")
    # A scale's windows together: one matrix product a scale.
    graph.nodes.append(helper.make_node("Transpose", ["by_window"], ["f"], name="f", perm=[1, 0, 2]))
    graph.add("MatMul", ["f", "phi"], "pull")
    graph.add("Mul", ["f", "pull"], "form")
    graph.constant("columns", [2], np.int64)
    graph.constant("scales", [0], np.int64)
    graph.add("ReduceSum", ["form", "columns"], "form_sum", keepdims=0)
    graph.add("Max", ["form_sum", "zero"], "form_positive")
    graph.add("ReduceMax", ["form_positive", "scales"], "form_largest", keepdims=0)
    graph.add("Sqrt", ["form_largest"], "score64")
    graph.add("Cast", ["score64"], "score", to=TensorProto.FLOAT)
    graph.constant("halves", [sensors, sensors], np.int64)


def _explain(graph: Graph, model: ScaledPca) -> None:
    """`contributions`, and `expected`: the level of all W cells that would make them most usual, the other sensors given."""
    sensors = len(model.scale.centre)
    graph.constant("own_inverse", np.stack([member.diagonal for member in model.members])[:, None])
    graph.add("Mul", ["pull", "pull"], "pull_squared")
    graph.add("Mul", ["pull_squared", "own_inverse"], "each")
    graph.split("each", "halves", ("each_level", "each_rest"), axis=2)
    graph.add("Add", ["each_level", "each_rest"], "sensor")
    graph.share("sensor", "columns", "share")
    graph.add("Mul", ["form_positive", "form_positive"], "weight_half")
    graph.add("Mul", ["weight_half", "weight_half"], "weight")
    graph.add("Unsqueeze", ["weight", "columns"], "weight_column")
    graph.add("Mul", ["share", "weight_column"], "weighted")
    graph.add("ReduceSum", ["weighted", "scales"], "pooled", keepdims=0)
    graph.share("pooled", "cells", "pooled_share")
    graph.add("Cast", ["pooled_share"], "contributions", to=TensorProto.FLOAT)

    longest = model.members[-1]
    spread = np.divide(1.0, model.scale.inverse, out=np.zeros(sensors), where=model.scale.inverse > 0)
    level = longest.inverse[:sensors]
    graph.constant("level_spread", np.divide(1.0, level, out=np.zeros(sensors), where=level > 0))
    graph.constant("level_mean", longest.mean[:sensors])
    graph.constant("spread", spread)
    graph.add("Mul", ["pull", "own_inverse"], "shift")
    graph.add("Sub", ["f", "shift"], "usual_all")
    graph.constant("longest", len(model.members) - 1, np.int64)
    graph.add("Gather", ["usual_all", "longest"], "usual", axis=0)
    graph.split("usual", "halves", ("usual_level", "usual_rest"), axis=1)
    graph.add("Mul", ["usual_level", "level_spread"], "usual_scaled")
    graph.add("Add", ["usual_scaled", "level_mean"], "usual_standard")
    graph.add("Mul", ["usual_standard", "spread"], "usual_centred")
    graph.add("Add", ["usual_centred", "centre"], "expected")
