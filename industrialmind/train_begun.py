"""Training runs that have begun: what a run that is begun again needs to be the same one.

A run's now decides its rows and labels, so it is noted; a trainer that is killed and asked again takes the noted one, finds
the same rows, and its networks go on from their checkpoints. A run that is done leaves nothing here.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from cloud.training.checkpoints import Checkpoints
from cloud.training.run import Choice
from shared import durable
from shared.artifact import sha256
from shared.errors import Rejected

RESUMED_US: Final = 6 * 3_600_000_000
"""A run that began longer ago is not taken up: its rows are old."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a trainer is asked to do for a machine; a run is taken up by an equal one.

    Attributes:
        machine: Its id.
        choice: Methods and settings.
        why: A first model, an operator's wish and so on.
        champion: Version hash of the model that is there.
        clusters: As in `cloud.training.run.Run`.
        said: Hash of the stretches that people judged, and of maintenance: a word more, and it is another run.
    """

    machine: str
    choice: Choice
    why: str
    champion: str | None = None
    clusters: bool = False
    said: str = ""

    def sha256(self) -> str:
        """Hash of all of it."""
        return sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS))


@dataclass(frozen=True)
class Begun:
    """A run at work: its now, what keeps its networks' states, and the file of its search for settings."""

    now_us: int
    keep: Checkpoints
    study: Path


@contextmanager
def begun(
    folder: Path, order: Order, now_us: int, tell: Callable[[Mapping[str, Any]], None]
) -> Iterator[Begun]:
    """Begin a run, or take up the one that an equal order began. Raises OSError (the folder can't be written).

    Left in peace or with Rejected it is done; anything else may be taken up again.
    """

    def say(what: str) -> None:
        tell({"event": "checkpoint", "machine": order.machine, "says": what})

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path, study = folder / f"{order.machine}.json", folder / f"{order.machine}.study.db"
    since_us = _noted(path, order)
    if since_us is None or not 0 <= now_us - since_us <= RESUMED_US:
        since_us = now_us
        study.unlink(missing_ok=True)
        durable.replace(path, orjson.dumps({"order": order.sha256(), "now_us": now_us}))
    keep = Checkpoints(folder, say)
    try:
        yield Begun(since_us, keep, study)
    except Rejected:
        _end(keep, path, study)
        raise
    _end(keep, path, study)


def _end(keep: Checkpoints, *files: Path) -> None:
    keep.done()
    for file in files:
        file.unlink(missing_ok=True)


def _noted(path: Path, order: Order) -> int | None:
    """The now of a run that this order began; None: there is none, or it can't be read."""
    try:
        noted = orjson.loads(path.read_bytes())
        return int(noted["now_us"]) if noted["order"] == order.sha256() else None
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
