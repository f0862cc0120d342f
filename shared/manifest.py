"""What a model is, needs and promises: the manifest that travels inside its artifact."""

from typing import Annotated, Final, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import Misconfigured, Rejected
from shared.names import ID_PATTERN
from shared.states import MAX_LEVELS, StateSpec, Teacher
from shared.windows import MARGIN_SINCE, STATES_SINCE, GridSpec, Operating

SCHEMA_VERSION: Final = 1
SENSORS_MAX: Final = 1024
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Id = Annotated[str, Field(pattern=rf"^{ID_PATTERN}$")]
Part = TypeVar("Part", bound=BaseModel)


def read_part(kind: type[Part], name: str, data: bytes) -> Part:
    """A JSON part of an artifact. Raises Rejected, naming part and field, for anything that is not one."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the whole"
        raise Rejected(f"{name}: {where}: {first['msg']}") from error


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SensorSpec(_Part):
    """One column of the model's input, in its order."""

    name: str = Field(min_length=1, max_length=200)
    unit: str = Field(max_length=40)
    low: float = Field(description="smallest value in the training rows, engineering units")
    high: float = Field(description="largest value in the training rows, engineering units")
    learnt: bool = Field(description="False where the sensor never moved in training: it is not judged")
    required: bool = True


class GridFields(_Part):
    """The grid of `shared.windows`."""

    step_us: int = Field(gt=0)
    window: int = Field(gt=0, le=4096)
    hop: int = Field(default=1, gt=0)
    max_age: int = Field(ge=0)
    lateness: int = Field(ge=0)
    mask_limit: float = Field(ge=0, le=1)


class OperatingFields(_Part):
    """Which operating points were learnt: `shared.windows.Operating`."""

    sensor: str
    low: float
    high: float
    settle: int = Field(ge=0)
    below: float = Field(default=0.0, ge=0)
    above: float = Field(default=0.0, ge=0)
    leave: int = Field(default=1, ge=1)

    @property
    def plain(self) -> bool:
        """Whether it says nothing that the first version of the preparation does not know."""
        return (self.below, self.above, self.leave) == (0.0, 0.0, 1)


class StateFields(_Part):
    """Which set-points were learnt: `shared.states.StateSpec`."""

    sensor: str
    off: float
    levels: tuple[tuple[float, float], ...] = Field(min_length=1, max_length=MAX_LEVELS)
    hysteresis: float = Field(ge=0)
    settle_us: int = Field(ge=0)
    taught: Teacher

    def spec(self) -> StateSpec:
        """As the grid takes it. Raises Misconfigured."""
        return StateSpec(self.sensor, self.off, self.levels, self.hysteresis, self.settle_us, self.taught)


class Calibration(_Part):
    """How the limit was found (`docs` of the models: limits)."""

    method: Literal["peaks-over-threshold", "conformal", "max-with-margin"]
    n_eff: float = Field(ge=0, description="calibration rows over max(W, decorrelation time)")
    rows: int = Field(ge=0)
    decorrelation: float = Field(gt=0, description="steps")
    alpha: float = Field(gt=0, lt=1, description="wanted share of alarming windows, from the budget")
    margin: float = Field(gt=0, description="factor over max(calibration); 1 where a tail was fitted")
    budget_month: float = Field(gt=0, description="false episodes a machine-month that the limit was set for")
    persistence_m: int = Field(ge=1)
    persistence_n: int = Field(ge=1)
    calm_windows: int | None = Field(
        default=None, ge=1, description="calm windows in a row that end an anomaly; null: persistence_n"
    )
    calm_level: float = Field(
        default=1.0, gt=0, le=1, description="share of the limit up to which a window is calm"
    )


class TrainingData(_Part):
    """Which rows the model saw."""

    first_us: int
    last_us: int
    rows: int = Field(ge=0, description="cells of the grid")
    windows: int = Field(ge=0, description="windows full enough to train on")
    sha256: Sha256 = Field(description="hash of the cells")
    excluded: dict[str, int] = Field(default_factory=dict, description="windows left out, by reason")
    labels_as_of_us: int | None = None


