"""Models on the edge's own disk: whole, checked and ready before anything trusts them.

A model is a file named by its sha256; `{machine}.json` beside it says which one runs and which ran before. Files
appear by rename, so that a crash leaves the old or the new one, and what is half-written fails its hash.
"""

import threading
from pathlib import Path
from typing import Final

import orjson
import structlog

from shared.durable import replace
from shared.errors import Rejected
from shared.loaded import Desired, LoadedModel, load_model

log = structlog.get_logger()


SHADOW: Final = ".shadow"
"""After a machine's id: the slot of its model on trial. No id has a dot."""


class ModelFolder:
    """The models of one edge on disk: those that were tried in a child when they came, and so are loaded without."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changing = threading.Lock()  # else one call takes for left over what another has just written
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, machine: str, desired: Desired, data: bytes) -> None:
        """Make the model the machine's current one, the old one its fallback. Raises OSError (disk full)."""
        with self._changing:
            old = self._chosen(machine)
            previous = [each.to_dict() for each in old if each.sha256 != desired.sha256][:1]
            replace(self._blob(desired.sha256), data)
            replace(self._record(machine), orjson.dumps({"models": [desired.to_dict(), *previous]}))
            self._prune()

    def forget(self, slot: str) -> None:
        """Nothing is to run in this slot any more."""
        with self._changing:
            self._record(slot).unlink(missing_ok=True)
            self._prune()

    def kept(self, desired: Desired) -> tuple[LoadedModel, bytes] | None:
        """This model, if it is on disk and whole: it runs in some slot, or ran before, so nobody needs to send or try it again."""
        try:
            data = self._blob(desired.sha256).read_bytes()
            return load_model(desired, data), data
        except (OSError, Rejected):
            return None

    def load(self, machine: str) -> tuple[LoadedModel | None, list[str]]:
        """The newest model of the machine that is whole, and what was wrong with those passed over."""
        problems: list[str] = []
        for desired in self._chosen(machine):
            try:
                return load_model(desired, self._blob(desired.sha256).read_bytes()), problems
            except (OSError, Rejected) as error:
                problems.append(f"{desired.model} version {desired.version} on disk: {error}")
        return None, problems

    def _chosen(self, machine: str) -> list[Desired]:
        try:
            raw = orjson.loads(self._record(machine).read_bytes())
            return [Desired.of(each) for each in raw["models"]]
        except FileNotFoundError:
            return []
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            log.warning("the record of a machine's models can't be read", machine=machine, error=str(error))
            return []

    def _blob(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.model"

    def _record(self, machine: str) -> Path:
        return self._folder / f"{machine}.json"

    def _prune(self) -> None:
        kept = {d.sha256 for record in self._folder.glob("*.json") for d in self._chosen(record.stem)}
        for blob in self._folder.glob("*.model"):
            if blob.stem not in kept:
                blob.unlink()
