"""What is posted to be told a remaining life, and what is answered."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.manifest import SENSORS_MAX, Id, Sha256

MOST_ROWS = 20_000
MOST_CELLS = 500_000
Value = Annotated[float, Field(allow_inf_nan=False)]


class LifeRequest(BaseModel):
    """A history since the last renewal, in the model's cycles."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    machine: Id
    version_hash: Sha256 | None = Field(
        None, description="a registered version; the machine's own if left out"
    )
    cycles: list[Value] = Field(
        min_length=1, max_length=MOST_ROWS, description="age at each row, in any order"
    )
    values: dict[str, list[Value | None]] = Field(
        min_length=1,
        max_length=SENSORS_MAX,
        description="sensor to a value a row, null where it said nothing",
    )
    duty: float = Field(1.0, gt=0, le=1, description="share of calendar time in which the machine runs")

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if any(len(column) != len(self.cycles) for column in self.values.values()):
            raise ValueError("each sensor needs a value (or null) for each cycle")
        if len(self.cycles) * len(self.values) > MOST_CELLS:
            raise ValueError(f"at most {MOST_CELLS} values fit a request")
        return self


class LifeTeller(BaseModel):
    """A machine whose remaining life is told, and by which version."""

    machine: str
    name: str
    version: int
    version_hash: str


class LifeTellers(BaseModel):
    """Every such machine, by name."""

    machines: list[LifeTeller]


class LifeModelInfo(BaseModel):
    """The version that told it. `provisional`: too few units for an honest 95 % interval."""

    name: str
    version: int
    version_hash: str
    provisional: bool
    units: int = Field(description="units that ran to failure")
    knee_hours: float | None = Field(description="longest life that is told")
    interval_method: str


class LifeSpan(BaseModel):
    """Remaining life in one measure of time. Intervals are [lower end, upper end]."""

    median: float
    interval_80: tuple[float, float]
    interval_90: tuple[float, float]
    interval_95: tuple[float, float]


class LifeMove(BaseModel):
    """What a sensor's change did to the figure, hours of running."""

    sensor: str
    hours: float


class LifeChange(BaseModel):
    """The figure beside that of a day before, by the same model."""

    before_us: int
    ran_hours: float = Field(description="running time between the two")
    median_hours: float = Field(description="the median then")
    moved_hours: float = Field(
        description="the median now less that of then: -ran_hours if nothing new was seen"
    )
    bounded: bool = Field(description="now lies in the 80 % interval of then, less what was run")
    because: list[LifeMove] = Field(description="sensors whose change moved the figure most")


class LifeAnswer(BaseModel):
    """A machine's remaining life (ISO 13381-1: with the failure criterion and the load that it assumes)."""

    machine: str
    model: LifeModelInfo
    outcome: str = Field(description="told, more-than or not-enough-evidence")
    reason: str = Field(description="why there is not enough evidence; figures are then of age alone")
    unusual: list[str] = Field(description="sensors least like those of units that failed")
    run_hours: LifeSpan
    calendar_days: LifeSpan
    more_than_hours: float | None = Field(description="no wear shows: read 'more than' this")
    duty: float = Field(description="share of calendar time in which it runs, as assumed for calendar_days")
    failure_criterion: str
    load_assumption: str
    age_hours: float
    since_us: int | None = Field(description="begin of the history that was read; null: posted rows")
    renewed_by: str = Field(description="asked, work-order, first-reading or posted")
    at_us: int | None = Field(description="event time that the figures stand for")
    silent: list[str] = Field(description="sensors of the model that said nothing")
    ignored: list[str] = Field(description="posted sensors that the model does not know")
    change: LifeChange | None
