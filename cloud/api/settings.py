"""Settings of the data API."""

from typing import ClassVar

from pydantic import Field, SecretStr

from cloud.people.oidc_settings import OidcSettings
from cloud.telemetry.settings import TelemetrySettings
from shared.log_settings import LogSettings
from shared.names import API_PORT
from shared.tls import TlsFiles


class ApiSettings(TelemetrySettings, LogSettings):
    """The data API: where it listens, what it reads, and who may ask."""

    section: ClassVar[str] = "api"

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(API_PORT, ge=0, le=65535, description="port to listen on")
    token: SecretStr = Field(description="the bearer token of the command line")
    ui_token: SecretStr = Field(
        SecretStr(""), description="the bearer token of the control room's server; none: it may not ask"
    )
    app_url: str = Field(
        "",
        description="where users, tokens and sessions are kept, sqlite:///PATH or "
        "postgresql://USER:PASSWORD@HOST:PORT/NAME; empty: there are none",
    )
    session_hours: float = Field(12.0, gt=0, le=720, description="how long somebody stays signed in, at most")
    session_idle_hours: float = Field(
        12.0, gt=0, le=720, description="a session that nobody used for so long is over"
    )
    oidc: OidcSettings = OidcSettings()
    requests_per_minute: int = Field(
        6000,
        ge=1,
        description="requests of one principal in a minute, at most; the plant's own services are not counted",
    )
    allowed_hosts: tuple[str, ...] = Field(
        ("localhost", "127.0.0.1", "[::1]"), description="values of the Host header that are answered"
    )
    cache_url: SecretStr = Field(
        SecretStr(""),
        description="where answers are kept: empty or memory:// in this process, redis://[:PASSWORD@]HOST:PORT[/DB] for all",
    )
    cache_bytes: int = Field(
        64 * 1024 * 1024, ge=0, description="bytes of answers kept in this process; 0: none"
    )
    cache_seconds: float = Field(60.0, gt=0, description="how long an answer is kept at most")
    similar_url: str = Field(
        "",
        description="where vectors of anomalies are kept, chroma+file:///PATH (of this process alone) or "
        "http://HOST:PORT of a Chroma server; empty: nothing is found by likeness",
    )
    reader_processes: int = Field(
        2,
        ge=0,
        le=16,
        description="processes beside this one that read a telemetry store in SQLite; 0: threads of this one do",
    )
    stale_after_seconds: float = Field(
        10.0, gt=0, description="data older than this is marked stale (three times a machine's interval)"
    )
    mqtt_url: str = Field(
        "",
        pattern=r"^(mqtt://.+)?$",
        description="the broker on which dead letters are sent again; empty: those that came over MQTT can't be",
    )
    mqtt_username: str = Field("", description="user there, who may publish what gateways and edges take")
    mqtt_password: SecretStr = Field(SecretStr(""), description="password there")
    mqtt_tls: TlsFiles | None = Field(
        None, description="for mqtts://, with the certificate of the user replay"
    )
