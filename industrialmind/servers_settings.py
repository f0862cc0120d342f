"""Settings of what is made on a plant's servers before its parts start."""

from typing import ClassVar

from pydantic import Field

from shared.log_settings import LogSettings


class ServersSettings(LogSettings):
    """The servers, by the administrator's accounts, and who speaks for which machine."""

    section: ClassVar[str] = "servers"

    site: str = Field(description="the plant")
    edges: dict[str, tuple[str, ...]] = Field({}, description="edge to the machines it speaks for")
    partitions: int | None = Field(
        None, ge=1, description="partitions of the topics by machine on Kafka; none: those they have, or 6"
    )
