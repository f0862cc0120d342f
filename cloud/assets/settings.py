"""Settings of the assets."""

from typing import ClassVar

from pydantic import Field

from shared.settings import ServiceSettings


class AssetsSettings(ServiceSettings):
    """How assets appear by themselves."""

    section: ClassVar[str] = "assets"

    look_seconds: float = Field(
        5.0,
        gt=0,
        description="how often births, readings, assignments and models are looked at for new assets",
    )
