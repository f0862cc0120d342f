"""The networks as one ONNX graph: window and summary in, remaining life out."""

from typing import Final

import torch
from torch import Tensor, nn

from cloud.life.onnx import NO_KNEE
from cloud.life.torch.fit import NetworkModel, target_scale
from cloud.training.torch.export import exported
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
        said = torch.stack([network(window, summary)[:, 0] for network in self.networks]).mean(dim=0)
        return torch.minimum(torch.relu(said * self.scale), self.knee)


def to_onnx(model: NetworkModel) -> bytes:
    """Inputs `window` float[n, W, C] and `summary` float[n, S] by `NetworkModel.inputs`; output `life` float[n]."""
    network = model.networks[0]
    channels, summary = network.embed.in_features, len(model.scale.centre)
    example = (torch.zeros((2, model.rows, channels)), torch.zeros((2, summary)))
    with repeatable():
        return exported(Ensemble(model), example, INPUTS, ["life"], "remaining-life-network")
