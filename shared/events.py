"""Events: low-rate facts as frozen models, written as CloudEvents 1.0 JSON (`shared/event.py`).

Only the newest version of an event is a class here. Older ones live on as pure `upcast` functions in `UPCASTS`,
each with a golden file under tests/golden/events that stays for ever. To add an event, see CONTRIBUTING.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field

from shared.asset_events import (
    AssetEdited,
    AssetObserved,
    AssetRestored,
    AssetRetired,
    CounterReset,
    CounterSet,
)
from shared.command_events import CommandAnswered, CommandIssued
from shared.errors import Rejected
from shared.event import SPEC_VERSION, Event, Moment, at, deterministic_id, to_us
from shared.machine_events import (
    LimitCleared,
    LimitCrossed,
    MachineCounted,
    MaintenanceEnded,
    MaintenanceStarted,
    ReadingsHeld,
    StateChanged,
    limit_before_rules,
)
from shared.people_events import (
    LoginLinkMade,
    SessionEnded,
    SessionRefused,
    SessionStarted,
    SigningKeyMade,
    TokenMade,
    TokenRevoked,
    UserAdded,
    UserChanged,
    UserPasswordSet,
)
from shared.retraining_events import ChallengerJudged, RetrainingDecided
from shared.verdict_events import VerdictGiven
from shared.vibration_events import BearingCleared, BearingSuspected, VibrationStepped, ZoneChanged
from shared.work_order_events import (
    WorkOrderCancelled,
    WorkOrderChanged,
    WorkOrderClosed,
    WorkOrderOpened,
    WorkOrderStarted,
)

__all__ = ["Event", "Moment", "at", "deterministic_id", "to_us"]


class Sensor(BaseModel):
    """A sensor's part in a deviation: its share of the score, what was seen, what the model expected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sensor: str
    share: float = Field(ge=0, le=1)
    seen: float | None
    expected: float | None
    unit: str


class EdgeStarted(Event):
    """An edge agent came up with an outbox epoch."""

    type: ClassVar[str] = "edge.started"
    identity: ClassVar[tuple[str, ...]] = ("epoch", "occurred_at")

    epoch: str
    software: str


class AnomalyStarted(Event):
    """The score stayed above the limit for m of n windows. `onset` is the first of them."""

    type: ClassVar[str] = "anomaly.started"
    identity: ClassVar[tuple[str, ...]] = ("rule", "onset")

    rule: str
    edge: str
    onset: Moment
    score: float
    limit: float
    model: str
    version_hash: str
    sensors: tuple[Sensor, ...]


class AnomalyEnded(Event):
    """The score returned to normal."""

    type: ClassVar[str] = "anomaly.ended"
    identity: ClassVar[tuple[str, ...]] = ("rule", "onset")

    rule: str
    edge: str
    onset: Moment
    peak_score: float
    limit: float


class ModelRegistered(Event):
    """A model exists: its artifact is in the object store under `object_name`."""

    type: ClassVar[str] = "model.registered"
    identity: ClassVar[tuple[str, ...]] = ("model", "model_version")

    model: str
    model_version: int
    version_hash: str
    object_name: str
    provisional: bool
    manifest: dict[str, Any]


class _ModelOnEdge(Event):
    """A registered model and an edge."""

    identity: ClassVar[tuple[str, ...]] = ("edge", "version_hash", "occurred_at")

    edge: str
    model: str
    model_version: int
    version_hash: str


class ModelPromoted(_ModelOnEdge):
    """An edge is to run this model for the machine (`subject`) from now on."""

    type: ClassVar[str] = "model.promoted"


class ModelActivated(_ModelOnEdge):
    """An edge runs a model for a machine from `occurred_at` on."""

    type: ClassVar[str] = "model.activated"


class ModelRefused(_ModelOnEdge):
    """An edge kept a model out; the old one, if any, runs on."""

    type: ClassVar[str] = "model.refused"
    identity: ClassVar[tuple[str, ...]] = ("edge", "version_hash", "reason")

    reason: str


class _LetterHandled(Event):
    """A dead letter, by its place `PARTITION-OFFSET` in the topic `dead-letter`, and who saw to it."""

    identity: ClassVar[tuple[str, ...]] = ("letter", "occurred_at")

    letter: str
    by: str


class DeadLetterReplayed(_LetterHandled):
    """A refused input was sent again, to the MQTT or log topic that it came on; a second refusal is a new letter."""

    type: ClassVar[str] = "dead-letter.replayed"

    via: str
    topic: str


