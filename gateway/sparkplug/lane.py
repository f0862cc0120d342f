"""The host's I/O: one connection to the broker, its STATE, and what came of each turn into the log.

One turn is carried out before the next is taken, so that rows keep their order; while the log is away nothing is
received, and the broker holds, or for want of room drops, the rest: what is dropped shows as a gap.
"""

import asyncio
import contextlib
import random
from collections.abc import Coroutine
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.lane import Known
from gateway.port import Arrivals, BrokerClient, Will
from gateway.sparkplug.gathered import Gathered, Write
from gateway.sparkplug.host import Host, Turn
from gateway.sparkplug.numbering import Numbering
from shared.clock import Clock
from shared.errors import Rejected, Unavailable
from shared.eventlog import EventLog
from shared.service import wait_or_stop
from shared.sparkplug.state import HostState
from shared.sparkplug.topics import StateTopic, host_filters

log = structlog.get_logger()

TICK_SECONDS: Final = 0.25
MAX_COMMANDS: Final = 1000
_FAREWELL_SECONDS: Final = 2.0
_FIRST_RETRY_SECONDS: Final = 0.05
_ANNOUNCE_SECONDS: Final = 1.0


class SparkplugMetrics:
    """The host's figures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"im_gateway_sparkplug_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"im_gateway_sparkplug_{name}", text, registry=registry)

        self.messages = counter("messages", "Sparkplug messages by what became of them", "fate")
        self.samples = counter("metrics", "metrics' values by what became of them", "outcome")
        self.gaps = counter("gaps", "gaps in nodes' sequences that did not close in time")
        self.missed = counter("missed", "messages that were lost in them, at least")
        self.rebirths = counter("rebirths", "requests for a rebirth")
        self.nodes = gauge("nodes", "nodes that are up")
        self.waiting = gauge("waiting_messages", "messages that wait behind a gap")


class Announcer:
    """The host's STATE. Will and birth of one connection carry one timestamp, and no two connections share one."""

    def __init__(self, host_id: str, clock: Clock) -> None:
        self.topic = str(StateTopic(host_id))
        self._clock = clock
        self._timestamp_ms = 0

    def will(self) -> Will:
        """The word to leave with the broker at a connect."""
        self._timestamp_ms = max(self._clock.now_us() // 1000, self._timestamp_ms + 1)
        return Will(self.topic, HostState(False, self._timestamp_ms).encode())

    def birth(self) -> bytes:
        """Online, with the will's timestamp."""
        return HostState(True, self._timestamp_ms).encode()

    def again(self) -> bytes:
        """Online, as of now: someone said otherwise."""
        return HostState(True, max(self._clock.now_us() // 1000, self._timestamp_ms)).encode()

    def death(self) -> bytes:
        """Offline, as of now."""
        return HostState(False, max(self._clock.now_us() // 1000, self._timestamp_ms)).encode()


class SparkplugLane:
    """The host on its connection. `client` is a clean session with `announcer.will` as its will."""

    def __init__(
        self,
        host_id: str,
        client: BrokerClient,
        announcer: Announcer,
        *,
        host: Host,
        numbering: Numbering,
        event_log: EventLog,
        known: Known,
        metrics: SparkplugMetrics,
        clock: Clock,
        batch_messages: int,
        retry_cap_seconds: float,
    ) -> None:
        self.waiting_for = ""
        self._subscribed = False
        self._filters = host_filters(host_id)
        self._client = client
        self._announcer = announcer
        self._host = host
        self._numbering = numbering
        self._log = event_log
        self._known = known
        self._metrics = metrics
        self._clock = clock
        self._batch_messages = batch_messages
        self._retry_cap = retry_cap_seconds
        self._connection = self._announced_for = 0
        self._announced_at: float | None = None
        self._to_say: asyncio.Queue[tuple[str, bytes, int]] = asyncio.Queue(MAX_COMMANDS)

    def problem(self) -> str:
        """What keeps the host from working, for readiness; empty when nothing does."""
        if not self._client.connected.is_set() or self._client.last_error:
            return self._client.last_error or "not connected to the broker yet"
        return self.waiting_for or ("" if self._subscribed else "not subscribed yet")

    async def run(self, stop: asyncio.Event) -> None:
        """Be the host until `stop`, then say that it is offline."""
        work = asyncio.create_task(self._work(stop), name="sparkplug host")
        saying = asyncio.create_task(self._say(), name="sparkplug commands")
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, saying, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if saying.done():
                saying.result()
            await work
        finally:
            for task in (work, saying, stopping):
                task.cancel()
            await asyncio.gather(work, saying, stopping, return_exceptions=True)
            await self._farewell()

    async def _work(self, stop: asyncio.Event) -> None:
        await _either(stop, self._known.loaded.wait())
        # Receiving goes on meanwhile: what the broker sends before its grant must not stand in the grant's way.
        subscribing = asyncio.create_task(self._client.subscribe(*self._filters))
        stopping = asyncio.create_task(stop.wait())
        receiving: asyncio.Task[Arrivals] | None = None
        try:
            while not stop.is_set():
                receiving = receiving or asyncio.create_task(self._client.receive(self._batch_messages))
                awaited = {receiving, stopping} if self._subscribed else {receiving, stopping, subscribing}
                await asyncio.wait(awaited, timeout=TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if subscribing.done():
                    subscribing.result()
                    self._subscribed = True
                arrivals = None
                if receiving.done():
                    arrivals, receiving = receiving.result(), None
                await self._turn(arrivals, stop)
        finally:
            for task in (subscribing, stopping, receiving):
                if task is not None:
                    task.cancel()

    async def _turn(self, arrivals: Arrivals | None, stop: asyncio.Event) -> None:
        """One batch of messages, or none, and what time brought: through the host, to the log and to the nodes."""
        turn = Turn(self._clock.now_us(), self._clock.monotonic(), self._known.assignments)
        out = Gathered()
        self._connect(arrivals, turn, out)
        if arrivals is not None:
            for topic, payload in zip(arrivals.topics, arrivals.payloads, strict=True):
                self._host.message(topic, payload, turn, out)
        if self._client.connected.is_set():
            self._host.tick(turn, out)
        self._speak(out, turn)
        stored = await self._store(out.writes(self._numbering, turn.now_us), stop)
        if stored and arrivals is not None:
            self._client.ack(arrivals)
        self._count(out)

    def _connect(self, arrivals: Arrivals | None, turn: Turn, out: Gathered) -> None:
        """Notice a connection's end (what is known is stale) and a new one (the host says that it is online)."""
        if arrivals is not None:
            now = arrivals.connection
        else:
            now = self._client.connections if self._client.connected.is_set() else 0
        if now != self._connection:
            if self._connection:
                self._host.lose(turn, out)
            self._connection = now
        if now and self._subscribed and self._announced_for != now:
            self._queue(self._announcer.topic, self._announcer.birth(), 1)
            self._announced_for, self._announced_at = now, turn.now

    def _speak(self, out: Gathered, turn: Turn) -> None:
        """Hand the commands over; STATE again if someone denied it, but not faster than two hosts could argue."""
        for topic, payload in out.commands:
            self._queue(topic, payload, 0)
        recent = self._announced_at is not None and turn.now - self._announced_at < _ANNOUNCE_SECONDS
        if out.announce and not recent:
            self._queue(self._announcer.topic, self._announcer.again(), 1)
            self._announced_at = turn.now
        for sentence in out.told:
            log.warning("sparkplug", told=sentence)

    def _queue(self, topic: str, payload: bytes, qos: int) -> None:
        """When too many wait for the broker the oldest goes: a node that still needs a rebirth is asked again."""
        if self._to_say.full():
            self._to_say.get_nowait()
        self._to_say.put_nowait((topic, payload, qos))

    async def _say(self) -> None:
        """Publish what is queued: apart from receiving, which a confirmation may have to wait for."""
        while True:
            topic, payload, qos = await self._to_say.get()
            try:
                await self._client.publish(topic, payload, qos=qos, retain=topic == self._announcer.topic)
            except Rejected as error:
                log.warning("the broker refuses what the host says", topic=topic, problem=error.reason)

    async def _farewell(self) -> None:
        """The host ends in order: the broker will not publish its will then, so it says so itself."""
        if not self._client.connected.is_set():
            return
        with contextlib.suppress(TimeoutError, Rejected, Unavailable):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._client.publish(self._announcer.topic, self._announcer.death(), qos=1, retain=True)

    async def _store(self, writes: list[Write], stop: asyncio.Event) -> bool:
        """Append, again and again while the log is away; False if it was told to stop before all was in."""
        delay = _FIRST_RETRY_SECONDS
        while writes:
            failures = await asyncio.gather(*(self._append(each) for each in writes))
            writes = [write for write, failure in zip(writes, failures, strict=True) if failure is not None]
            if not writes:
                break
            problem = str(next(failure for failure in failures if failure is not None))
            if not self.waiting_for:
                log.warning("the log is away; the Sparkplug host receives nothing", problem=problem)
            self.waiting_for = problem
            if await wait_or_stop(stop, delay * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter
                log.error(
                    "stopped while the log was away; rows of Sparkplug messages are lost",
                    records=sum(len(write.records) for write in writes),
                )
                return False
            delay = min(2 * delay, self._retry_cap)
        self.waiting_for = ""
        return True

    async def _append(self, write: Write) -> Unavailable | None:
        try:
            await self._log.append(write.topic, write.key, write.records)
        except Unavailable as error:
            return error
        return None

    def _count(self, out: Gathered) -> None:
        for fate, count in out.fates.items():
            self._metrics.messages.labels(fate).inc(count)
        for outcome, count in out.samples.items():
            self._metrics.samples.labels(outcome).inc(count)
        self._metrics.gaps.inc(out.gaps)
        self._metrics.missed.inc(out.missed)
        self._metrics.rebirths.inc(len(out.commands))
        self._metrics.nodes.set(self._host.online)
        self._metrics.waiting.set(self._host.waiting)


async def _either(stop: asyncio.Event, work: Coroutine[None, None, object]) -> None:
    """Await the work, or until told to stop."""
    task, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel()
        stopping.cancel()
