"""Settings of the trainer on servers of their own; where `up` runs the plant, it needs none."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr, field_validator

from cloud.telemetry.settings import TelemetrySettings
from shared.errors import Rejected
from shared.log_settings import LogSettings
from shared.names import check_id


class TrainSettings(LogSettings, TelemetrySettings):
    """The trainer: what it reads, where its runs go, and which machines there are."""

    section: ClassVar[str] = "train"

    folder: Path = Field(description="where the lock is that lets one trainer work, and how far MLflow came")
    mlflow_url: str = Field(description="MLflow's server, http://HOST:PORT")
    mlflow_password: SecretStr = Field(description="the password of the user industrialmind there")
    artifacts: Path = Field(description="folder of the runs' files, the same as MLflow's server has")
    machines: tuple[str, ...] = Field(
        min_length=1,
        description="machines as ID:TYPE or ID:TYPE:SENSOR, the sensor that tells the operating point",
    )

    operating_states: Literal["range", "clusters"] = Field(
        "range",
        description="judge anywhere in the operating sensor's range, or only steady at its set-points",
    )

    @field_validator("machines")
    @classmethod
    def _readable(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for one in given:
            parts = one.split(":")
            if len(parts) not in {2, 3}:
                raise ValueError(f"{one!r} is not ID:TYPE or ID:TYPE:SENSOR")
            try:
                for part in parts:
                    check_id(part)
            except Rejected as error:
                raise ValueError(error.reason) from error
        return given
