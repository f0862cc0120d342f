"""What trainers and those who start them share: the job, the lock that lets one work at a time, how far they came."""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from industrialmind.plant import DataDir, write_private
from shared.eventlog import Position

LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Job:
    """What a trainer is to do.

    Attributes:
        machines: To train; all if empty.
        missing: Only those of them that no model is promoted for.
        reconcile: None of them; only bring MLflow and the edges to what the log says.
        due: Only those of them that a training is due for; it is looked at why they look different.
        deliver: The better candidate takes the champion's place with no contest: an engineer's word.
        rebaseline: A new baseline, of the rows since the last maintenance: a person's word too.
        models: Names of the methods to fit, as `--model` takes them; those that are fitted unasked if empty.
        settings: NAME=VALUE, as `--set` takes them (`cloud.training.run`).
        search: How many settings to try out beside them (`cloud.training.search`).
        tensorboard: Folder that TensorBoard's event files go to, if any.
        wandb: Folder that offline runs of Weights & Biases go to, if any.
    """

    machines: Sequence[str] = ()
    missing: bool = False
    reconcile: bool = False
    due: bool = False
    deliver: bool = False
    rebaseline: bool = False
    models: Sequence[str] = ()
    settings: Sequence[str] = ()
    search: int = 0
    tensorboard: Path | None = None
    wandb: Path | None = None


@asynccontextmanager
async def trainer_lock(data: DataDir, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Hold DATA/trainer.lock, as whoever trains or writes into MLflow must; a dead holder has let go of it.

    `waiting` is called once if another has it, which is waited for.
    """
    with data.trainer_lock.open("a") as file:
        told = False
        while not _taken(file.fileno()):
            if not told:
                waiting()
                told = True
            await asyncio.sleep(LOOK_SECONDS)  # another process holds it: nothing tells when it ends
        yield


def trainer_works(data: DataDir) -> bool:
    """Whether a process holds the lock now."""
    with data.trainer_lock.open("a") as file:
        return not _taken(file.fileno())


def _taken(descriptor: int) -> bool:
    """Whether the lock is ours now; it ends with the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_reconciled(data: DataDir, position: Position | None) -> None:
    """Note, whole or not at all, through which position MLflow and the edges agree with the log.

    None: a trainer is about to write into MLflow. If it dies, that is what is found.
    """
    written = None if position is None else dict(position)
    write_private(data.reconciled, orjson.dumps({"position": written}).decode())


def read_reconciled(data: DataDir) -> Position | None:
    """The position of the last reconciliation, empty if no trainer ever worked, None if the last one did not end."""
    try:
        position: Position | None = orjson.loads(data.reconciled.read_bytes())["position"]
    except FileNotFoundError:
        return {}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return position
