"""Autoencoders that rebuild each sensor from the others: what they have in common, and how they are trained."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from cloud.training.autoencoder import Singles
from cloud.training.checkpoints import Keep, Unkept
from cloud.training.learning import Learning
from cloud.training.torch.resume import CURVES, Training, go_on, key_of, state_of
from shared.windows import Floats

DEAF: Final = 0.1  # chance that one of the other sensors is left out too, in training
CODES: Final = 24
VALIDATION: Final = 0.2  # of the training part, its end
THREADS: Final = 1  # the plant runs beside it
CHUNK: Final = 1024

Epoch = Callable[[int, Mapping[str, float]], None]
"""Is told of each epoch that ended, from 1 on, with its losses."""


@dataclass(frozen=True)
class Design:
    """What tells one autoencoder from another.

    Attributes:
        method: Its name among the methods.
        channels: C, how many values the first layer makes of a place in time.
        kernel: Cells that one place looks at.
        stride: Cells from one place to the next.
        trunk: For T places, the module that makes float32[m, C] of float32[m, C, T].
        constants: What else decides it, for the method's hash.
        settings: What of it a person turned, for the hash and the parameters.
    """

    method: str
    channels: int
    kernel: int
    stride: int
    trunk: Callable[[int], nn.Module]
    constants: Mapping[str, int | float] = field(default_factory=dict)
    settings: Mapping[str, int | float] = field(default_factory=dict)

    @property
    def said(self) -> tuple[Any, ...]:
        """As JSON, for what is told apart by it."""
        return self.method, dict(self.constants), dict(self.settings)


class Autoencoder(nn.Module):
    """Encoder: places in time, then the design's trunk, then a code narrower than the sensors. Decoder: dense.

    What the first layer makes of each sensor is kept apart, so that leaving a sensor out is a subtraction: one pass
    gives the S codes that know nothing of their own sensor.
    """

    def __init__(self, design: Design, sensors: int, window: int) -> None:
        super().__init__()
        self.sensors, self.channels = sensors, design.channels
        narrow = max(2, math.ceil(sensors / 2))
        margin = design.kernel // 2
        self.look = nn.Conv1d(
            2 * sensors,
            sensors * design.channels,
            design.kernel,
            stride=design.stride,
            padding=margin,
            groups=sensors,
            bias=False,
        )
        self.trunk = design.trunk((window + 2 * margin - design.kernel) // design.stride + 1)
        self.narrow = nn.Linear(design.channels, narrow)
        self.widen = nn.Linear(narrow, CODES)
        self.rebuild = nn.Parameter(torch.zeros(sensors, CODES, 2))
        self.rebuild_offset = nn.Parameter(torch.zeros(sensors, 2))
        with torch.no_grad():  # a sum over sensors, not a mean: as wide as one
            self.look.weight.mul_(math.sqrt(2.0 / sensors))

    def codes(self, cells: Tensor, there: Tensor, heard: Tensor | None = None) -> Tensor:
        """float32[n, S, H] codes of float32[n, S, W] cells and masks; `heard` float32[n, S] leaves out more sensors."""
        both = torch.stack([cells * there, there - 1], dim=2).flatten(1, 2)
        each = self.look(both)
        each = each.view(-1, self.sensors, self.channels, each.shape[2])
        if heard is not None:
            each = each * heard[:, :, None, None]
        others = each.sum(dim=1, keepdim=True) - each
        pooled = self.trunk(others.flatten(0, 1))
        wide = torch.tanh(self.widen(self.narrow(pooled)))
        return wide.view(-1, self.sensors, CODES)

    def forward(self, cells: Tensor, there: Tensor, heard: Tensor | None = None) -> Tensor:
        """float32[n, S, 2]: what the linear part leaves of each sensor's level and restlessness, rebuilt."""
        codes = self.codes(cells, there, heard).unsqueeze(2)
        return (codes @ self.rebuild).squeeze(2) + self.rebuild_offset


@dataclass(frozen=True)
class Examples:
    """Windows in order of time: cells and masks float32[n, S, W], targets float32[n, S, 2]."""

    cells: Singles
    there: Singles
    targets: Singles

    @property
    def arrays(self) -> tuple[Singles, ...]:
        """All of them."""
        return self.cells, self.there, self.targets

    def dataset(self, part: slice) -> TensorDataset:
        """A part of them for torch."""
        return TensorDataset(*(torch.from_numpy(a[part]) for a in self.arrays))


@contextmanager
def repeatable() -> Iterator[None]:
    """One thread and deterministic kernels, as it was before afterwards."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(mode=strict)


def train(
    design: Design,
    examples: Examples,
    gap: int,
    seed: int,
    learning: Learning,
    epoch: Epoch,
    keep: Keep | None = None,
) -> tuple[Autoencoder, dict[str, tuple[float, ...]]]:
    """Train on the first part of the windows, stop early by the last, `gap` windows later; the best epoch's network.

    AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019), one cycle of the learning rate,
    smooth L1 loss. What `keep` has of the same training is gone on from, to the same weights.

    Returns:
        The network, and `train_loss`, `validation_loss` and `learning_rate` by epoch.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Autoencoder(design, *examples.cells.shape[1:])
    cut = int(len(examples.cells) * (1 - VALIDATION))
    known = examples.dataset(slice(0, cut))
    held = examples.dataset(slice(cut + gap, None))
    order = BatchSampler(RandomSampler(known, generator=random), learning.batch, drop_last=False)
    loader = DataLoader(known, sampler=order, batch_size=None, generator=random)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=learning.learning_rate, weight_decay=learning.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 2 * learning.learning_rate, total_steps=learning.epochs * len(order)
    )
    training = Training(network, optimiser, schedule, random, _copy(network), {name: [] for name in CURVES})
    curves, keep = training.curves, keep or Unkept()
    key = key_of(training, examples.arrays, seed, [gap, asdict(learning), design.said])
    go_on(training, keep, key, learning)
    while not training.over(learning):
        curves["learning_rate"].append(float(schedule.get_last_lr()[0]))
        curves["train_loss"].append(_epoch(network, loader, optimiser, schedule, random))
        now = _loss_of(network, held)
        if now < min(curves["validation_loss"], default=math.inf):
            training.best = _copy(network)
        curves["validation_loss"].append(now)
        keep.save(key, state_of(training))
        epoch(training.epochs, {name: values[-1] for name, values in curves.items()})
    network.load_state_dict(training.best)
    return network.eval(), {name: tuple(values) for name, values in curves.items()}


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def _epoch(
    network: Autoencoder,
    loader: "DataLoader[tuple[Tensor, ...]]",
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.OneCycleLR,
    random: torch.Generator,
) -> float:
    network.train()
    losses = []
    for cells, there, targets in loader:
        heard = (torch.rand(cells.shape[:2], generator=random) > DEAF).float()
        loss = nn.functional.smooth_l1_loss(network(cells, there, heard), targets)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses))


@torch.no_grad()
def _loss_of(network: Autoencoder, held: TensorDataset) -> float:
    network.eval()
    cells, there, targets = held.tensors
    return nn.functional.smooth_l1_loss(network(cells, there), targets).item()


@torch.no_grad()
def codes_of(network: Autoencoder, cells: Singles, there: Singles) -> Floats:
    """float64[n, S, H] codes of float32[n, S, W] cells and masks."""
    parts = [
        network.codes(torch.from_numpy(cells[at : at + CHUNK]), torch.from_numpy(there[at : at + CHUNK]))
        for at in range(0, len(cells), CHUNK)
    ]
    return torch.cat(parts).numpy().astype(np.float64)
