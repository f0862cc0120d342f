"""The convolutional autoencoder's trunk: a second convolution over what the first made of the sensors, and a mean."""

from typing import Final

import torch
from torch import Tensor, nn

from cloud.training.torch.network import Design

CHANNELS: Final = 16
KERNEL: Final = 5


class Convolution(nn.Module):
    """float32[m, C, T] to float32[m, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(CHANNELS, 1))
        self.combine = nn.Conv1d(CHANNELS, CHANNELS, 3, stride=2, padding=1)

    def forward(self, places: Tensor) -> Tensor:
        """The mean over time."""
        return torch.tanh(self.combine(torch.tanh(places + self.offset))).mean(dim=2)


DESIGN: Final = Design(
    method="conv-autoencoder",
    channels=CHANNELS,
    kernel=KERNEL,
    stride=2,
    trunk=lambda _: Convolution(),
    constants={"CHANNELS": CHANNELS, "KERNEL": KERNEL},
)
