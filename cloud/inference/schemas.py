"""What is posted to be scored, and what is answered: columns, bounded."""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cloud.inference.settings import MOST_WINDOWS
from shared.manifest import SENSORS_MAX, Id, Sha256

MOST_ROWS: Final = 20_000
MOST_CELLS: Final = 500_000
"""Numbers in one request."""

# The years in which a reading may lie, as everywhere.
TimeUs = Annotated[int, Field(ge=946_684_800_000_000, le=4_102_444_800_000_000)]
Value = Annotated[float, Field(allow_inf_nan=False)] | None
Name = Annotated[str, Field(min_length=1, max_length=200)]
Unit = Annotated[str, Field(max_length=40)]
State = Literal["normal", "alarm", "unscored"]
Reason = Literal["", "mask", "operating-point", "sensor", "unit", "rate", "model"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Rows(_Part):
    """Raw rows of a machine: times, and for each sensor a column of values, null where it said nothing."""

    time_us: list[TimeUs] = Field(
        min_length=1, max_length=MOST_ROWS, description="event time of each row, in any order"
    )
    values: dict[Name, list[Value]] = Field(
        min_length=1, max_length=SENSORS_MAX, description="sensor to a value a row"
    )
    units: dict[Name, Unit] = Field(
        default_factory=dict, max_length=SENSORS_MAX, description="sensor to its unit; unknown if left out"
    )

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if any(len(column) != len(self.time_us) for column in self.values.values()):
            raise ValueError("each sensor needs a value (or null) for each time")
        if len(self.time_us) * len(self.values) > MOST_CELLS:
            raise ValueError(f"at most {MOST_CELLS} values fit a request")
        return self


class Gridded(_Part):
    """Windows that are on the model's grid already."""

    time_us: list[TimeUs] = Field(
        min_length=1, max_length=MOST_WINDOWS, description="right edge of each window"
    )
    sensors: list[Name] = Field(min_length=1, max_length=SENSORS_MAX, description="the columns, in any order")
    values: list[list[list[Value]]] = Field(
        min_length=1,
        max_length=MOST_WINDOWS,
        description="windows of W rows of a value a sensor, engineering units, null = empty cell",
    )
    units: dict[Name, Unit] = Field(
        default_factory=dict, max_length=SENSORS_MAX, description="sensor to its unit; unknown if left out"
    )

    @model_validator(mode="after")
    def _shape_fits(self) -> Self:
        if len(set(self.sensors)) != len(self.sensors):
            raise ValueError("a sensor is named twice")
        if len(self.values) != len(self.time_us):
            raise ValueError("each window needs its time")
        if any(len(row) != len(self.sensors) for window in self.values for row in window):
            raise ValueError("each row of a window needs a value (or null) for each sensor")
        if len({len(window) for window in self.values}) > 1:
            raise ValueError("all windows must have as many rows")
        if sum(map(len, self.values)) * len(self.sensors) > MOST_CELLS:
            raise ValueError(f"at most {MOST_CELLS} values fit a request")
        return self


class ScoreRequest(_Part):
    """What to score: rows or windows of a machine, by its champion or by the version that is named."""

    machine: Id
    version_hash: Sha256 | None = Field(None, description="a registered version; its champion if left out")
    rows: Rows | None = Field(None, description="raw rows")
    windows: Gridded | None = Field(None, description="windows; give these or rows")
    most: int = Field(
        1, ge=1, le=MOST_WINDOWS, description="of rows: how many windows, the newest, to answer"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.rows is None) == (self.windows is None):
            raise ValueError("give either rows or windows")
        return self

    @property
    def size(self) -> int:
        """How many numbers were posted."""
        if self.windows is not None:
            return sum(map(len, self.windows.values)) * len(self.windows.sensors)
        return 0 if self.rows is None else len(self.rows.time_us) * len(self.rows.values)


class ModelInfo(BaseModel):
    """The version that scored. `provisional`: its limit is a stand-in until more rows were seen."""

    name: str
    version: int
    version_hash: str
    provisional: bool
    window: int = Field(description="cells in a window")
    step_us: int = Field(description="width of a cell in µs")


class SensorColumns(BaseModel):
    """A sensor's part in each window."""

    unit: str
    contribution: list[float | None] = Field(
        description="its share of the score; all shares sum to 1, or are 0"
    )
    seen: list[float | None] = Field(description="its level in the window")
    expected: list[float | None] = Field(description="what the model expects that level to be")


class ScoreAnswer(BaseModel):
    """Scores, in columns: a value a window, null where it has none."""

    machine: str
    model: ModelInfo
    limit: float = Field(description="a score above it is an alarm")
    time_us: list[int] = Field(description="right edge of each window, in order")
    score: list[float | None]
    state: list[State]
    reason: list[Reason] = Field(description="why a window has no score")
    detail: list[str] = Field(description="the same in words")
    sensors: dict[str, SensorColumns]
    ignored: list[str] = Field(description="sensors that the model does not know")
