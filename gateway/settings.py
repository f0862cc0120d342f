"""Settings of the gateway."""

from typing import ClassVar

from pydantic import Field, SecretStr

from shared.names import MQTT_PORT, NATS_PORT
from shared.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """The gateway: its broker, its log, and its bounds."""

    section: ClassVar[str] = "gateway"

    mqtt_url: str = Field(f"mqtt://127.0.0.1:{MQTT_PORT}", description="broker of edges and devices")
    mqtt_username: str = Field("", description="user at the broker")
    mqtt_password: SecretStr = Field(SecretStr(""), description="that user's password")
    client_id: str = Field(
        "gateway", min_length=1, description="MQTT client id; each subscription adds its own suffix"
    )
    number: int = Field(
        1, ge=1, le=999, description="direct machines' readings come from edge gateway-NUMBER"
    )
    nats_url: str = Field(f"nats://127.0.0.1:{NATS_PORT}", description="event log and control plane")
    credentials: SecretStr = Field(SecretStr(""), description="user:password for them")
    direct: bool = Field(True, description="take plain JSON of machines that have no edge")
    batch_messages: int = Field(500, ge=1, le=1000, description="most messages taken at once")
    batches_in_flight: int = Field(4, ge=1, le=64, description="batches a subscription that wait for the log")
    inbox_messages: int = Field(
        1000, ge=1, description="messages held per subscription before the socket waits"
    )
    retry_cap_seconds: float = Field(5.0, gt=0, description="longest wait while the log is away")
    connect_seconds: float = Field(5.0, gt=0, le=60, description="longest wait for a connection")
    produce_seconds: float = Field(
        30.0, gt=0, le=300, description="longest wait for the log to confirm a write"
    )
    grace_seconds: float = Field(10.0, gt=0, description="time to finish batches when told to stop")
    host: str = Field("127.0.0.1", description="address of the health endpoint")
    port: int = Field(0, ge=0, le=65535, description="port of the health endpoint; 0 takes a free one")
    token: SecretStr = Field(SecretStr(""), description="bearer token of /metrics; none closes it")
