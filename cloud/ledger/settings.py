"""Settings of the ledger."""

from typing import ClassVar

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings


class LedgerSettings(ServiceSettings):
    """The ledger: what it reads, and where it keeps its fold."""

    section: ClassVar[str] = "ledger"

    nats_url: str = Field(description="event log and control plane")
    credentials: SecretStr = Field(SecretStr(""), description="user:password for both")
    telemetry_url: str = Field(description="the telemetry store, read only")
    path: str = Field(description="file of the fold's snapshot; it is made again from the log if it is gone")
    save_seconds: float = Field(10.0, gt=0, description="how often the snapshot is saved")
    catch_up_seconds: float = Field(
        5.0, ge=0, description="how long a report waits for log and store to be level"
    )
