"""Events of the topic `work-orders`: what is to be done at a machine, from opening to closing.

`subject` is the work order's id. `revision` numbers its events from 1 without gaps.
"""

from typing import Any, ClassVar

from pydantic import Field

from shared.event import Event


class _WorkOrderEvent(Event):
    """A work order's event number `revision`. `request`: a digest of what was asked."""

    identity: ClassVar[tuple[str, ...]] = ("revision",)

    revision: int = Field(ge=1)
    by: str
    request: str = ""


class WorkOrderOpened(_WorkOrderEvent):
    """Something is to be done. `anomaly` is the id of the event that was the reason, if one was."""

    type: ClassVar[str] = "work-order.opened"

    machine: str
    component: str
    kind: str
    priority: str
    title: str
    description: str
    anomaly: str


class WorkOrderChanged(_WorkOrderEvent):
    """Some of its fields say something else now."""

    type: ClassVar[str] = "work-order.changed"

    fields: dict[str, Any]


class WorkOrderStarted(_WorkOrderEvent):
    """Somebody is at it."""

    type: ClassVar[str] = "work-order.started"


class WorkOrderClosed(_WorkOrderEvent):
    """It is done: the failure that was found by its code (ISO 14224), and what was done."""

    type: ClassVar[str] = "work-order.closed"

    failure_code: str
    actions: str


class WorkOrderCancelled(_WorkOrderEvent):
    """It will not be done."""

    type: ClassVar[str] = "work-order.cancelled"

    why: str
