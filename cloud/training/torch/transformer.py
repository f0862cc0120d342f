"""The Transformer autoencoder's trunk: patches of a window, told by their places, attend to each other; and a mean."""

from dataclasses import asdict
from typing import Final

import torch
from torch import Tensor, nn

from cloud.training.learning import Transformer
from cloud.training.torch.attention import Attention
from cloud.training.torch.network import Design

METHOD: Final = "transformer-autoencoder"
WIDER: Final = 2  # the dense layer of a block, in widths
PLACES: Final = 0.1  # how far apart places are at first


class Block(nn.Module):
    """One layer of an encoder, normed before each part (Xiong et al., "On layer normalization", ICML 2020)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.second_norm = nn.LayerNorm(width)
        self.wide = nn.Sequential(nn.Linear(width, WIDER * width), nn.GELU(), nn.Linear(WIDER * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """float32[m, T, C] of float32[m, T, C]."""
        tokens = tokens + self.attention(self.first_norm(tokens))
        return torch.as_tensor(tokens + self.wide(self.second_norm(tokens)))


class Encoder(nn.Module):
    """float32[m, C, T] to float32[m, C].

    A patch is the sum of what the sensors that are heard make of it; it is bent and bounded before anything attends to it,
    so that a sensor far out stays one voice among the others.
    """

    def __init__(self, patches: int, settings: Transformer) -> None:
        super().__init__()
        self.place = nn.Parameter(PLACES * torch.randn(patches, settings.width))
        self.blocks = nn.ModuleList(Block(settings.width, settings.heads) for _ in range(settings.layers))

    def forward(self, places: Tensor) -> Tensor:
        """The mean over the patches."""
        tokens = torch.tanh(places.transpose(1, 2) + self.place)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens.mean(dim=1)


def design(settings: Transformer) -> Design:
    """Patches overlap by half, so that nothing falls between two."""
    return Design(
        method=METHOD,
        channels=settings.width,
        kernel=2 * settings.patch,
        stride=settings.patch,
        trunk=lambda patches: Encoder(patches, settings),
        constants={"WIDER": WIDER, "PLACES": PLACES},
        settings=asdict(settings),
    )
