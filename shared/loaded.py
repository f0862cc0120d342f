"""A model version that was asked for, and one that was read whole, checked and tested: the same for edge and cloud."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from shared.artifact import check_announced, unpack
from shared.errors import Rejected
from shared.machine_view import MachineView
from shared.manifest import Manifest
from shared.onnxruntime import Scorer, check_machine
from shared.trial import try_out

TRIAL_BYTES: Final = 1 << 30
"""Address space of the child that tries a model; Python with the runtime takes 170 MB of it."""


@dataclass(frozen=True, slots=True)
class Desired:
    """What is to run for a machine."""

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
    def shadow(cls, data: bytes) -> "Desired | None":
        """The model that is to run beside it on trial, by the same JSON; None = none. Raises Rejected."""
        try:
            raw = orjson.loads(data).get("shadow")
            return None if raw is None else cls.of(raw)
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise Rejected(f"the desired state's shadow can't be read: {error}") from error

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


Load = Callable[[Desired, bytes], LoadedModel]
"""Checks, loads and tests bytes that came: `load_model`, or `load_tried`. Raises Rejected, Unavailable."""


def load_model(desired: Desired, data: bytes) -> LoadedModel:
    """Check, load and test a model's bytes. Takes some ms. Raises Rejected."""
    artifact = unpack(data, expected_hash=desired.sha256)
    scorer = Scorer(artifact)
    scorer.self_test()
    return LoadedModel(desired, scorer)


def prove(data: bytes) -> None:
    """Load and test an artifact, and keep nothing of it: what a child does before its parent dares to. Raises Rejected."""
    Scorer(unpack(data)).self_test()


def load_tried(desired: Desired, data: bytes) -> LoadedModel:
    """`load_model` of bytes that were never loaded here: a child with resource limits does it first.

    Takes a second or two. Raises Rejected, Unavailable (no child can be started).
    """
    check_announced(data, desired.sha256)
    try_out(prove, data, address_bytes=TRIAL_BYTES)
    return load_model(desired, data)


def fits(model: LoadedModel, machine: str, view: MachineView, *, settled: bool) -> bool:
    """Whether the machine feeds the model; False while too little was seen of it to say.

    `settled`: it was watched long enough for a sensor that did not speak to count as missing. Raises Rejected: the
    model is another machine's, or sensors are missing, have another unit or are too slow for it.
    """
    manifest = model.manifest
    if machine not in manifest.machines:
        raise Rejected(f"the model is for {', '.join(manifest.machines)}, not for {machine}")
    if view.arrival_us is None:
        return False
    needed = [sensor.name for sensor in manifest.sensors if sensor.required]
    intervals = [view.sensors[name].interval_us for name in needed if name in view.sensors]
    known = [interval for interval in intervals if interval is not None]
    if not settled and len(known) < len(needed):
        return False
    check_machine(manifest, view.units(), max(known, default=None))
    return True
