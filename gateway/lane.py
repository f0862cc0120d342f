"""A lane: one subscription from the broker through the planner into the log, acknowledged after the log confirmed.

Lanes share nothing but the log, so urgent events never wait behind telemetry. Each holds a bounded number of
batches; when they are all waiting, it stops receiving, and the broker keeps the rest.
"""

import asyncio
import random
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.logic import Assignments, Group, Plan, acknowledgements
from gateway.port import Arrivals, BrokerClient
from shared.clock import Clock
from shared.errors import Unavailable
from shared.eventlog import EventLog
from shared.service import wait_or_stop

log = structlog.get_logger()

_APPEND_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.1, 0.3, 1.0, 5.0, 30.0)
_FIRST_RETRY_SECONDS = 0.05

T = TypeVar("T")


class Metrics:
    """The gateway's figures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def named(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"im_gateway_{name}", text, labels, registry=registry)

        self.messages = named("messages", "MQTT messages acknowledged", "lane")
        self.records = named("records", "records that the log confirmed", "topic")
        self.rows = named("rows", "edges' rows acknowledged", "kind")
        self.refusals = named("refusals", "inputs sent to dead-letter", "reason")
        self.retries = named("append_retries", "appends tried again", "topic")
        self.append = Histogram(
            "im_gateway_append_seconds", "from asking the log to its confirmation",
            buckets=_APPEND_BUCKETS, registry=registry,
        )  # fmt: skip
        self.sessions_lost = Gauge(
            "im_gateway_sessions_lost", "times the broker forgot a persistent session and what it held", ["lane"],
            registry=registry,
        )  # fmt: skip
        self.in_flight = Gauge(
            "im_gateway_in_flight_messages", "messages that wait for the log", ["lane"], registry=registry
        )


@dataclass
class Known:
    """Who watches which machine, as far as the gateway knows; `loaded` once the first reading is complete."""

    assignments: dict[str, tuple[str, str]] = field(default_factory=dict)
    loaded: asyncio.Event = field(default_factory=asyncio.Event)

    def problem(self) -> str:
        """For readiness."""
        return "" if self.loaded.is_set() else "not read yet"


Make = Callable[[Arrivals, Assignments], Plan]
Refresh = Callable[[], Awaitable[Assignments]]


async def until(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """The work's result, or None once told to stop."""
    task, stopper = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopper}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        stopper.cancel()


