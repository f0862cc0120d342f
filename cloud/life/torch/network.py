"""The network: a Transformer's block over a unit's newest rows, then an LSTM, told what the trees are told as well."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from cloud.life.torch.heads import LIFE, Head, weighted
from cloud.training.torch.attention import Attention
from shared.windows import Floats

Singles = npt.NDArray[np.float32]

BATCH: Final = 128
EPOCHS: Final = 15
PATIENCE: Final = 4
RATE: Final = 5e-3
DECAY: Final = 1e-2
DROPOUT: Final = 0.1
WIDTH: Final = 32
HEADS: Final = 4
HIDDEN: Final = 64
UNHEARD: Final = -1e4  # added to what attention gives rows before a unit's first
CHUNK: Final = 1024


class TransformerLstm(nn.Module):
    """Attention tells rows of a window by what is in them, the LSTM reads them in order; its last state is heard.

    The summary (levels and slopes of the whole history) joins at the heads: a window knows nothing of what was before it.
    """

    def __init__(self, channels: int, rows: int, summary: int, heads: Sequence[Head] = (LIFE,)) -> None:
        super().__init__()
        self.embed = nn.Linear(channels, WIDTH)
        self.place = nn.Parameter(0.02 * torch.randn(rows, WIDTH))
        self.first_norm = nn.LayerNorm(WIDTH)
        self.attention = Attention(WIDTH, HEADS)
        self.second_norm = nn.LayerNorm(WIDTH)
        self.wide = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.drop = nn.Dropout(DROPOUT)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH + summary, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, head.outputs))
            for head in heads
        )

    def forward(self, window: Tensor, summary: Tensor) -> Tensor:
        """float32[n, K], what the heads say beside each other. Life is a share of the target's scale.

        Args:
            window: float32[n, W, C], oldest row first; the last channel says which rows are there.
            summary: float32[n, S].
        """
        tokens = self.embed(window) + self.place
        unheard = (1 - window[:, None, None, :, -1]) * UNHEARD
        tokens = tokens + self.drop(self.attention(self.first_norm(tokens), unheard))
        tokens = tokens + self.drop(self.wide(self.second_norm(tokens)))
        states, _ = self.lstm(tokens)
        read = self.drop(torch.cat([states[:, -1], summary], dim=1))
        return torch.cat([head(read) for head in self.heads], dim=1)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Rows as the network takes them: windows float32[n, W, C] and summaries float32[n, S]."""

    window: Singles
    summary: Singles

    def dataset(self, target: Floats) -> TensorDataset:
        """For torch, beside float64[n, H] targets, a column a head; NaN = unknown."""
        return TensorDataset(
            torch.from_numpy(self.window),
            torch.from_numpy(self.summary),
            torch.from_numpy(target.astype(np.float32)),
        )


@dataclass(frozen=True, eq=False)
class Curves:
    """By epoch: weighted losses in training and on units that stop it, and the learning rate."""

    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    learning_rate: tuple[float, ...]


def train(
    known: TensorDataset, held: TensorDataset, seed: int, heads: Sequence[Head] = (LIFE,)
) -> tuple[TransformerLstm, Curves]:
    """Train on the ones, stop early by the others; the best epoch's network. The same arguments give the same network.

    AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019) and one cycle of the learning rate.
    """
    random = torch.Generator().manual_seed(seed)
    window, summary, _ = known.tensors
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TransformerLstm(window.shape[2], window.shape[1], summary.shape[1], heads)
        order = BatchSampler(RandomSampler(known, generator=random), BATCH, drop_last=False)
        loader = DataLoader(known, sampler=order, batch_size=None, generator=random)
        optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=EPOCHS * len(order))
        best = {name: value.clone() for name, value in network.state_dict().items()}
        losses, held_losses, rates = list[float](), list[float](), list[float]()
        for _ in range(EPOCHS):
            rates.append(float(schedule.get_last_lr()[0]))
            losses.append(_epoch(network, heads, loader, optimiser, schedule))
            now = _loss_of(network, heads, held)
            if now < min(held_losses, default=math.inf):
                best = {name: value.clone() for name, value in network.state_dict().items()}
            held_losses.append(now)
            if len(held_losses) - int(np.argmin(held_losses)) > PATIENCE:
                break
    network.load_state_dict(best)
    return network.eval(), Curves(tuple(losses), tuple(held_losses), tuple(rates))


def _epoch(
    network: TransformerLstm,
    heads: Sequence[Head],
    loader: "DataLoader[tuple[Tensor, ...]]",
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.OneCycleLR,
) -> float:
    network.train()
    losses = []
    for window, summary, target in loader:
        loss = weighted(heads, network(window, summary), target)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses))


@torch.no_grad()
def _loss_of(network: TransformerLstm, heads: Sequence[Head], held: TensorDataset) -> float:
    network.eval()
    window, summary, target = held.tensors
    return weighted(heads, network(window, summary), target).item()


@torch.no_grad()
def answers(network: TransformerLstm, inputs: Inputs) -> Floats:
    """float64[n, K], what the heads say beside each other."""
    parts = [
        network(
            torch.from_numpy(inputs.window[at : at + CHUNK]),
            torch.from_numpy(inputs.summary[at : at + CHUNK]),
        )
        for at in range(0, len(inputs.window), CHUNK)
    ]
    return torch.cat(parts).numpy().astype(np.float64) if parts else np.zeros((0, 1))
