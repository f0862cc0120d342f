"""What a life model is, needs and promises: the manifest that travels inside its artifact."""

from typing import Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from shared.manifest import SENSORS_MAX, Id, Sha256, read_part

SCHEMA_VERSION: Final = 1
PREPARATION_VERSION: Final = 1
"""Of `cloud.life.features` and `cloud.life.conditions`: what they make of the same rows."""

INTERVALS: Final = "conformal on held-out units, near in predicted life"


class RunningRule(BaseModel):
    """A machine runs while the mean of this sensor is above `off`, in the sensor's unit."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sensor: str = Field(min_length=1)
    off: float


class LifeManifest(BaseModel):
    """A life model's manifest. Frozen, unknown fields are errors, its JSON is canonical.

    `provisional`: too few units for an honest 95 % interval: each of its ends leaves out one unit in forty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Literal[1] = SCHEMA_VERSION
    purpose: Literal["life"] = "life"
    onnx_sha256: Sha256
    probe_sha256: Sha256
    preparation_version: Literal[1] = PREPARATION_VERSION
    preparation_sha256: Sha256 = Field(description="of what was learnt of set-points, features and intervals")
    method: str
    machines: tuple[Id, ...] = Field(min_length=1)
    sensors: tuple[str, ...] = Field(min_length=1, max_length=SENSORS_MAX)
    failure_criterion: str = Field(min_length=1, max_length=200, description="what counts as failure")
    load_assumption: str = Field(min_length=1, max_length=200, description="the duty that is assumed")
    cycle_us: int = Field(gt=0, description="running time that a cycle of the histories is")
    step: float = Field(gt=0, description="cycles between two rows of a history")
    knee: float | None = Field(description="longest life that is told, cycles; null: none")
    interval_method: str = INTERVALS
    units: int = Field(gt=0, description="units that ran to failure")
    running_units: int = Field(
        0, ge=0, description="units that had not failed yet: they say how long units live"
    )
    running: RunningRule | None = Field(
        None, description="what tells that it runs and ages; null: any of its sensors speaks"
    )
    rows: int = Field(gt=0)
    rows_sha256: Sha256
    provisional: bool
    seed: int
    code_sha: str | None = None
    lock_sha256: Sha256 | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    opset: int
    onnxruntime: str
    created_us: int
    author: str

    @property
    def row_us(self) -> int:
        """Running time that a row of a history is."""
        return round(self.step * self.cycle_us)

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_json(cls, data: bytes) -> "LifeManifest":
        """Read a manifest. Raises Rejected, naming the field, for anything that is not one."""
        return read_part(cls, "manifest", data)
