"""The fold of the topics `assets` and `work-orders`. No I/O here."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cloud.assets.model import (
    KINDS,
    Asset,
    Fields,
    Kind,
    MeterReading,
    OrderFields,
    Reset,
    Status,
    Thing,
    WorkOrder,
)
from shared.asset_events import (
    AssetEdited,
    AssetObserved,
    AssetRestored,
    AssetRetired,
    CounterReset,
    CounterSet,
)
from shared.event import Event
from shared.work_order_events import (
    WorkOrderCancelled,
    WorkOrderChanged,
    WorkOrderClosed,
    WorkOrderOpened,
    WorkOrderStarted,
)

SYSTEM: Final = "system"
"""Who changed what was observed."""
MAX_REQUESTS: Final = 10_000
"""Idempotency keys that are remembered."""

Look = Callable[[Kind, str], Fields | None]
"""An asset's fields; None where it does not exist or is retired."""


@dataclass(slots=True)
class State:
    """The fold of the topics `assets` and `work-orders`. `requests`: idempotency key to (digest, subject)."""

    assets: dict[tuple[Kind, str], Asset] = field(default_factory=dict)
    counters: dict[str, MeterReading] = field(default_factory=dict)
    orders: dict[str, WorkOrder] = field(default_factory=dict)
    requests: dict[str, tuple[str, str]] = field(default_factory=dict)

    def take(self, event: Event) -> Thing | None:
        """One more event; returns what it changed. Events taken before, and others' events, change nothing."""
        changed = self._evolved(event)
        match changed:
            case None:
                return None
            case Asset():
                self.assets[changed.kind, changed.id] = changed
            case MeterReading():
                self.counters[changed.id] = changed
            case WorkOrder():
                self.orders[changed.id] = changed
        request = getattr(event, "request", "")
        if request and event.correlation_id:
            self.requests.setdefault(event.correlation_id, (request, event.subject))
            if len(self.requests) > MAX_REQUESTS:
                del self.requests[next(iter(self.requests))]
        return changed

    def _evolved(self, event: Event) -> Thing | None:
        match event:
            case AssetObserved() | AssetEdited() | AssetRetired() | AssetRestored():
                if event.kind not in KINDS:
                    return None  # a later release's
                kind = Kind(event.kind)
                return evolve(self.assets.get((kind, event.subject)) or Asset(kind, event.subject), event)
            case CounterSet() | CounterReset():
                counter = self.counters.get(event.subject) or MeterReading(event.subject)
                return evolve_counter(counter, event)
        return evolve_order(self.orders.get(event.subject), event)

    def fields(self, kind: Kind, asset: str) -> Fields | None:
        """See Look."""
        found = self.assets.get((kind, asset))
        return None if found is None or found.retired_at is not None else found.fields

    def live(self, kind: Kind) -> list[Asset]:
        """Those of a kind that are in use."""
        return [asset for (one, _), asset in self.assets.items() if one is kind and asset.retired_at is None]


def evolve(asset: Asset, event: AssetObserved | AssetEdited | AssetRetired | AssetRestored) -> Asset | None:
    """The asset after its next event; None for one it had before."""
    if event.revision != asset.revision + 1:
        return None
    by = SYSTEM if isinstance(event, AssetObserved) else event.by
    asset = replace(
        asset,
        revision=event.revision,
        created_at=asset.created_at or event.occurred_at,
        changed_at=event.occurred_at,
        changed_by=by,
    )
    match event:
        case AssetObserved():
            return replace(asset, observed=merged(asset.observed, event.fields))
        case AssetEdited():
            return replace(asset, edited=merged(asset.edited, event.fields))
        case AssetRetired():
            return replace(asset, retired_at=event.occurred_at, retired_why=event.why)
        case AssetRestored():
            return replace(asset, retired_at=None, retired_why="")


def evolve_counter(counter: MeterReading, event: CounterSet | CounterReset) -> MeterReading | None:
    """The counter after its next event; None for one it had before."""
    if event.revision != counter.revision + 1:
        return None
    counter = replace(counter, revision=event.revision, changed_by=event.by)
    match event:
        case CounterSet():
            return replace(counter, value=event.value, as_of=event.as_of)
        case CounterReset():
            reset = Reset(event.occurred_at, event.by, event.reason, event.value)
            return replace(counter, value=0.0, as_of=event.occurred_at, resets=(*counter.resets, reset))


def merged(held: Fields, news: Fields) -> Fields:
    """`held` with `news`; null takes a field away."""
    return {name: value for name, value in {**held, **news}.items() if value is not None}


def evolve_order(order: WorkOrder | None, event: Event) -> WorkOrder | None:
    """The work order after its next event; None for one it had before, and for other events."""
    match event:
        case WorkOrderOpened() if order is None and event.revision == 1:
            return WorkOrder(
                event.subject, event.machine, event.component, event.kind, event.priority, event.title,
                event.description, event.anomaly, created_at=event.occurred_at, created_by=event.by,
                changed_at=event.occurred_at, changed_by=event.by, revision=1,
            )  # fmt: skip
        case WorkOrderChanged() | WorkOrderStarted() | WorkOrderClosed() | WorkOrderCancelled() if (
            order is not None and event.revision == order.revision + 1
        ):
            order = replace(order, revision=event.revision, changed_at=event.occurred_at, changed_by=event.by)
            return replace(order, **_changes(event))
    return None


def _changes(event: Event) -> dict[str, Any]:
    match event:
        case WorkOrderChanged():
            return {name: value for name, value in event.fields.items() if name in _ORDER_FIELDS}
        case WorkOrderStarted():
            return {"status": Status.IN_PROGRESS}
        case WorkOrderClosed():
            ended = {"closed_at": event.occurred_at, "closed_by": event.by}
            return {
                **ended, "status": Status.CLOSED, "failure_code": event.failure_code, "actions": event.actions
            }  # fmt: skip
        case WorkOrderCancelled():
            ended = {"closed_at": event.occurred_at, "closed_by": event.by}
            return {**ended, "status": Status.CANCELLED, "cancelled_why": event.why}
    return {}


_ORDER_FIELDS: Final = frozenset(OrderFields.model_fields)
