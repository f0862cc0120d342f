"""What a person tells the edge of its vibration sensors: class, speed, bearing; and how much of raw blocks is kept."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge.vibration_bearing import Bearing
from shared.names import ID_PATTERN

_Name = Annotated[str, Field(pattern=rf"^{ID_PATTERN}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BearingGeometry(_Part):
    """A rolling bearing whose outer ring stands still."""

    elements: int = Field(ge=3, le=200, description="rolling elements in a row")
    element_mm: float = Field(gt=0, description="their diameter")
    pitch_mm: float = Field(gt=0, description="diameter of the circle of their centres")
    angle_deg: float = Field(0.0, ge=0, lt=90, description="contact angle")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.element_mm >= self.pitch_mm:
            raise ValueError("element_mm must stay below pitch_mm")
        return self

    def bearing(self) -> Bearing:
        """As the diagnosis takes it."""
        return Bearing(self.elements, self.element_mm, self.pitch_mm, self.angle_deg)


class Point(_Part):
    """One vibration sensor. What is not told is not judged."""

    machine_class: str = Field("", description="class in the table of limits; empty: no zone, no step")
    speed_sensor: str = Field(
        "", pattern=rf"^({ID_PATTERN})?$", description="the machine's sensor of its speed"
    )
    speed_rpm: float | None = Field(
        None, gt=0, le=1e6, description="instead: the speed at which it always runs"
    )
    bearing: BearingGeometry | None = Field(None, description="bearing at the sensor")
    band_hz: tuple[float, float] | None = Field(
        None, description="band of the envelope's figures; else 10 to 40 % of the sampling rate"
    )

    @model_validator(mode="after")
    def _one_speed(self) -> Self:
        if self.speed_sensor and self.speed_rpm is not None:
            raise ValueError("give speed_sensor or speed_rpm, not both")
        if self.band_hz is not None and not 0 < self.band_hz[0] < self.band_hz[1]:
            raise ValueError("band_hz is [low, high], rising from above 0")
        return self


class Vibration(_Part):
    """Waveform blocks at the edge."""

    points: dict[_Name, dict[_Name, Point]] = Field(
        default_factory=dict, description="machine to vibration sensor to class, speed and bearing"
    )
    limits_file: Path | None = Field(
        None, description="table of zone boundaries by class, TOML; else the one that comes along"
    )
    quota_bytes: int = Field(
        64 * 1024 * 1024, ge=1 << 20, description="raw blocks kept on disk until they are sent, at most"
    )
    send_seconds: float = Field(
        5.0, ge=0, le=3600, description="at least so long between two raw blocks on the uplink"
    )
