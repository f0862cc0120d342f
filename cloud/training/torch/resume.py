"""A network's training between two epochs: what the next one depends on, as a state that can be kept and taken up again."""

import hashlib
import math
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import torch
from torch import Tensor, nn

from cloud.training.checkpoints import Keep, State
from cloud.training.learning import Learning
from shared.errors import Rejected

CURVES: Final = ("train_loss", "validation_loss", "learning_rate")
_MOMENTS: Final = ("step", "exp_avg", "exp_avg_sq")  # what AdamW knows of a parameter


@dataclass
class Training:
    """Everything that the next epoch depends on, the examples apart. `best` is the best epoch's network."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    random: torch.Generator
    best: dict[str, Tensor]
    curves: dict[str, list[float]]

    @property
    def epochs(self) -> int:
        """How many are done."""
        return len(self.curves["validation_loss"])

    def over(self, learning: Learning) -> bool:
        """Whether no epoch is to come: all are done, or the last ones gained nothing."""
        losses = self.curves["validation_loss"]
        stale = len(losses) - int(np.argmin(losses)) if losses else 0
        return len(losses) >= learning.epochs or stale > learning.patience


def key_of(training: Training, examples: Iterable[npt.NDArray[Any]], seed: int, said: Sequence[Any]) -> str:
    """Hash of all that decides what a training that has not begun comes to, as hexadecimal digits.

    The network's first weights stand for its shape; `said` is JSON for what else there is. Another release of torch,
    another architecture and other code train otherwise.
    """
    parts = [torch.__version__, platform.machine(), code_hash(), repr(training.network), seed, *said]
    found = hashlib.sha256(orjson.dumps(parts))
    for array in (*examples, *(value.numpy() for value in training.network.state_dict().values())):
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


@cache
def code_hash() -> str:
    """Of the files that train."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def state_of(training: Training) -> State:
    """The state after an epoch."""
    arrays = {f"network.{name}": value for name, value in training.network.state_dict().items()}
    arrays |= {f"best.{name}": value for name, value in training.best.items()}
    for number, moments in training.optimiser.state_dict()["state"].items():
        arrays |= {f"optimiser.{number}.{name}": moments[name] for name in _MOMENTS}
    arrays["random"] = training.random.get_state()
    [group] = training.optimiser.param_groups
    facts = {
        "curves": training.curves,
        "steps": training.schedule.last_epoch,
        "lr": float(group["lr"]),
        "betas": [float(beta) for beta in group["betas"]],
    }
    return State({name: value.detach().numpy() for name, value in arrays.items()}, facts)


def go_on(training: Training, keep: Keep, key: str, learning: Learning) -> None:
    """Take up what `keep` has of a training that has not begun, if that is of use."""
    state = keep.load(key)
    if state is None:
        return
    try:
        take_up(training, state, learning)
    except Rejected as error:
        keep.refused(key, error.reason)
        return
    keep.resumed(key, training.epochs)


def take_up(training: Training, state: State, learning: Learning) -> None:
    """Bring a training that has not begun to where a state left it. Raises Rejected, and then nothing is changed."""
    network = training.network.state_dict()
    weights = [value for _, value in training.network.named_parameters()]
    wanted = {f"{part}.{name}": value for name, value in network.items() for part in ("network", "best")}
    for number, value in enumerate(weights):
        for name in _MOMENTS:
            wanted[f"optimiser.{number}.{name}"] = torch.zeros(()) if name == "step" else value
    wanted["random"] = training.random.get_state()
    given = {name: torch.from_numpy(np.array(value)) for name, value in _plain(state).items()}
    if given.keys() != wanted.keys() or any(
        (given[name].shape, given[name].dtype) != (value.shape, value.dtype) for name, value in wanted.items()
    ):
        raise Rejected("it is of another network")
    curves, steps, rate, betas = _facts(state, learning)
    try:
        torch.Generator().set_state(given["random"])
    except RuntimeError as error:
        raise Rejected("its random numbers can't go on") from error

    training.network.load_state_dict({name: given[f"network.{name}"] for name in network})
    training.best.clear()
    training.best.update({name: given[f"best.{name}"] for name in network})
    held = training.optimiser.state_dict()
    held["state"] = {
        number: {name: given[f"optimiser.{number}.{name}"] for name in _MOMENTS}
        for number in range(len(weights))
    }
    held["param_groups"][0] |= {"lr": rate, "betas": betas}
    training.optimiser.load_state_dict(held)
    training.schedule.load_state_dict({"last_epoch": steps, "_step_count": steps + 1, "_last_lr": [rate]})
    training.random.set_state(given["random"])
    for name in CURVES:
        training.curves[name][:] = curves[name]


def _plain(state: State) -> dict[str, npt.NDArray[Any]]:
    """The arrays, if torch knows their kinds."""
    for value in state.arrays.values():
        if value.dtype not in (np.float32, np.float64, np.int64, np.uint8, np.bool_):
            raise Rejected(f"an array of {value.dtype} is none of a network's")
    return dict(state.arrays)


def _facts(
    state: State, learning: Learning
) -> tuple[dict[str, list[float]], int, float, tuple[float, float]]:
    """Curves of equal length, steps, learning rate and betas. Raises Rejected."""
    try:
        curves = {name: [float(value) for value in state.facts["curves"][name]] for name in CURVES}
        steps, rate = int(state.facts["steps"]), float(state.facts["lr"])
        first, second = (float(beta) for beta in state.facts["betas"])
    except (KeyError, TypeError, ValueError) as error:
        raise Rejected(f"its facts are not a training's: {error}") from error
    count = len(curves["validation_loss"])
    numbers = [rate, first, second, *(value for curve in curves.values() for value in curve)]
    if not (
        0 < count <= learning.epochs
        and all(len(curve) == count for curve in curves.values())
        and all(math.isfinite(value) for value in numbers)
        and steps > 0
    ):
        raise Rejected("its facts are not a training's")
    return curves, steps, rate, (first, second)
