"""From the devices' messages to committed rows: parsed, given to scoring, committed, and only then acknowledged."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from edge.mapping.gathered import Gathered, Letter
from edge.outbox import Outbox
from edge.reading import MessageReader
from shared.clock import MICROSECONDS, Clock
from shared.dead_letter import DeadLetter
from shared.errors import Rejected, Unavailable
from shared.frames import Kind, Readings, Records, concat_readings
from shared.machine_view import MachineView
from shared.names import is_wave_topic
from shared.packing import Item
from shared.paho import MqttClient, MqttMessage

log = structlog.get_logger()

Arrived = Callable[[str, Readings], None]
Waves = Callable[[Sequence[MqttMessage]], Awaitable[None]]

TICK_SECONDS: Final = 0.5
_MAX_COMMANDS: Final = 1000

COMMIT_BYTES: Final = 256 * 1024
"""Payload that is committed at once. A commit has to fit the outbox as a whole, or a small one would wait for ever."""
WAITING_BYTES: Final = 1024 * 1024
"""Payload that may be scored and wait for its commit; then nothing is taken until there is room."""
WAITING_PARTS: Final = 4096


def bounded(messages: Sequence[MqttMessage]) -> Iterator[Sequence[MqttMessage]]:
    """The messages in order, in parts of at most COMMIT_BYTES of payload, or one message."""
    start = size = 0
    for at, message in enumerate(messages):
        if at > start and size + len(message.payload) > COMMIT_BYTES:
            yield messages[start:at]
            start, size = at, 0
        size += len(message.payload)
    yield messages[start:]


@dataclass(frozen=True, slots=True)
class _Part:
    """What came of messages that arrived together, at `started`: to be committed, told and acknowledged, in this order."""

    messages: Sequence[MqttMessage]
    readings: Mapping[str, Readings]
    out: Gathered
    started: float
    size: int


def view_key(machine: str) -> str:
    """Where the outbox keeps what the agent knows of a machine."""
    return f"view/{machine}"


class Intake:
    """One connection to the devices' broker. A message is acknowledged after its rows are on disk.

    `listening` says that the broker granted the subscription once: from then on its session keeps messages while
    this agent is away. `blocked` says why commits wait, empty if they don't; `refused` is set meanwhile.
    """

    def __init__(
        self,
        client: MqttClient,
        outbox: Outbox,
        views: Mapping[str, MachineView],
        clock: Clock,
        registry: CollectorRegistry,
        *,
        site: str,
        edge: str,
        batch: int,
        arrived: Arrived,
        rows_waiting: Callable[[], None],
        waves: Waves | None = None,
        reader: MessageReader | None = None,
    ) -> None:
        self._waves = waves
        self._client, self._outbox, self._views, self._clock = client, outbox, views, clock
        self._edge, self._batch = edge, batch
        self._arrived, self._rows_waiting = arrived, rows_waiting
        self._reader = reader or MessageReader(site, views)
        self._mapped = self._reader.mapped
        self._parts: deque[_Part] = deque()
        self._waiting = 0  # bytes
        self._unwritten, self._room = asyncio.Event(), asyncio.Event()
        self._commands: deque[tuple[str, bytes]] = deque(maxlen=_MAX_COMMANDS)
        self._to_say = asyncio.Event()
        self.blocked = ""
        self.refused = asyncio.Event()
        self.listening = False
        self._rows = Counter("im_edge_rows_committed", "Readings durable in the outbox", registry=registry)
        self._rejects = Counter(
            "im_edge_rejects", "Device inputs that became dead letters", registry=registry
        )
        self._left_out = Counter(
            "im_edge_left_out_rows", "Readings that a limit left out", ["policy"], registry=registry
        )
        self._fates = Counter(
            "im_edge_mapped_messages", "The mapping's messages by fate", ["fate"], registry=registry
        )
        self._skew = Gauge(
            "im_edge_clock_skew_seconds", "The largest skew of a machine's clock", registry=registry
        )
        self._seconds = Histogram(
            "im_edge_commit_seconds",
            "From a batch's receipt to its durability",
            registry=registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
        )

    def take_at_most(self, messages: int) -> None:
        """Commit so many messages at once from now on."""
        self._batch = messages

    @property
    def idle(self) -> bool:
        """Whether nothing that was taken waits for its commit."""
        return not self._waiting

    def filters(self) -> list[str]:
        """What to subscribe to: this agent's machines only, and the mapping's topics."""
        filters = self._reader.filters()
        if self._waves is not None:
            filters += [f"{each}/wave" for each in self._reader.plain_filters()]
        return filters

    async def run(self) -> None:
        """Take messages for ever.

        The subscription is asked for beside that: a session that was away has its queue delivered before the broker's
        grant, and one that is not taken from would never see it.
        """
        await asyncio.gather(self._listen(), self._receive(), self._write(), self._tick(), self._say())

    async def _listen(self) -> None:
        await self._client.subscribe(*self.filters())
        if self._mapped is not None and self._mapped.has_nodes:
            await self._client.subscribe(*self._mapped.node_filters(), qos=0)
        self.listening = True

    async def _receive(self) -> None:
        while True:
            received = await self._client.receive(self._batch)
            blocks = [] if self._waves is None else [each for each in received if is_wave_topic(each.topic)]
            if blocks:
                received = [each for each in received if not is_wave_topic(each.topic)]
            if received:
                for messages in bounded(received):
                    await self._take(messages)
            if blocks and self._waves is not None:
                await self._waves(blocks)  # it acknowledges them

    async def _take(self, messages: Sequence[MqttMessage]) -> None:
        started = self._clock.monotonic()
        out = Gathered()
        readings = self._reader.read(messages, self._clock, out)
        self._hand_on(messages, readings, out, started)
        while self._waiting > WAITING_BYTES or len(self._parts) > WAITING_PARTS:
            self._room.clear()
            await self._room.wait()

    def _hand_on(
        self,
        messages: Sequence[MqttMessage],
        readings: dict[str, list[Readings]],
        out: Gathered,
        started: float,
    ) -> None:
        """Give what the limits do not leave out to scoring, and all to the commits.

        Scoring does not wait for these: a disk that takes its time delays no alarm. A score may so be durable a commit
        before the readings that it was made of; those are not acknowledged by then, and come again after a crash.
        """
        joined, left = self._reader.limited(readings, out)
        for policy, count in left.items():
            self._left_out.labels(policy).inc(count)
        for machine, event_us, arrival_us in out.live:
            self._views[machine].take_live(event_us, arrival_us)
        size = sum(len(message.payload) for message in messages)
        self._parts.append(_Part(messages, joined, out, started, size))
        self._waiting += size
        self._unwritten.set()
        for machine, arrived in joined.items():
            self._arrived(machine, arrived)

    async def _write(self) -> None:
        """Commit what waits, as much at once as came during the last commit; then acknowledge it."""
        while True:
            await self._unwritten.wait()
            self._unwritten.clear()
            while self._parts:
                parts = self._next()
                readings: dict[str, list[Readings]] = {}
                for part in parts:
                    for machine, rows in part.readings.items():
                        readings.setdefault(machine, []).append(rows)
                joined = {machine: concat_readings(rows) for machine, rows in readings.items()}
                items = self._items(joined, [part.out for part in parts])
                if items:
                    await self._commit(items, self._seen(joined))
                self._client.ack([message for part in parts for message in part.messages])
                now = self._clock.monotonic()
                for part in parts:
                    self._waiting -= part.size
                    if part.messages:
                        self._seconds.observe(now - part.started)
                    self._tell(part.out)
                for rows in joined.values():
                    self._rows.inc(len(rows))
                self._room.set()
                self._rows_waiting()

    def _next(self) -> list[_Part]:
        """The parts that are committed together."""
        parts = [self._parts.popleft()]
        size = parts[0].size
        while self._parts and (size := size + self._parts[0].size) <= COMMIT_BYTES:
            parts.append(self._parts.popleft())
        return parts

    def _items(self, joined: Mapping[str, Readings], outs: Sequence[Gathered]) -> list[Item]:
        """What one commit appends."""
        items = [Item(machine, Kind.READINGS, rows) for machine, rows in joined.items()]
        for out in outs:
            items += [
                Item(machine, Kind.EVENT, Records(tuple(event.to_json() for event in events)), urgent=True)
                for machine, events in out.events.items()
            ]
            items += [
                Item(letter.machine, Kind.REJECT, Records((self._letter(letter).encode(),)))
                for letter in out.letters
            ]
        return items

    def _tell(self, out: Gathered) -> None:
        """Count what is committed, and ask for births."""
        self._rejects.inc(len(out.letters))
        for fate, count in out.fates.items():
            self._fates.labels(fate).inc(count)
        for sentence in out.told:
            log.warning("sparkplug", told=sentence)
        if out.commands:
            self._commands.extend(out.commands)  # when too many wait the oldest goes: a node is asked again
            self._to_say.set()

    async def _tick(self) -> None:
        """What time alone brings to Sparkplug nodes: gaps that do not close, births to ask for."""
        while self._mapped is not None and self._mapped.has_nodes:
            if self.listening and self._client.connected.is_set():
                out, now = Gathered(), self._clock.monotonic()
                self._mapped.tick(self._clock.now_us(), now, out)
                self._hand_on((), {}, out, now)
            await self._clock.sleep(TICK_SECONDS)

    async def _say(self) -> None:
        """Publish what nodes are asked for: apart from receiving, which a full inbox may hold up."""
        while True:
            await self._to_say.wait()
            self._to_say.clear()
            while self._commands:
                topic, payload = self._commands.popleft()
                try:
                    await self._client.publish(topic, payload, qos=0)
                except Rejected as error:
                    log.warning("the broker refuses a request for births", topic=topic, problem=error.reason)

    def _seen(self, joined: Mapping[str, Readings]) -> dict[str, bytes]:
        """Show the rows to their machines' views; those whose shape changed, to be kept with the rows."""
        kept = {}
        for machine, rows in joined.items():
            view = self._views[machine]
            before = view.shape
            view.take(rows)
            if view.shape != before:
                kept[view_key(machine)] = view.to_json()
        skews = [abs(view.skew_us) for view in self._views.values() if view.skew_us is not None]
        self._skew.set(max(skews, default=0) / MICROSECONDS)
        return kept

    async def _commit(self, items: list[Item], state: Mapping[str, bytes]) -> None:
        """Commit, however long the disk is full or away: meanwhile nothing is acknowledged, so devices wait."""
        while True:
            try:
                await self._outbox.append(items, state)
            except Unavailable as error:
                if not self.blocked:
                    log.error("device messages wait", reason=str(error))  # noqa: TRY400 - no bug to trace
                self.blocked = str(error)
                self.refused.set()
                await self._clock.sleep(error.retry_after)
            else:
                self.blocked = ""
                self.refused.clear()
                return

    def _letter(self, letter: Letter) -> DeadLetter:
        return DeadLetter.of(
            letter.reason, letter.topic, letter.payload, source=self._edge, received_us=letter.arrival_us
        )
