"""Writes an ensemble as one ONNX graph: its members' graphs side by side, and what makes one answer of theirs."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, compose, helper

from cloud.training.onnx import Graph, finish

MIXED_BY: Final = 8  # the power of a member's score that it explains the ensemble's by
_ML: Final = "ai.onnx.ml"


def to_onnx(parts: Sequence[tuple[bytes, float]], limit: float, name: str) -> bytes:
    """The graph's bytes, of the members' and their units; inputs and outputs are those of `cloud.training.onnx.to_onnx`."""
    members = [onnx.load_model_from_string(part) for part, _ in parts]
    lengths = [_shape(member)[0] for member in members]
    window, sensors = max(lengths), _shape(members[0])[1]
    graph = Graph()
    graph.constant("zero", 0.0)
    graph.constant("one", 1.0)
    graph.constant("column", [1], np.int64)
    graph.constant("sheet", [2], np.int64)
    graph.constant("end", [np.iinfo(np.int64).max], np.int64)
    for number, (member, length, (_, unit)) in enumerate(zip(members, lengths, parts, strict=True)):
        _join(graph, member, f"m{number}_", length)
        _measure(graph, f"m{number}_", unit)
    _combine(graph, [f"m{number}_" for number in range(len(members))])
    graph.add("Identity", [f"m{lengths.index(window)}_of_seen"], "seen")
    versions = [each.version for member in members for each in member.opset_import if each.domain == _ML]
    return finish(graph, window, sensors, limit, name, ml_opset=max(versions, default=None))


def _shape(member: onnx.ModelProto) -> tuple[int, int]:
    _, window, sensors = member.graph.input[0].type.tensor_type.shape.dim
    return window.dim_value, sensors.dim_value


def _join(graph: Graph, member: onnx.ModelProto, prefix: str, length: int) -> None:
    """A member's nodes and constants under a prefix; its input is the newest part of the window."""
    own = compose.add_prefix_graph(member.graph, f"{prefix}of_")
    graph.constant(f"{prefix}begin", [-length], np.int64)
    graph.add("Slice", ["window", f"{prefix}begin", "end", "column"], own.input[0].name)
    graph.nodes.extend(own.node)
    graph.constants.extend(own.initializer)


def _measure(graph: Graph, prefix: str, unit: float) -> None:
    """`measured` [n, 1]: a member's score over its unit."""
    graph.constant(f"{prefix}unit", unit)
    graph.add("Cast", [f"{prefix}of_score"], f"{prefix}score64", to=TensorProto.DOUBLE)
    graph.add("Div", [f"{prefix}score64", f"{prefix}unit"], f"{prefix}ratio")
    graph.add("Unsqueeze", [f"{prefix}ratio", "column"], f"{prefix}measured")
    graph.add("Cast", [f"{prefix}of_contributions"], f"{prefix}shares64", to=TensorProto.DOUBLE)
    graph.add("Unsqueeze", [f"{prefix}shares64", "sheet"], f"{prefix}shares")
    graph.add("Unsqueeze", [f"{prefix}of_expected", "sheet"], f"{prefix}level")


def _combine(graph: Graph, prefixes: Sequence[str]) -> None:
    """`score`, `contributions` and `expected`; members are the last axis."""
    for kind, axis, made in (("measured", 1, "ratios"), ("shares", 2, "every"), ("level", 2, "levels")):
        given = [f"{prefix}{kind}" for prefix in prefixes]
        graph.nodes.append(helper.make_node("Concat", given, [made], made, axis=axis))
    graph.add("ReduceMax", ["ratios", "column"], "top", keepdims=1)
    graph.add("Squeeze", ["top", "column"], "score64")
    graph.add("Cast", ["score64"], "score", to=TensorProto.FLOAT)

    graph.constant("mixed_by", float(MIXED_BY))
    graph.add("Greater", ["top", "zero"], "any")
    graph.add("Where", ["any", "top", "one"], "top_safe")
    # Where nothing scores, all explain it alike.
    graph.add("Where", ["any", "ratios", "one"], "ratios_safe")
    graph.add("Div", ["ratios_safe", "top_safe"], "part")
    graph.add("Pow", ["part", "mixed_by"], "weights")
    graph.add("Unsqueeze", ["weights", "column"], "weights_sheet")
    graph.add("Mul", ["every", "weights_sheet"], "weighted")
    graph.add("ReduceSum", ["weighted", "sheet"], "mixed", keepdims=0)
    graph.share("mixed", "column", "mixed_share")
    graph.add("Cast", ["mixed_share"], "contributions", to=TensorProto.FLOAT)
    graph.add("Mul", ["levels", "weights_sheet"], "levels_weighted")
    graph.add("ReduceSum", ["levels_weighted", "sheet"], "levels_sum", keepdims=0)
    graph.add("ReduceSum", ["weights", "column"], "weights_sum", keepdims=1)
    graph.add("Div", ["levels_sum", "weights_sum"], "expected")