class Lane:
    """One client and its subscription. `waiting_for` says what keeps it from storing, or is empty."""

    def __init__(
        self,
        name: str,
        client: BrokerClient,
        make: Make,
        *,
        event_log: EventLog,
        known: Known,
        refresh: Refresh,
        metrics: Metrics,
        clock: Clock,
        batch_messages: int,
        batches_in_flight: int,
        retry_cap_seconds: float,
        gather_seconds: float = 0.0,
    ) -> None:
        self.name = name
        self.waiting_for = ""
        self._subscribed = False
        self._client = client
        metrics.sessions_lost.labels(name).set_function(lambda: client.sessions_lost)
        self._make = make
        self._log = event_log
        self._known = known
        self._refresh = refresh
        self._metrics = metrics
        self._clock = clock
        self._batch_messages = batch_messages
        self._slots = asyncio.Semaphore(batches_in_flight)
        self._retry_cap = retry_cap_seconds
        self._gather_seconds = gather_seconds

    def problem(self) -> str:
        """What keeps the lane from working, for readiness; empty when nothing does."""
        if not self._client.connected.is_set() or self._client.last_error:
            return self._client.last_error or "not connected to the broker yet"
        return self.waiting_for or ("" if self._subscribed else "not subscribed yet")

    async def subscribe(self, filters: Sequence[str], stop: asyncio.Event) -> None:
        """Subscribe, and return at `stop`. Runs beside `run`: a session's queue may come before the broker's word."""
        await until(stop, self._known.loaded.wait())
        await until(stop, self._client.subscribe(*filters))
        self._subscribed = True
        await stop.wait()

    async def run(self, stop: asyncio.Event) -> None:
        """Store what comes until `stop`; batches in flight then finish or are left unacknowledged."""
        await until(stop, self._known.loaded.wait())
        async with asyncio.TaskGroup() as batches:
            while not stop.is_set():
                await self._slots.acquire()
                arrivals = await until(stop, self._client.receive(self._batch_messages))
                if arrivals is None:
                    return
                batches.create_task(self._handle(arrivals, stop), name=f"batch of {self.name}")
                if self._gather_seconds and len(arrivals) < self._batch_messages:
                    await self._clock.sleep(self._gather_seconds)  # a batch costs more than its messages do

    async def _handle(self, arrivals: Arrivals, stop: asyncio.Event) -> None:
        in_flight = self._metrics.in_flight.labels(self.name)
        in_flight.inc(len(arrivals))
        try:
            plan = await self._plan(arrivals, stop)
            if plan is not None:
                await self._store(plan, arrivals, stop)
        finally:
            in_flight.dec(len(arrivals))
            self._slots.release()

    async def _plan(self, arrivals: Arrivals, stop: asyncio.Event) -> Plan | None:
        """The batch's plan; a machine that seems foreign is looked up afresh before its frame is refused for good."""
        plan = self._make(arrivals, self._known.assignments)
        delay = _FIRST_RETRY_SECONDS
        while plan.unassigned:
            try:
                plan = self._make(arrivals, await self._refresh())
                break
            except Unavailable as error:
                delay = await self._wait(error, delay, stop)
                if stop.is_set():
                    return None
        return plan

    async def _store(self, plan: Plan, arrivals: Arrivals, stop: asyncio.Event) -> None:
        """Append every group and acknowledge all messages; if any fails, what is complete, and so on until all is."""
        failures = await self._append_all(plan.groups)
        if not failures:
            self.waiting_for = ""
            await self._done(plan, arrivals, None)
        elif not await self._store_rest(plan, arrivals, failures, stop):
            return  # unacknowledged: they come again
        for refusal in plan.refusals:
            self._metrics.refusals.labels(refusal.reason).inc()

    async def _store_rest(
        self, plan: Plan, arrivals: Arrivals, failures: dict[int, Unavailable], stop: asyncio.Event
    ) -> bool:
        """Append the groups that failed again and again while the log is away; returns whether it came to an end."""
        groups: Sequence[Group] = plan.groups
        left = Tally(index for group in groups for index in group.messages)
        finished = [index for index in range(len(arrivals)) if not left[index]]
        delay = _FIRST_RETRY_SECONDS
        while True:
            for at, group in enumerate(groups):
                if at not in failures:
                    left.subtract(group.messages)
                    finished += [index for index in group.messages if not left[index]]
            await self._done(plan, arrivals, finished)
            if not failures:
                self.waiting_for = ""
                return True
            groups, finished = [groups[at] for at in failures], []
            delay = await self._wait(next(iter(failures.values())), delay, stop)
            if stop.is_set():
                return False
            failures = await self._append_all(groups)

    async def _append_all(self, groups: Sequence[Group]) -> dict[int, Unavailable]:
        """Append the groups at once; returns which of them failed."""
        outcomes = await asyncio.gather(*(self._append(group) for group in groups))
        return {at: outcome for at, outcome in enumerate(outcomes) if outcome is not None}

    async def _append(self, group: Group) -> Unavailable | None:
        started = self._clock.monotonic()
        try:
            await self._log.append(group.topic, group.key, group.records)
        except Unavailable as error:
            self._metrics.retries.labels(group.topic).inc()
            return error
        self._metrics.append.observe(self._clock.monotonic() - started)
        self._metrics.records.labels(group.topic).inc(len(group.records))
        return None

    async def _wait(self, error: Unavailable, delay: float, stop: asyncio.Event) -> float:
        if not self.waiting_for:
            log.warning("the log is away; nothing is acknowledged", lane=self.name, problem=str(error))
        self.waiting_for = str(error)
        await wait_or_stop(stop, delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
        return min(2 * delay, self._retry_cap)

    async def _done(self, plan: Plan, arrivals: Arrivals, indices: Sequence[int] | None) -> None:
        """Free the edges' rows, then the broker's copies: what is lost in between comes again, twice at worst.

        None stands for all messages.
        """
        held = plan.headers
        headers = [*held.values()] if indices is None else [held[index] for index in indices if index in held]
        if self._client.connected.is_set():
            for topic, ack in acknowledgements(headers):
                # QoS 0: a lost ack is answered by the edge's resend, and a queued one would be stale.
                await self._client.publish(str(topic), ack.encode(), qos=0)
        self._client.ack(arrivals, indices)
        for header in headers:
            self._metrics.rows.labels(header.kind.name).inc(header.count)
        self._metrics.messages.labels(self.name).inc(len(arrivals) if indices is None else len(indices))
