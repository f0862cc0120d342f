"""Events of the topic `models` about training again: what was decided of a machine, and how a challenger did. `subject` is the machine."""

from typing import ClassVar

from shared.event import Event, Moment


class RetrainingDecided(Event):
    """Why a machine looks different, and what follows: `train`, `propose-baseline`, `finding`."""

    type: ClassVar[str] = "retraining.decided"
    identity: ClassVar[tuple[str, ...]] = ("occurred_at",)

    trigger: str
    triage: str
    action: str
    reason: str
    sensors: tuple[str, ...]
    onset: Moment | None
    champion: str


class ChallengerJudged(Event):
    """How a challenger did against the champion: `promote`, `approve` (a person decides), `keep`."""

    type: ClassVar[str] = "challenger.judged"
    identity: ClassVar[tuple[str, ...]] = ("challenger", "champion")

    trigger: str
    challenger: str
    champion: str
    outcome: str
    proxy: bool
    reasons: tuple[str, ...]
    figures: dict[str, float]
