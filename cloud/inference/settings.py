"""Settings of the inference service."""

from typing import ClassVar, Self

from pydantic import Field, SecretStr, model_validator

from cloud.telemetry.settings import TelemetrySettings
from shared.log_settings import LogSettings
from shared.names import INFERENCE_PORT

MOST_WINDOWS = 512
"""Windows that one request may ask for."""


class InferenceSettings(TelemetrySettings, LogSettings):
    """Inference: where it listens, how requests share a model's session, and which machines it scores by itself."""

    section: ClassVar[str] = "inference"

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(INFERENCE_PORT, ge=0, le=65535, description="port to listen on")
    token: SecretStr = Field(description="the bearer token of the plant's own services and the command line")
    keys_url: str = Field(
        "",
        description="public keys of the data API, http://HOST:PORT/v1/keys, by which people's signed tokens are good;"
        " empty: only `token` is",
    )
    allowed_hosts: tuple[str, ...] = Field(
        ("localhost", "127.0.0.1", "[::1]"), description="values of the Host header that are answered"
    )
    body_bytes: int = Field(16 << 20, ge=1024, description="largest body of a request; a larger one gets 413")
    connections: int = Field(
        1024, ge=1, description="requests answered at once; beyond them a client gets 503"
    )
    batch_windows: int = Field(
        256,
        ge=1,
        le=4096,
        description="windows that requests waiting for one model may share a run of it with",
    )
    queue_windows: int = Field(
        4096,
        ge=MOST_WINDOWS,
        description="windows that may wait or run at once; beyond them a request gets 503 and when to come again",
    )
    threads: int = Field(2, ge=1, le=64, description="runs of models at once, one a model at most")
    models_kept: int = Field(64, ge=1, description="loaded versions; the one unused longest makes room")
    score_direct: bool = Field(True, description="score machines that no edge looks after, from the log")
    number: int = Field(
        1, ge=1, description="this service among several; its scores come as edge inference-N"
    )
    group: str = Field("inference", description="the consumer group whose place in the log is kept there")
    fetch_records: int = Field(256, ge=1, le=1000, description="records of readings taken at once")
    machines: int = Field(
        1000, ge=1, description="machines with no edge that are followed; more are left alone"
    )
    recent_rows: int = Field(
        4000, ge=0, description="newest rows kept of each, to fill the windows of a model that is promoted"
    )
    retry_cap_seconds: float = Field(5.0, gt=0, description="longest wait while the log is away")
    connect_seconds: float = Field(5.0, gt=0, le=60, description="longest wait for a connection")
    produce_seconds: float = Field(
        30.0, gt=0, le=300, description="longest wait for the log to confirm a write"
    )
    grace_seconds: float = Field(10.0, gt=0, description="time to finish what is in hand when told to stop")

    @model_validator(mode="after")
    def _a_batch_fits_the_queue(self) -> Self:
        if self.batch_windows > self.queue_windows:
            raise ValueError("batch_windows must not exceed queue_windows")
        return self
