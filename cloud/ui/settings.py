"""Settings of the control room."""

from typing import ClassVar

from pydantic import Field, SecretStr

from shared.names import API_PORT, INFERENCE_PORT, UI_PORT
from shared.settings import ServiceSettings


class UiSettings(ServiceSettings):
    """The control room: where it listens, which data API it shows, who may look."""

    section: ClassVar[str] = "ui"

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(UI_PORT, ge=0, le=65535, description="port to listen on")
    api_url: str = Field(f"http://127.0.0.1:{API_PORT}", description="the data API")
    inference_url: str = Field(
        f"http://127.0.0.1:{INFERENCE_PORT}",
        description="the inference API, which tells remaining lives; the data API signs the token for it",
    )
    token: SecretStr = Field(description="the bearer token of the control room at the data API")
    session_key: SecretStr = Field(
        description="signs session cookies; kept, so that a restart signs nobody out"
    )
    session_hours: float = Field(12.0, gt=0, description="how long a browser keeps its session")
    allowed_hosts: tuple[str, ...] = Field(
        ("localhost", "127.0.0.1", "[::1]"), description="values of the Host header that are answered"
    )
    provider: str = Field(
        "", description="what the button for signing in by api.oidc calls the provider; empty: no button"
    )
    site: str = Field("", description="the site's name in the header; empty: as the data API says")
    stale_after_seconds: float = Field(
        10.0, gt=0, description="a machine's data older than this is shown as stale"
    )
    updates_per_second: float = Field(4.0, gt=0, le=5, description="updates to one browser, at most")
    poll_seconds: float = Field(3.0, ge=2, le=5, description="pace of a browser without WebSockets")
    trend_hours: float = Field(24.0, gt=0, description="length of a sparkline")
    trend_points: int = Field(120, ge=20, le=1000, description="points of a sparkline")
    refresh_seconds: float = Field(300.0, gt=0, description="how often sparklines are read anew")
    life_seconds: float = Field(300.0, ge=1, description="how often remaining lives are asked for anew")
    browsers: int = Field(64, ge=1, description="browsers that are served at once, at most")
    connect_seconds: float = Field(5.0, gt=0, description="longest wait for a connection to the data API")
    request_seconds: float = Field(10.0, gt=0, description="longest wait for an answer of the data API")
