"""Audit events on their way from the outbox to the topic `audit`: at least once, in order, waiting while the log is away."""

import asyncio
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from cloud.people.port import Outbox
from shared.clock import Clock
from shared.errors import Conflict, Unavailable
from shared.eventlog import EventLog, Position, Record
from shared.names import AUDIT

log = structlog.get_logger()

KEY: Final = "people"
BATCH: Final = 100
IDLE_SECONDS: Final = 30.0
RETRY_SECONDS: Final = (0.5, 10.0)
SOURCE: Final = "cloud/people"


class AuditTopic:
    """The one appender of this process to `audit`: whoever decides by the topic's end holds `turn` until it wrote."""

    def __init__(self, events: EventLog) -> None:
        self.turn = asyncio.Lock()
        self._events = events

    async def append(self, key: str, records: list[Record]) -> Position:
        """Write at the end as it is now. Raises Unavailable, Conflict (another process writes there)."""
        async with self.turn:
            return await self._events.append(AUDIT, key, records, fence=await self._events.end(AUDIT))


class Metrics:
    """What waits."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sent = Counter("im_audit_events", "audit events that the log has", registry=registry)
        self.waiting = Gauge(
            "im_audit_waiting",
            "audit events that wait for the log, as last counted, up to a batch",
            registry=registry,
        )


class AuditSender:
    """Brings what waits into the log."""

    def __init__(self, outbox: Outbox, topic: AuditTopic, clock: Clock, metrics: Metrics) -> None:
        self._outbox, self._topic, self._clock, self._metrics = outbox, topic, clock, metrics
        self._news = asyncio.Event()

    def wake(self) -> None:
        """There is something new."""
        self._news.set()

    async def run(self) -> None:
        """For ever. Cut off anywhere it loses nothing: what was sent and not yet forgotten is sent again."""
        pause, longest = RETRY_SECONDS
        while True:
            self._news.clear()
            try:
                while await self.send():
                    pass
            except (Unavailable, Conflict) as error:
                log.debug("audit events wait", why=str(error))
                await self._clock.sleep(pause)
                pause = min(longest, 2 * pause)
                continue
            pause = RETRY_SECONDS[0]
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                continue  # another process may have left something

    async def send(self) -> bool:
        """Send a batch, if something waits. Returns whether there was one. Raises Unavailable, Conflict."""
        waiting = await self._outbox.waiting(BATCH)
        self._metrics.waiting.set(len(waiting))
        if not waiting:
            return False
        await self._topic.append(KEY, [Record(event, id=event_id) for _, event_id, event in waiting])
        await self._outbox.sent(waiting[-1][0])
        self._metrics.sent.inc(len(waiting))
        self._metrics.waiting.set(0)
        return True
