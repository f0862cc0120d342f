"""Settings of the gateway."""

from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from shared.frames import MAX_ROWS
from shared.log_settings import LogSettings
from shared.names import MQTT_PORT, NATS_PORT


class GatewaySettings(LogSettings):
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
    mqtt_driver: Literal["lean", "paho"] = Field(
        "lean", description="who receives: our own client, or paho as the fallback"
    )
    mqtt_version: Literal["auto", "3.1.1", "5"] = Field(
        "auto", description="auto: 5, or 3.1.1 where the broker has no 5 (with paho: 3.1.1)"
    )
    session_seconds: int = Field(
        7 * 24 * 3600,
        ge=0,
        description="how long the broker keeps the session of a gateway that is away (MQTT 5)",
    )
    share_group: str = Field(
        "",
        pattern=r"^[^/+#\x00]*$",
        description="gateways that share one broker's messages name the same group (MQTT 5); empty: one gateway",
    )
    nats_url: str = Field(
        f"nats://127.0.0.1:{NATS_PORT}", description="control plane, and event log unless log_url names one"
    )
    direct: bool = Field(True, description="take plain JSON of machines that have no edge")
    sparkplug_host_id: str = Field(
        "", max_length=200, description="name as Sparkplug host application; empty: no Sparkplug"
    )
    sparkplug_reorder_seconds: float = Field(
        5.0,
        gt=0,
        le=300,
        description="longest wait for a Sparkplug message that is missing in its node's sequence",
    )
    sparkplug_rebirth_seconds: float = Field(
        10.0, gt=0, le=3600, description="a Sparkplug node is asked for a rebirth at most once in this time"
    )
    direct_rows: int = Field(
        MAX_ROWS, ge=1, le=MAX_ROWS, description="most readings of such machines in a frame; 1: a record each"
    )
    batch_messages: int = Field(5000, ge=1, le=65_535, description="most messages taken at once")
    batches_in_flight: int = Field(4, ge=1, le=64, description="batches a subscription that wait for the log")
    inbox_messages: int = Field(
        20_000,
        ge=1,
        le=65_535,
        description="messages held per subscription before the socket waits; on MQTT 5 also unacknowledged",
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
