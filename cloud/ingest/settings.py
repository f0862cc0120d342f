"""Settings of ingest."""

from typing import ClassVar, Self

from pydantic import Field, SecretStr, model_validator

from cloud.ingest.fetch import Limits
from cloud.telemetry.facts import DAY_US, Retention
from cloud.telemetry.lateness import LateBounds
from cloud.telemetry.settings import TelemetrySettings
from shared.clock import MICROSECONDS
from shared.log_settings import LogSettings


class IngestSettings(TelemetrySettings, LogSettings):
    """Ingest: what it reads, where it writes, and how it batches."""

    section: ClassVar[str] = "ingest"

    group: str = Field("ingest", description="the consumer group whose acknowledged place is kept in the log")
    batch_records: int = Field(
        100,
        ge=1,
        le=1000,
        description="write after so many records; while a write goes on, up to 1,000 of few rows gather for the next one",
    )
    batch_rows: int = Field(50_000, ge=1, le=1_000_000, description="or after so many rows")
    batch_seconds: float = Field(0.03, gt=0, le=5, description="or so long after the first of them")
    retry_cap_seconds: float = Field(5.0, gt=0, description="longest wait while the store or the log is away")
    late_device_seconds: float = Field(
        60.0,
        gt=0,
        description="a reading is late at the device when it reaches the edge so long after its time",
    )
    late_uplink_seconds: float = Field(
        10.0, gt=0, description="late on the uplink when it reaches the log so long after the edge"
    )
    late_store_seconds: float = Field(
        10.0, gt=0, description="late into the store when it is written so long after it reached the log"
    )
    retention_raw_days: int = Field(
        30, ge=0, description="readings and scores are kept so long by their own time; 0: for ever"
    )
    retention_minute_days: int = Field(400, ge=0, description="minutes of readings; 0: for ever")
    retention_hour_days: int = Field(0, ge=0, description="hours of readings; 0: for ever")
    connect_seconds: float = Field(5.0, gt=0, le=60, description="longest wait for a connection")
    produce_seconds: float = Field(
        30.0, gt=0, le=300, description="longest wait for the log to confirm a write"
    )
    grace_seconds: float = Field(10.0, gt=0, description="time to finish a batch when told to stop")
    host: str = Field("127.0.0.1", description="address of the health endpoint")
    port: int = Field(0, ge=0, le=65535, description="port of the health endpoint; 0 takes a free one")
    metrics_token: SecretStr = Field(SecretStr(""), description="bearer token of /metrics; none closes it")

    @property
    def limits(self) -> Limits:
        """When a batch is written."""
        return Limits(self.batch_records, self.batch_rows, self.batch_seconds)

    @property
    def late(self) -> LateBounds:
        """From when on readings are late."""
        seconds = (self.late_device_seconds, self.late_uplink_seconds, self.late_store_seconds)
        return LateBounds(*(round(one * MICROSECONDS) for one in seconds))

    @property
    def retention(self) -> Retention:
        """How long what is kept. Raises ValueError (minutes shorter than readings, hours than minutes)."""
        days = (self.retention_raw_days, self.retention_minute_days, self.retention_hour_days)
        return Retention(*(one * DAY_US or None for one in days))

    @model_validator(mode="after")
    def _retention_fits(self) -> Self:
        _ = self.retention
        return self
