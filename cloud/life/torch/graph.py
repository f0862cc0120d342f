"""The networks as one ONNX graph: window and summary in, remaining life out."""

import contextlib
import io
import logging
import warnings
from typing import Final, cast

import torch
from onnx import ModelProto, checker
from torch import Tensor, nn

from cloud.life.onnx import NO_KNEE
from cloud.life.torch.fit import NetworkModel, target_scale
from cloud.training.onnx import IR_VERSION, OPSET
from cloud.training.torch.network import repeatable

INPUTS: Final = ("window", "summary")


class Ensemble(nn.Module):
    """The mean of the networks, in cycles, in 0..knee."""

    knee: Tensor

    def __init__(self, model: NetworkModel) -> None:
        super().__init__()
        self.networks = nn.ModuleList(model.networks)
        self.scale = target_scale(model.trees)
        # A tensor: the exporter knows no clamp between a number and what it makes of another.
        self.register_buffer("knee", torch.tensor(min(model.trees.knee, NO_KNEE), dtype=torch.float32))

    def forward(self, window: Tensor, summary: Tensor) -> Tensor:
        """float32[n] of float32[n, W, C] windows and float32[n, S] summaries."""
        said = torch.stack([network(window, summary) for network in self.networks]).mean(dim=0)
        return torch.minimum(torch.relu(said * self.scale), self.knee)


def to_onnx(model: NetworkModel) -> bytes:
    """Inputs `window` float[n, W, C] and `summary` float[n, S] by `NetworkModel.inputs`; output `life` float[n]."""
    network = model.networks[0]
    channels, summary = network.embed.in_features, len(model.scale.centre)
    example = (torch.zeros((2, model.rows, channels)), torch.zeros((2, summary)))
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)  # what they skip is no news
    count = {0: torch.export.Dim("n", min=1, max=1 << 20)}
    # The exporter tells of its steps on stdout, which belongs to data.
    with repeatable(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Ensemble(model).eval(),
            example,
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=["life"],
            dynamic_shapes=(count, count),
            verbose=False,
        )
    proto = cast("torch.onnx.ONNXProgram", program).model_proto
    return _clean(proto).SerializeToString(deterministic=True)


def _clean(proto: ModelProto) -> ModelProto:
    """Without the traces of where it was made."""
    proto.producer_name, proto.producer_version, proto.doc_string = "industrialmind", "", ""
    proto.ir_version = IR_VERSION
    proto.graph.name = "remaining-life-network"
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
    checker.check_model(proto)
    return proto
