"""Events of the topic `verdicts`: what a person says a machine's time was. `subject` is the verdict's id."""

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from shared.event import Event, Moment


class VerdictKind(StrEnum):
    """What the time was."""

    FAULT = "fault"
    NORMAL = "normal"
    SENSOR_FAULT = "sensor-fault"
    OPERATION = "operation"
    """Healthy and unusual: another product, a trial, a hot day."""
    UNSURE = "unsure"


class VerdictGiven(Event):
    """A person judged a stretch of a machine's time. Its `time` is what `as_of` asks for: since when it is known.

    `supersedes` is the id of the verdict that this one takes the place of, empty for none. `code` is a failure mode of
    ISO 14224, for faults.
    """

    type: ClassVar[str] = "verdict.given"
    identity: ClassVar[tuple[str, ...]] = ("machine",)

    machine: str
    begins: Moment
    ends: Moment
    kind: str
    code: str
    confidence: float = Field(ge=0, le=1)
    by: str
    note: str
    supersedes: str
    request: str
