"""Where the training of a network keeps how far it came, so that one that is killed goes on. Only numpy.

A file a training, named by a hash of all that decides what comes out of it: the SHA-256 of what follows, then an npz of
plain arrays, one of which is JSON. Nothing in a file is ever unpickled, so a damaged or forged one can only be refused.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import orjson
import structlog

from shared import durable
from shared.errors import Rejected

log = structlog.get_logger()

SUFFIX: Final = ".checkpoint"
FACTS: Final = "facts"
BYTES_MAX: Final = 64 << 20
"""Of a file: a larger state is not kept."""
FILES_MAX: Final = 8
"""Files of trainings that nobody took up again; the oldest are removed."""
_DIGEST: Final = 32


@dataclass(frozen=True)
class State:
    """How far a training came: plain arrays, and what is JSON."""

    arrays: Mapping[str, npt.NDArray[Any]]
    facts: Mapping[str, Any]


class Keep(Protocol):
    """Keeps the states of trainings by key. What goes wrong here never ends a training: it is told."""

    def load(self, key: str, /) -> State | None:
        """The last state saved; None: there is none that can be used."""
        ...

    def save(self, key: str, state: State, /) -> None:
        """Take the place of the last state, whole or not at all."""
        ...

    def resumed(self, key: str, epoch: int, /) -> None:
        """The state was taken up: the training goes on after `epoch`."""
        ...

    def refused(self, key: str, reason: str, /) -> None:
        """The state is of no use: the training begins anew."""
        ...


class Unkept:
    """Keeps nothing."""

    def load(self, key: str, /) -> State | None:
        """Nothing."""

    def save(self, key: str, state: State, /) -> None:
        """Nothing."""

    def resumed(self, key: str, epoch: int, /) -> None:
        """Nothing."""

    def refused(self, key: str, reason: str, /) -> None:
        """Nothing."""


class Checkpoints:
    """A `Keep` of files in a folder, of one run's trainings: `done` removes them. One process at a time has a folder."""

    def __init__(self, folder: Path, say: Callable[[str], None] = lambda _: None) -> None:
        self._folder, self._say = folder, say
        self._touched: set[str] = set()

    def load(self, key: str, /) -> State | None:
        """See `Keep`."""
        self._touched.add(key)
        path = self._path(key)
        try:
            if path.stat().st_size > BYTES_MAX:
                self.refused(key, f"it is larger than {BYTES_MAX} bytes")
                return None
            return unpack(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            self.refused(key, str(error))
        except Rejected as error:
            self.refused(key, error.reason)
        return None

    def save(self, key: str, state: State, /) -> None:
        """See `Keep`; durable when this returns."""
        self._touched.add(key)
        data = pack(state)
        if len(data) > BYTES_MAX:
            self._unwritten(f"its {len(data)} bytes are more than {BYTES_MAX}")
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            durable.replace(self._path(key), data)
            self._bound()
        except OSError as error:
            self._unwritten(str(error))

    def resumed(self, key: str, epoch: int, /) -> None:
        """See `Keep`."""
        log.info("training goes on from its checkpoint", key=key, epoch=epoch)
        self._say(f"goes on from its checkpoint after epoch {epoch}")

    def refused(self, key: str, reason: str, /) -> None:
        """See `Keep`."""
        log.warning("a checkpoint can't be used", key=key, reason=reason)
        self._say(f"its checkpoint can't be used, so it begins anew: {reason}")

    def done(self) -> None:
        """What was trained is kept elsewhere: remove the files of this run."""
        for key in self._touched:
            self._path(key).unlink(missing_ok=True)
        self._touched.clear()

    def _unwritten(self, reason: str) -> None:
        log.warning("no checkpoint could be written", folder=str(self._folder), reason=reason)
        self._say(f"no checkpoint could be written, training goes on without: {reason}")

    def _bound(self) -> None:
        """Remove the oldest beyond FILES_MAX, and what killed writers left."""
        files = sorted(self._folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
        for path in [*files[:-FILES_MAX], *self._folder.glob(f"*{SUFFIX}{durable.PART}")]:
            path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{SUFFIX}"


def pack(state: State) -> bytes:
    """A state's bytes."""
    facts = np.frombuffer(orjson.dumps(dict(state.facts)), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{FACTS: facts, **state.arrays})
    body = buffer.getvalue()
    return hashlib.sha256(body).digest() + body


def unpack(data: bytes) -> State:
    """The state in bytes. Raises Rejected (they are not what `pack` made)."""
    digest, body = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        raise Rejected("it is damaged: its hash is another one")
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as file:
            if sum(entry.file_size for entry in file.infolist()) > BYTES_MAX:
                raise Rejected(f"it holds more than {BYTES_MAX} bytes")
        with np.load(io.BytesIO(body), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        facts = orjson.loads(arrays.pop(FACTS).tobytes())
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise Rejected(f"it can't be read: {error}") from error
    if not isinstance(facts, dict):
        raise Rejected("its facts are no table")
    return State(arrays, facts)
