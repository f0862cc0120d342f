"""How networks are trained: the figures of AdamW and of stopping early. Plain values: reading them needs no torch."""

from dataclasses import dataclass
from typing import Final

BATCH: Final = 32
EPOCHS: Final = 16
PATIENCE: Final = 4
RATE: Final = 5e-3
DECAY: Final = 1e-3


@dataclass(frozen=True)
class Learning:
    """What a person may turn of a network's training.

    Attributes:
        batch: Windows a step.
        epochs: At most so many passes over the training windows.
        patience: It stops after so many epochs that the validation windows gained nothing by.
        learning_rate: Of AdamW; the one cycle's top is twice this.
        weight_decay: Of AdamW.
    """

    batch: int = BATCH
    epochs: int = EPOCHS
    patience: int = PATIENCE
    learning_rate: float = RATE
    weight_decay: float = DECAY


@dataclass(frozen=True)
class Transformer:
    """How large the Transformer autoencoder is.

    Attributes:
        patch: Cells from one patch to the next; a patch is twice as long.
        width: Values a patch; a multiple of heads.
        heads: Of the attention.
        layers: Blocks of attention and a dense layer, one after the other.
    """

    patch: int = 4
    width: int = 16
    heads: int = 2
    layers: int = 1
