"""Settings of `industrialmind discover`."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings
from shared.tls import TlsFiles


class DiscoverSettings(ServiceSettings):
    """Which broker to listen to, for how long, and as whom."""

    section: ClassVar[str] = "discover"

    broker: str = Field(description="mqtt://HOST:PORT, or mqtts://HOST:PORT for TLS")
    username: str = Field("", description="user there")
    password: SecretStr = Field(SecretStr(""), description="its password")
    tls: TlsFiles = Field(TlsFiles(), description="for mqtts://")
    topics: tuple[str, ...] = Field(("#",), min_length=1, description="MQTT filters to listen to")
    seconds: float = Field(30.0, gt=0, le=86_400, description="how long to listen")
    connect_seconds: float = Field(5.0, gt=0, le=60, description="longest wait for the connection")
    mapping: Path | None = Field(None, description="a mapping to try, instead of proposing one")
    ask_births: bool = Field(
        False, description="ask Sparkplug nodes for their births: the one thing that it publishes"
    )
