"""Attention of the tokens of a sequence for each other."""

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Scaled dot products in several heads (Vaswani et al., "Attention is all you need", NeurIPS 2017).

    By hand: the fast path of torch's own layer computes something else when it is exported.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.asked = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)

    def forward(self, tokens: Tensor, added: Tensor | None = None) -> Tensor:
        """float32[n, T, D] of float32[n, T, D]; `added` float32[n or 1, 1, 1 or T, T] to what each token gives each."""
        _, count, width = tokens.shape
        asked, key, value = (
            part.view(-1, count, self.heads, width // self.heads).transpose(1, 2)
            for part in self.asked(tokens).chunk(3, dim=2)
        )
        fits = asked @ key.transpose(2, 3) / math.sqrt(width // self.heads)
        if added is not None:
            fits = fits + added
        heard = (torch.softmax(fits, dim=3) @ value).transpose(1, 2).reshape(-1, count, width)
        return torch.as_tensor(self.mixed(heard))
