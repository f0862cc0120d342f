"""Settings of the simulator and of the replayer."""

from pathlib import Path
from typing import ClassVar, Final

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings

DEFAULT_MACHINES: Final = (
    "pump-01:centrifugal-pump",
    "compressor-01:screw-compressor",
    "spindle-01:machining-spindle",
    "gearbox-01:conveyor-gearbox",
    "fan-01:extraction-fan",
)


class DeviceSettings(ServiceSettings):
    """How simulated devices reach their broker."""

    mqtt_url: str = Field(
        default="mqtt://127.0.0.1:1883", description="broker of the devices, mqtt://HOST:PORT"
    )
    mqtt_username: str = Field(default="", description="user at the broker; empty for none")
    mqtt_password: SecretStr = Field(default=SecretStr(""), description="password at the broker")
    mqtt_client_id: str = Field(default="", description="MQTT client id; empty for a random one")
    site: str = Field(default="demo", description="site in the topics")


class SimSettings(DeviceSettings):
    """Simulated machines, live."""

    section: ClassVar[str] = "sim"

    machines: tuple[str, ...] = Field(
        default=DEFAULT_MACHINES,
        description="machines as ID:TYPE; types: centrifugal-pump, screw-compressor, machining-spindle, conveyor-gearbox, extraction-fan",
    )
    seed: int = Field(default=1, ge=0, description="seed of everything random")
    interval_s: float = Field(
        default=1.0, ge=0.1, le=600.0, description="seconds from one reading to the next"
    )
    backfill_hours: float = Field(
        default=0.0, ge=0.0, le=24.0 * 366, description="hours before now that are published too"
    )
    wave_s: float = Field(
        default=0.0, ge=0.0, le=86_400.0, description="seconds between two waveform blocks a machine; 0: none"
    )
    wave_samples: int = Field(default=8192, ge=64, le=122_000, description="samples a waveform block")
    wave_rate_hz: float = Field(
        default=12_800.0, ge=1000.0, le=102_400.0, description="sampling rate of waveform blocks"
    )
    speed: float = Field(
        default=1.0,
        ge=1.0,
        description="above 1: start `backfill_hours` ago, run so many times faster, and go on live on reaching now",
    )


class ReplaySettings(DeviceSettings):
    """One recording, replayed as a live machine."""

    section: ClassVar[str] = "replay"

    file: Path = Field(description="CSV recording: first column time, the others numeric sensors")
    machine: str = Field(default="", description="machine id after `replay-`; empty: from the file's name")
    interval_s: float | None = Field(
        default=None, gt=0.0, description="seconds from row to row, for a first column that only counts"
    )
    mapping: Path | None = Field(default=None, description="YAML file: column to sensor, unit, or ignored")
    keep_columns: tuple[str, ...] = Field(
        default=(), description="columns to send although they look like labels"
    )
    speed: float = Field(
        default=1.0, ge=0.0, description="times the recording's own pace; 0: as fast as the broker confirms"
    )
    fit_rows: int = Field(
        default=0,
        ge=0,
        description='rows sent at once at the front; the rest waits for the line {"continue":true}',
    )