class RuntimeNeeds(_Part):
    """What runs it."""

    opset: int = Field(gt=0)
    onnxruntime: str
    dtype: Literal["float64->float32"]
    architectures_tested: tuple[str, ...]


class Manifest(_Part):
    """A model's manifest. Frozen, unknown fields are errors, its JSON is canonical.

    `provisional` is True where calibration was too short for the wanted rate of false episodes: the limit then is
    the largest calibration score times a margin, a stand-in until more rows have been seen.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    onnx_sha256: Sha256
    probe_sha256: Sha256
    preparation_version: int
    preparation_sha256: Sha256
    parent: Sha256 | None = None
    purpose: Literal["anomaly"] = "anomaly"
    method: str
    machine_type: Id
    machines: tuple[Id, ...] = Field(min_length=1)
    sensors: tuple[SensorSpec, ...] = Field(min_length=1, max_length=SENSORS_MAX)
    grid: GridFields
    operating: OperatingFields | None = None
    states: StateFields | None = None
    limit: float = Field(gt=0, description="of the score; an alarm is a score above it")
    calibration: Calibration
    provisional: bool
    training: TrainingData
    seed: int
    code_sha: str | None = None
    lock_sha256: Sha256 | None = None
    run_sha256: Sha256 | None = Field(default=None, description="of the training run's description")
    metrics: dict[str, float] = Field(default_factory=dict)
    runtime: RuntimeNeeds
    p99_ms: float | None = None
    rss_mb: float | None = None
    created_us: int
    expires_us: int | None = None
    author: str
    approver: str | None = None

    @model_validator(mode="after")
    def _sensors_differ(self) -> "Manifest":
        if len({sensor.name for sensor in self.sensors}) != len(self.sensors):
            raise ValueError("two sensors have the same name")
        if self.operating is not None and self.operating.sensor not in self.sensor_names:
            raise ValueError("the operating sensor is not among the sensors")
        if (
            self.operating is not None
            and not self.operating.plain
            and self.preparation_version < MARGIN_SINCE
        ):
            raise ValueError("a range has a margin only from version 3 of the preparation on")
        if self.states is not None:
            if self.states.sensor not in self.sensor_names:
                raise ValueError("the sensor of the states is not among the sensors")
            if self.operating is not None or self.preparation_version < STATES_SINCE:
                raise ValueError("states stand alone, and only from version 2 of the preparation on")
            try:
                self.states.spec()
            except Misconfigured as error:
                raise ValueError(str(error)) from error
        return self

    @property
    def sensor_names(self) -> tuple[str, ...]:
        """Names of the input columns, in order."""
        return tuple(sensor.name for sensor in self.sensors)

    def grid_spec(self) -> GridSpec:
        """The grid that feeds this model."""
        grid, point = self.grid, self.operating
        return GridSpec(
            self.sensor_names,
            grid.step_us,
            grid.window,
            grid.max_age,
            grid.lateness,
            grid.mask_limit,
            None if point is None else Operating(**point.model_dump()),
            None if self.states is None else self.states.spec(),
        )

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, no spaces, UTF-8. A field that earlier releases don't know is there if it says something."""
        unsaid: dict[str, bool | set[str]] = {"states": True} if self.states is None else {}
        if self.operating is not None and self.operating.plain:
            unsaid["operating"] = {"below", "above", "leave"}
        if self.calibration.calm_windows is None:
            unsaid["calibration"] = {"calm_windows", "calm_level"}
        if self.run_sha256 is None:
            unsaid["run_sha256"] = True
        return orjson.dumps(self.model_dump(mode="json", exclude=unsaid), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_json(cls, data: bytes) -> "Manifest":
        """Read a manifest. Raises Rejected, naming the field, for anything that is not one."""
        return read_part(cls, "manifest", data)
