"""Repairs of machines: work orders that were closed with a failure code, folded from their topic once for all who ask."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from shared.errors import Rejected
from shared.event import to_us
from shared.eventlog import EventLog, Position
from shared.events import parse_event
from shared.names import WORK_ORDERS
from shared.work_order_events import WorkOrderChanged, WorkOrderClosed, WorkOrderOpened


@dataclass(frozen=True, slots=True)
class Repair:
    """What had failed was mended. `anomaly` is the id of the event that the order was opened for, or empty."""

    order: str
    machine: str
    opened: datetime
    closed: datetime
    failure_code: str
    by: str
    anomaly: str


class Repairs:
    """Each look reads on from the last one.

    Maintenance alone, an order closed with no failure code, is no repair: after an oil change a bearing is as old as before.
    """

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._position: Position = {}
        self._opened: dict[str, WorkOrderOpened] = {}
        self._anomalies: dict[str, str] = {}
        self._closed: dict[str, list[WorkOrderClosed]] = {}
        self._reading = asyncio.Lock()

    async def of(self, machine: str) -> list[Repair]:
        """A machine's, by the time at which they were closed. Raises Unavailable."""
        async with self._reading:
            if await self._events.end(WORK_ORDERS) != self._position:
                async for stored in self._events.read(WORK_ORDERS, self._position):
                    self._take(stored.value)
                    self._position = {**self._position, stored.partition: stored.offset}
        found = [
            Repair(
                one.subject,
                machine,
                self._opened[one.subject].occurred_at,
                one.occurred_at,
                one.failure_code,
                one.by,
                self._anomalies[one.subject],
            )
            for one in self._closed.get(machine, ())
        ]
        return sorted(found, key=lambda each: each.closed)

    async def last_us(self, machine: str) -> int | None:
        """When a machine was last renewed; None where nobody says so. Raises Unavailable."""
        found = await self.of(machine)
        return to_us(found[-1].closed) if found else None

    def _take(self, value: bytes) -> None:
        try:
            event = parse_event(value)
        except Rejected:
            return  # of a later release
        match event:
            case WorkOrderOpened():
                self._opened[event.subject] = event
                self._anomalies[event.subject] = event.anomaly
            case WorkOrderChanged() if "anomaly" in event.fields:
                self._anomalies[event.subject] = str(event.fields["anomaly"])
            case WorkOrderClosed() if event.failure_code and event.subject in self._opened:
                self._closed.setdefault(self._opened[event.subject].machine, []).append(event)
