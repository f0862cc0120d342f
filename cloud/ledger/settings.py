"""Settings of the ledger service."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from shared.settings import ServiceSettings


class LedgerSettings(ServiceSettings):
    """The ledger: where it keeps its fold, and how long it waits for the stages to be level."""

    section: ClassVar[str] = "ledger"

    path: Path | None = Field(None, description="snapshot of the fold; none: read the log anew at each start")
    save_seconds: float = Field(10.0, gt=0, description="how often the snapshot is saved")
    catch_up_seconds: float = Field(5.0, ge=0, description="how long a report waits for log and store")
