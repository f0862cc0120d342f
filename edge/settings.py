"""Settings of the edge agent."""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from edge.outbox import ANOMALY_SECONDS, DEFAULT_MAX_BYTES
from edge.vibration_settings import Vibration
from shared.errors import Misconfigured, Rejected
from shared.names import check_id
from shared.settings import ServiceSettings
from shared.states import StateSpec, by_signal
from shared.tls import TlsFiles


def _id(text: str) -> str:
    try:
        return check_id(text)
    except Rejected as error:
        raise ValueError(error.reason) from error


Id = Annotated[str, AfterValidator(_id)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mqtt(_Part):
    """A connection to an MQTT broker with a persistent session."""

    url: str = Field(description="mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS")
    client_id: str = Field(min_length=1, description="fixed: the broker keeps the session under it")
    username: str = Field("", description="user at the broker")
    password: SecretStr = Field(SecretStr(""), description="its password")
    tls: TlsFiles | None = Field(None, description="for mqtts://, where not edge.tls")


class Buffer(_Part):
    """The outbox."""

    max_bytes: int = Field(
        DEFAULT_MAX_BYTES, ge=1 << 20, description="hard cap of the outbox's files in bytes, journal included"
    )
    anomaly_seconds: float = Field(
        ANOMALY_SECONDS, ge=0, le=86_400, description="readings so near to an anomaly are thinned last"
    )
    drain_rows: int = Field(
        0,
        ge=0,
        description="rows a second of history after an outage, at most; 0: as fast as they are confirmed",
    )


class Limits(_Part):
    """Plain limits of one sensor, in its own unit."""

    low_low: float | None = Field(None, description="below it is a crossing that can't wait")
    low: float | None = Field(None, description="below it is a crossing")
    high: float | None = Field(None, description="above it is a crossing")
    high_high: float | None = Field(None, description="above it is a crossing that can't wait")
    hysteresis: float = Field(0.0, ge=0, description="how far inside it counts as back")
    delay_seconds: float = Field(0.0, ge=0, le=86_400, description="how long it must last to be a crossing")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        lows = [limit for limit in (self.low_low, self.low) if limit is not None]
        highs = [limit for limit in (self.high, self.high_high) if limit is not None]
        told = [*lows, *highs]
        if any(a >= b for a, b in pairwise(told)):
            raise ValueError("low must stay below high: limits rise from low_low to high_high")
        if lows and highs and lows[-1] + self.hysteresis >= highs[0] - self.hysteresis:
            raise ValueError("low must stay below high, hysteresis included")
        return self


class Operating(_Part):
    """How a machine's operating state is told: by a sensor of what it was told to do, never by a response."""

    sensor: Id = Field(description="a set-point, a speed or a signal")
    off: float = Field(0.0, allow_inf_nan=False, description="at or below it the machine is off")
    levels: tuple[tuple[float, float], ...] = Field((), description="set-points as [low, high], rising")
    values: tuple[float, ...] = Field((), description="instead: the values of a signal, each a state")
    hysteresis: float = Field(0.0, ge=0, description="how far beyond a border a value counts")
    settle_seconds: float = Field(60.0, ge=0, le=86_400, description="how long until it is steady")

    @model_validator(mode="after")
    def _can_be_told(self) -> Self:
        if self.levels and self.values:
            raise ValueError("give levels or values, not both")
        try:
            self.spec()
        except Misconfigured as error:
            raise ValueError(f"{error}: {error.hint}") from error
        return self

    def spec(self) -> StateSpec:
        """For `shared.states`. With neither levels nor values anything above `off` is one state. Raises Misconfigured."""
        settle_us = round(self.settle_seconds * 1e6)
        if self.values:
            return by_signal(self.sensor, self.values, off=self.off, settle_us=settle_us)
        levels = self.levels or ((self.off, sys.float_info.max),)
        return StateSpec(self.sensor, self.off, levels, self.hysteresis, settle_us, "rule")


class SensorLimits(_Part):
    """Which readings of one sensor are left out before they are committed; each is counted under its policy."""

    deadband: float | None = Field(
        None, ge=0, description="a value no further from the last kept is left out"
    )
    silence_seconds: float = Field(60.0, gt=0, description="after which a value is kept whatever it is")
    per_second: float | None = Field(
        None, gt=0, le=1_000_000, description="readings kept in a second of event time, at most"
    )

    @property
    def limited(self) -> bool:
        """Whether anything is ever left out."""
        return self.deadband is not None or self.per_second is not None


class EdgeSettings(ServiceSettings):
    """The edge agent: whose machines, which brokers, where it keeps its files."""

    section: ClassVar[str] = "edge"

    site: Id = Field(description="the plant")
    edge: Id = Field(description="this agent")
    machines: tuple[Id, ...] = Field(min_length=1, description="the machines that this agent speaks for")
    folder: Path = Field(description="where outbox.db and the models are kept")
    devices: Mqtt = Field(description="where the machines' devices publish")
    uplink: Mqtt = Field(description="where the gateway listens")
    nats_url: str = Field("", description="control plane for models and reports; empty: none")
    credentials: SecretStr = Field(SecretStr(""), description="user:password at the control plane")
    tls: TlsFiles = Field(TlsFiles(), description="for mqtts:// and tls://")
    buffer: Buffer = Field(Buffer(), description="the outbox")
    limits: dict[Id, dict[Id, Limits]] = Field(
        default_factory=dict, description="machine to sensor to limits"
    )
    operating: dict[Id, Operating] = Field(
        default_factory=dict, description="machine to how its operating state is told"
    )
    vibration: Vibration = Field(Vibration(), description="waveform blocks")
    inputs: dict[Id, dict[Id, SensorLimits]] = Field(
        default_factory=dict, description="machine to sensor to deadband, silence_seconds and per_second"
    )
    mapping: Path | None = Field(None, description="YAML that makes readings of topics that are not plain")
    receive_batch: int = Field(500, ge=1, le=10_000, description="device messages a commit, at most")
    scoring_queue: int = Field(
        200_000, ge=1, description="readings that may wait to be scored; beyond: unscored"
    )
    scoring_budget_seconds: float = Field(
        0.05, gt=0, description="a score later than this after its last reading is counted"
    )
    scoring_cpu_share: float = Field(
        1.0, gt=0, le=1, description="how much of one core scoring may take, on average"
    )
    local_topics: bool = Field(
        default=True, description="say states and alarms on the devices' broker, retained"
    )
    report_seconds: float = Field(1.0, gt=0, le=60, description="how often state and ledger are reported")
    connect_seconds: float = Field(5.0, gt=0, le=60, description="longest wait for a connection")
    grace_seconds: float = Field(10.0, gt=0, description="time to end when told to stop")
    host: str = Field("127.0.0.1", description="address of the health endpoint")
    port: int = Field(0, ge=0, le=65535, description="port of the health endpoint; 0 takes a free one")
    token: SecretStr = Field(SecretStr(""), description="bearer token of /metrics; none closes it")

    @property
    def outbox_path(self) -> Path:
        """The outbox's file."""
        return self.folder / "outbox.db"
