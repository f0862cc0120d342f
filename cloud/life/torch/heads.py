"""What a network is asked for: heads beside each other on one encoder, each with a loss of its own, summed by weight."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
"""A number, of float32[m, outputs] that was said and float32[m] that was so."""


@dataclass(frozen=True)
class Head:
    """One question.

    Attributes:
        name: Of what is asked.
        outputs: How many numbers answer it.
        loss: Of the answers.
        weight: That the loss has in the sum.
    """

    name: str
    outputs: int
    loss: Loss
    weight: float = 1.0


def squared(said: Tensor, true: Tensor) -> Tensor:
    """Mean squared error."""
    return nn.functional.mse_loss(said[:, 0], true)


LIFE: Final = Head("life", 1, squared)


def weighted(heads: Sequence[Head], said: Tensor, true: Tensor) -> Tensor:
    """Sum of the heads' losses times their weights. What nobody knows teaches nothing.

    Args:
        heads: In order.
        said: float32[n, K], the heads' outputs beside each other.
        true: float32[n, H], a target a head; NaN = unknown.
    """
    total, begin = said.new_zeros(()), 0
    for number, head in enumerate(heads):
        known = ~true[:, number].isnan()
        if known.any():
            own = said[known, begin : begin + head.outputs]
            total = total + head.weight * head.loss(own, true[known, number])
        begin += head.outputs
    return total
