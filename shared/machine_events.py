"""Events that an edge makes of a machine's readings alone: plain limits, operating state, counts, maintenance mode."""

from datetime import datetime
from typing import Any, ClassVar

from pydantic import Field

from shared.event import Event, Moment, deterministic_id


def alarm_id(rule: str, machine: str, onset: datetime) -> str:
    """The alarm's id, the same wherever it is raised: at the edge with no uplink, and again by whoever hears of it."""
    return deterministic_id("alarm", rule, machine, onset)


def limit_rule(sensor: str, side: str) -> str:
    """The rule that a plain limit is."""
    return f"limit/{sensor}/{side}"


class _LimitEvent(Event):
    """A plain limit of one sensor, the reading that passed it, and since when it was passed.

    `correlation_id` is the alarm's id: hash of rule, machine and onset.
    """

    version: ClassVar[int] = 2
    identity: ClassVar[tuple[str, ...]] = ("sensor", "side", "occurred_at")

    edge: str
    sensor: str
    side: str
    value: float
    limit: float
    unit: str
    rule: str
    onset: Moment | None


class LimitCrossed(_LimitEvent):
    """A reading stayed outside its plain limit for the limit's delay; `onset` is the first one outside."""

    type: ClassVar[str] = "limit.crossed"


class LimitCleared(_LimitEvent):
    """A reading came back inside its plain limit."""

    type: ClassVar[str] = "limit.cleared"


def limit_before_rules(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had neither rule nor onset: it knew no delay, so an onset that is not told is the event's own time."""
    return {**data, "rule": limit_rule(data["sensor"], data["side"]), "onset": None}


class ReadingsHeld(Event):
    """A deadband left out a sensor's reading, for the first time since the agent's start; `occurred_at` is that reading's.

    From then on what lies between two rows of the sensor that are further apart than `interval_seconds`, that reading from
    the one before, may be a value that was held.
    """

    type: ClassVar[str] = "readings.held"
    identity: ClassVar[tuple[str, ...]] = ("edge", "sensor", "occurred_at")

    edge: str
    sensor: str
    deadband: float = Field(ge=0)
    silence_seconds: float = Field(gt=0)
    interval_seconds: float = Field(gt=0)
    unit: str


class StateChanged(Event):
    """A machine's operating state changed; `changeover` where it is steady at another set-point than before."""

    type: ClassVar[str] = "state.changed"
    identity: ClassVar[tuple[str, ...]] = ("edge", "occurred_at")

    edge: str
    before: str
    after: str
    changeover: bool
    sensor: str
    value: float
    unit: str


class MachineCounted(Event):
    """What a machine ran up from `since` to `occurred_at`, on top of what was told before; and its totals."""

    type: ClassVar[str] = "machine.counted"
    identity: ClassVar[tuple[str, ...]] = ("edge", "since")

    edge: str
    since: Moment
    run_hours: float = Field(ge=0)
    starts: int = Field(ge=0)
    cycles: int = Field(ge=0)
    total_run_hours: float = Field(ge=0)
    total_starts: int = Field(ge=0)
    total_cycles: int = Field(ge=0)


class _Maintenance(Event):
    """Maintenance mode of a machine."""

    identity: ClassVar[tuple[str, ...]] = ("edge", "occurred_at")

    edge: str
    by: str


class MaintenanceStarted(_Maintenance):
    """A machine is being worked on: scores go on and are marked, nothing is raised until it ends, at `until` if told."""

    type: ClassVar[str] = "maintenance.started"

    until: Moment | None
    why: str


class MaintenanceEnded(_Maintenance):
    """The machine is watched again; `by` is empty where the time was over."""

    type: ClassVar[str] = "maintenance.ended"
