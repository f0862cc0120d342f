"""What a plant may set of training again: when it is due, and what it looks at."""

from typing import ClassVar, Final

from pydantic import Field

from cloud.training.contest import CONFIRMED_MIN
from cloud.training.drift import DAY_US
from cloud.training.triggers import Policy
from shared.settings import ServiceSettings

_KEPT_DAYS: Final = 30


class RetrainingSettings(ServiceSettings):
    """When machines are trained again. The defaults are for machines that age over months."""

    section: ClassVar[str] = "retraining"

    schedule_days: float = Field(
        14.0,
        gt=0,
        le=_KEPT_DAYS,
        description="age of the champion's last row at which training is due; below the days that readings are kept",
    )
    labels: int = Field(20, ge=1, description="new verdicts and work orders of a machine that make it due")
    pause_hours: float = Field(
        24.0, ge=0, description="at least so long between two trainings that nobody asked for"
    )
    before_failure_days: float = Field(
        14.0, ge=0, le=90, description="time before a confirmed failure that is not trained on"
    )
    confirmed_events: int = Field(
        CONFIRMED_MIN,
        ge=CONFIRMED_MIN,
        description="confirmed failures from which a better challenger is promoted with nobody asked",
    )
    baseline_days: float = Field(
        7.0,
        ge=1,
        le=90,
        description="least length of the baseline that a machine is compared with, from its line's first row",
    )
    recent_days: float = Field(
        7.0, ge=1, le=_KEPT_DAYS, description="newest time that is compared with the baseline"
    )
    held_share: float = Field(
        0.2, ge=0.1, le=0.5, description="share of the new rows, the newest, kept for the contest"
    )

    def policy(self) -> Policy:
        """As training takes it."""
        return Policy(
            schedule_us=_us(self.schedule_days),
            labels=self.labels,
            pause_us=_us(self.pause_hours / 24),
            before_failure_us=_us(self.before_failure_days),
            confirmed=self.confirmed_events,
            baseline_us=_us(self.baseline_days),
            recent_us=_us(self.recent_days),
            held=self.held_share,
        )


def _us(days: float) -> int:
    return round(days * DAY_US)