class DeadLetterDropped(_LetterHandled):
    """A dead letter needs nothing more; it stays where it is."""

    type: ClassVar[str] = "dead-letter.dropped"

    why: str


class _NodeEvent(Event):
    """A Sparkplug node, or a device of it (`device` empty for the node itself); `edge` is the gateway that heard it."""

    identity: ClassVar[tuple[str, ...]] = ("group", "node", "device", "occurred_at")

    edge: str
    group: str
    node: str
    device: str


class NodeOnline(_NodeEvent):
    """A birth: the node or device is up. A node's own birth makes its devices stale until theirs."""

    type: ClassVar[str] = "node.online"

    bd_seq: int | None
    metrics: int


class NodeOffline(_NodeEvent):
    """A death: what is last known of the node or device is stale."""

    type: ClassVar[str] = "node.offline"

    bd_seq: int | None
    reason: str


class NodeGap(_NodeEvent):
    """Messages of a node are lost: its sequence jumped, and they did not come in time."""

    type: ClassVar[str] = "node.gap"
    identity: ClassVar[tuple[str, ...]] = ("group", "node", "expected", "occurred_at")

    expected: int
    found: int
    missed: int


class SparkplugMetric(_NodeEvent):
    """A value that is no reading: a text, a time, a table, a template, bytes, an array."""

    type: ClassVar[str] = "sparkplug.metric"
    identity: ClassVar[tuple[str, ...]] = ("metric", "occurred_at")

    metric: str
    datatype: str
    value: Any
    quality: str
    historical: bool


EVENTS: Final[Mapping[str, type[Event]]] = {
    cls.type: cls
    for cls in (
        EdgeStarted,
        AnomalyStarted,
        BearingCleared,
        BearingSuspected,
        VibrationStepped,
        ZoneChanged,
        AnomalyEnded,
        LimitCrossed,
        LimitCleared,
        ReadingsHeld,
        StateChanged,
        MachineCounted,
        MaintenanceStarted,
        MaintenanceEnded,
        ModelRegistered,
        ModelPromoted,
        ModelActivated,
        ModelRefused,
        RetrainingDecided,
        ChallengerJudged,
        DeadLetterReplayed,
        DeadLetterDropped,
        NodeOnline,
        NodeOffline,
        NodeGap,
        SparkplugMetric,
        AssetObserved,
        AssetEdited,
        AssetRetired,
        AssetRestored,
        CounterSet,
        CounterReset,
        WorkOrderOpened,
        WorkOrderChanged,
        WorkOrderStarted,
        WorkOrderClosed,
        WorkOrderCancelled,
        VerdictGiven,
        CommandIssued,
        CommandAnswered,
        UserAdded,
        UserChanged,
        UserPasswordSet,
        TokenMade,
        TokenRevoked,
        SessionStarted,
        SessionRefused,
        SessionEnded,
        LoginLinkMade,
        SigningKeyMade,
    )
}

Upcast = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTS: Final[Mapping[tuple[str, int], Upcast]] = {
    (LimitCrossed.type, 1): limit_before_rules,
    (LimitCleared.type, 1): limit_before_rules,
}
"""(type, old version) to a function from that version's data to the next one's."""


def parse_event(
    data: bytes,
    events: Mapping[str, type[Event]] = EVENTS,
    upcasts: Mapping[tuple[str, int], Upcast] = UPCASTS,
) -> Event:
    """The event in CloudEvents JSON of any shipped version, brought up to the newest. Raises Rejected."""
    try:
        envelope = orjson.loads(data)
        kind, version, content = envelope["type"], envelope["dataversion"], dict(envelope["data"])
        if envelope["specversion"] != SPEC_VERSION:
            raise Rejected(
                f"CloudEvents version {envelope['specversion']!r}: this release reads {SPEC_VERSION}"
            )
        cls = events.get(kind)
        if cls is None:
            raise Rejected(f"unknown event type {str(kind)[:60]!r}")
        if type(version) is not int or version > cls.version:
            raise Rejected(f"{kind} version {version!r}: this release reads up to {cls.version}")
        for old in range(version, cls.version):
            content = upcasts[(kind, old)](content)
        return cls.from_data(envelope, content)
    except (KeyError, TypeError, ValueError, OverflowError) as error:  # ValidationError is a ValueError
        raise Rejected(f"not an event: {str(error)[:300]}") from error
