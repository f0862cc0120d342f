"""Models on the edge's own disk: whole, checked and ready before anything trusts them.

A model is a file named by its sha256; `{machine}.json` beside it says which one runs and which ran before. Files
appear by rename, so that a crash leaves the old or the new one, and what is half-written fails its hash.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog

from shared.artifact import unpack
from shared.errors import Rejected
from shared.manifest import Manifest
from shared.onnxruntime import Scorer

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Desired:
    """What an edge is to run for a machine."""

    model: str
    version: int
    object_name: str
    sha256: str

    @classmethod
    def parse(cls, data: bytes) -> "Desired":
        """From the desired state's JSON. Raises Rejected."""
        try:
            raw = orjson.loads(data)
            return cls.of(raw)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise Rejected(f"the desired state can't be read: {error}") from error

    @classmethod
    def of(cls, raw: dict[str, Any]) -> "Desired":
        """From its parsed JSON. Raises KeyError, TypeError, ValueError."""
        sha256 = str(raw["sha256"])
        if len(bytes.fromhex(sha256)) != 32:  # noqa: PLR2004 - SHA-256
            raise ValueError("sha256 is not one")
        return cls(str(raw["model"]), int(raw["version"]), str(raw["object"]), sha256.lower())

    def to_dict(self) -> dict[str, Any]:
        """Its JSON."""
        return {
            "model": self.model,
            "version": self.version,
            "object": self.object_name,
            "sha256": self.sha256,
        }


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that was read whole, loaded and has passed its own test."""

    desired: Desired
    scorer: Scorer

    @property
    def manifest(self) -> Manifest:
        """What it is and needs."""
        return self.scorer.manifest


def load_model(desired: Desired, data: bytes) -> LoadedModel:
    """Check, load and test a model's bytes. Takes some ms. Raises Rejected."""
    artifact = unpack(data, expected_hash=desired.sha256)
    scorer = Scorer(artifact)
    scorer.self_test()
    return LoadedModel(desired, scorer)


class ModelFolder:
    """The models of one edge on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, machine: str, desired: Desired, data: bytes) -> None:
        """Make the model the machine's current one, the old one its fallback. Raises OSError (disk full)."""
        old = self._chosen(machine)
        previous = [each.to_dict() for each in old if each.sha256 != desired.sha256][:1]
        _write(self._blob(desired.sha256), data)
        _write(self._record(machine), orjson.dumps({"models": [desired.to_dict(), *previous]}))
        self._prune()

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


def _write(path: Path, data: bytes) -> None:
    """Replace a file by rename, durable when this returns."""
    temporary = path.with_name(f"{path.name}.part")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
