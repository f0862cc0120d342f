"""When machines were last renewed: a work order that was closed with a failure code mended what had failed."""

import asyncio

from shared.errors import Rejected
from shared.event import to_us
from shared.eventlog import EventLog, Position
from shared.events import parse_event
from shared.names import WORK_ORDERS
from shared.work_order_events import WorkOrderClosed, WorkOrderOpened


class Renewals:
    """Folded from the topic of work orders; each look reads on from the last one.

    Maintenance alone is no renewal: after an oil change a bearing is as old as before.
    """

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._position: Position = {}
        self._machines: dict[str, str] = {}
        self._last: dict[str, int] = {}
        self._reading = asyncio.Lock()

    async def last_us(self, machine: str) -> int | None:
        """Of a machine. Raises Unavailable."""
        async with self._reading:
            if await self._events.end(WORK_ORDERS) != self._position:
                async for stored in self._events.read(WORK_ORDERS, self._position):
                    self._take(stored.value)
                    self._position = {**self._position, stored.partition: stored.offset}
        return self._last.get(machine)

    def _take(self, value: bytes) -> None:
        try:
            event = parse_event(value)
        except Rejected:
            return  # of a later release
        match event:
            case WorkOrderOpened():
                self._machines[event.subject] = event.machine
            case WorkOrderClosed() if event.failure_code and event.subject in self._machines:
                machine = self._machines[event.subject]
                self._last[machine] = max(to_us(event.occurred_at), self._last.get(machine, 0))
