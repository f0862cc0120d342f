"""Whether a machine is to be trained again, and on whose word. One pure decision."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cloud.training.contest import CONFIRMED_MIN
from cloud.training.drift import DAY_US, Kind, Triage


class Trigger(StrEnum):
    """What asks for a training."""

    OPERATOR = "operator"
    DRIFT = "drift"
    LABELS = "labels"
    SCHEDULE = "schedule"


class Action(StrEnum):
    """What follows."""

    NOTHING = "nothing"
    TRAIN = "train"
    REBASELINE = "propose-baseline"
    """A person confirms it: `train --rebaseline`."""
    FINDING = "finding"
    """For a person to look at; nothing is trained."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When training is due without drift, and what is looked at; `cloud.training.settings` says more."""

    schedule_us: int = 14 * DAY_US
    """Shorter than readings are kept: the champion's own rows are to be among the grounds of the contest."""
    labels: int = 20
    pause_us: int = DAY_US
    """Between two trainings that nobody asked for."""
    before_failure_us: int = 14 * DAY_US
    confirmed: int = CONFIRMED_MIN
    baseline_us: int = 7 * DAY_US
    recent_us: int = 7 * DAY_US
    held: float = 0.2
    """Of the rows since the champion's: not trained on, so that the contest is about what is new to both."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a machine. `rest_us`: since the last training that was decided, None = never."""

    triage: Triage
    age_us: int
    labels: int
    rest_us: int | None
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, on whose word, and why."""

    action: Action
    trigger: Trigger
    reason: str


_FINDINGS: Final = (Kind.DATA_FAULT, Kind.NEW_STATE, Kind.DEGRADATION)


def decide(seen: Seen, policy: Policy) -> Decision:
    """Nothing trains over degradation, not even an operator's word: only a new baseline, which a person confirms, does.

    Nobody's word but an operator's trains over another finding either: such time is left out of the rows then.
    """
    kind, reason = seen.triage.kind, seen.triage.reason
    trigger = Trigger.OPERATOR if seen.asked else Trigger.DRIFT
    if kind is Kind.DEGRADATION or (kind in _FINDINGS and not seen.asked):
        return Decision(Action.FINDING, trigger, reason)
    if seen.asked:
        return Decision(Action.TRAIN, trigger, "an operator asked for it")
    if kind is Kind.MAINTENANCE:
        return Decision(Action.REBASELINE, trigger, reason)
    return _unasked(seen, policy)


def _unasked(seen: Seen, policy: Policy) -> Decision:
    if seen.rest_us is not None and seen.rest_us < policy.pause_us:
        return Decision(
            Action.NOTHING, Trigger.SCHEDULE, f"the last training was within {policy.pause_us / 3.6e9:g} h"
        )
    if seen.triage.kind is Kind.DRIFT:
        return Decision(Action.TRAIN, Trigger.DRIFT, seen.triage.reason)
    if seen.labels >= policy.labels:
        return Decision(Action.TRAIN, Trigger.LABELS, f"{seen.labels} labels are new")
    if seen.age_us >= policy.schedule_us:
        days = seen.age_us / DAY_US
        return Decision(Action.TRAIN, Trigger.SCHEDULE, f"the champion's rows end {days:.0f} days ago")
    return Decision(Action.NOTHING, Trigger.SCHEDULE, "nothing is due")
