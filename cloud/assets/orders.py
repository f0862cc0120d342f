"""What people make of counters and work orders: commands to events. No I/O here."""

from datetime import datetime
from typing import Final

from pydantic import ValidationError

from cloud.assets.fold import State
from cloud.assets.logic import SOURCE, Ask, check_revision, done_before, first_fault
from cloud.assets.model import OVER, Fields, Kind, MeterReading, OrderFields, Status, WorkOrder
from shared.asset_events import CounterReset, CounterSet
from shared.errors import Conflict, NotFound, Rejected
from shared.event import Event
from shared.names import check_id
from shared.work_order_events import (
    WorkOrderCancelled,
    WorkOrderChanged,
    WorkOrderClosed,
    WorkOrderOpened,
    WorkOrderStarted,
)

_PARTS: Final = (2, 3)
"""MACHINE.NAME, MACHINE.COMPONENT.NAME."""


# Counters


def decide_count(state: State, counter: str, value: float, as_of: datetime, ask: Ask) -> list[Event]:
    """A counter's value. Raises Rejected (no such machine or component), Stale."""
    if done_before(state, ask) is not None:
        return []
    found = _counter(state, counter)
    check_revision(ask, found.revision)
    if (found.value, found.as_of) == (value, as_of):
        return []
    return [
        CounterSet(
            source=SOURCE, subject=counter, occurred_at=ask.at, correlation_id=ask.request,
            revision=found.revision + 1, by=ask.by, request=ask.digest, value=value, as_of=as_of,
        )
    ]  # fmt: skip


def decide_reset(state: State, counter: str, reason: str, ask: Ask) -> list[Event]:
    """A counter begins at nought again. Raises NotFound (it never counted), Rejected, Stale."""
    if done_before(state, ask) is not None:
        return []
    found = _counter(state, counter)
    if not found.revision:
        raise NotFound(f"there is no counter {counter[:130]!r}")
    check_revision(ask, found.revision)
    return [
        CounterReset(
            source=SOURCE, subject=counter, occurred_at=ask.at, correlation_id=ask.request,
            revision=found.revision + 1, by=ask.by, request=ask.digest, value=found.value, reason=reason,
        )
    ]  # fmt: skip


def _counter(state: State, counter: str) -> MeterReading:
    parts = counter.split(".")
    if len(parts) not in _PARTS:
        raise Rejected(f"{counter[:130]!r} is no counter's id: use MACHINE.NAME or MACHINE.COMPONENT.NAME")
    for part in parts:
        check_id(part, "counter")
    found = state.counters.get(counter) or MeterReading(counter)
    kind, owner = found.owner
    if state.fields(kind, owner) is None:
        raise Rejected(f"counter: there is no {kind} {owner!r} in use")
    return found


# Work orders


def decide_opening(state: State, machine: str, fields: Fields, ask: Ask) -> list[Event]:
    """Something is to be done at a machine; the order's id is the next number. Raises Rejected."""
    if done_before(state, ask) is not None:
        return []
    said = _order_fields(fields)
    if not said.get("title"):
        raise Rejected("title: say what is to be done")
    if state.fields(Kind.MACHINE, machine) is None:
        raise Rejected(f"machine: there is no machine {machine[:40]!r} in use")
    _check_component(state, machine, said)
    return [
        WorkOrderOpened(
            source=SOURCE, subject=f"wo-{len(state.orders) + 1}", occurred_at=ask.at,
            correlation_id=ask.request, revision=1, by=ask.by, request=ask.digest, machine=machine,
            component=said.get("component", ""), kind=said.get("kind", "corrective"),
            priority=said.get("priority", "medium"), title=said["title"],
            description=said.get("description", ""), anomaly=said.get("anomaly", ""),
        )
    ]  # fmt: skip


def decide_order_change(state: State, order: str, fields: Fields, ask: Ask) -> list[Event]:
    """Other words for an order that is not over. Raises NotFound, Stale, Conflict (it is over), Rejected."""
    if done_before(state, ask) is not None:
        return []
    found = _running(state, order, ask)
    said = _order_fields(fields)
    _check_component(state, found.machine, said)
    news = {name: value for name, value in said.items() if getattr(found, name) != value}
    if not news:
        return []
    return [
        WorkOrderChanged(
            source=SOURCE, subject=order, occurred_at=ask.at, correlation_id=ask.request,
            revision=found.revision + 1, by=ask.by, request=ask.digest, fields=news,
        )
    ]  # fmt: skip


def decide_start(state: State, order: str, ask: Ask) -> list[Event]:
    """Somebody is at it. Raises NotFound, Stale, Conflict (it is over)."""
    if done_before(state, ask) is not None:
        return []
    found = _running(state, order, ask)
    if found.status is Status.IN_PROGRESS:
        return []
    return [
        WorkOrderStarted(
            source=SOURCE, subject=order, occurred_at=ask.at, correlation_id=ask.request,
            revision=found.revision + 1, by=ask.by, request=ask.digest,
        )
    ]  # fmt: skip


def decide_closing(state: State, order: str, failure_code: str, actions: str, ask: Ask) -> list[Event]:
    """It is done. Raises NotFound, Stale, Conflict (it is over)."""
    if done_before(state, ask) is not None:
        return []
    found = _running(state, order, ask)
    return [
        WorkOrderClosed(
            source=SOURCE, subject=order, occurred_at=ask.at, correlation_id=ask.request,
            revision=found.revision + 1, by=ask.by, request=ask.digest,
            failure_code=failure_code or found.failure_code, actions=actions or found.actions,
        )
    ]  # fmt: skip


def decide_cancelling(state: State, order: str, why: str, ask: Ask) -> list[Event]:
    """It will not be done. Raises NotFound, Stale, Conflict (it is over)."""
    if done_before(state, ask) is not None:
        return []
    found = _running(state, order, ask)
    return [
        WorkOrderCancelled(
            source=SOURCE, subject=order, occurred_at=ask.at, correlation_id=ask.request,
            revision=found.revision + 1, by=ask.by, request=ask.digest, why=why,
        )
    ]  # fmt: skip


def _running(state: State, order: str, ask: Ask) -> WorkOrder:
    found = state.orders.get(order)
    if found is None:
        raise NotFound(f"there is no work order {order[:40]!r}")
    check_revision(ask, found.revision)
    if found.status in OVER:
        raise Conflict(f"work order {order} is {found.status} already")
    return found


def _order_fields(fields: Fields) -> Fields:
    try:
        said = OrderFields.model_validate(dict(fields)).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        raise Rejected(first_fault(error)) from None
    return {name: value for name, value in said.items() if value is not None}


def _check_component(state: State, machine: str, fields: Fields) -> None:
    component = str(fields.get("component") or "")
    if component and (
        component.partition(".")[0] != machine or state.fields(Kind.COMPONENT, component) is None
    ):
        raise Rejected(f"component: {component!r} is no component of {machine} in use")
