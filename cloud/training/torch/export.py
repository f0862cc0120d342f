"""A torch module as the bytes of an ONNX graph, with nothing of where it was made."""

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from typing import cast

import onnx
import torch
from torch import Tensor, nn

from cloud.training.onnx import IR_VERSION, OPSET

ROWS_MAX = 1 << 20


def exported(
    module: nn.Module, example: tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str], name: str
) -> bytes:
    """The graph `name` of a module whose inputs all have the same number of rows, any from 1 to ROWS_MAX."""
    for part in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(part).setLevel(logging.ERROR)  # what they skip is no news
    rows = {0: torch.export.Dim("n", min=1, max=ROWS_MAX)}
    # The exporter tells of its steps on stdout, which belongs to data.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple(rows for _ in inputs),
            verbose=False,
        )
    proto = cast("torch.onnx.ONNXProgram", program).model_proto
    return _clean(proto, name).SerializeToString(deterministic=True)


def _clean(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    proto.producer_name, proto.producer_version, proto.doc_string = "industrialmind", "", ""
    proto.ir_version = IR_VERSION
    proto.graph.name = name
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in proto.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    onnx.checker.check_model(proto)
    return proto
