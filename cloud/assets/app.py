"""The owner of assets, counters and work orders: it alone writes their topics and their tables.

The log is the truth. A command is decided on the fold of the log to its end and written under a fence, so one instance
decides and a second one would only see Conflict. The tables follow: rows and the log's position in one transaction, so a
death at any moment leaves nothing lost and nothing done twice, and what is behind is read on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from cloud.assets.counting import decide_counted
from cloud.assets.fold import State
from cloud.assets.logic import decide_observed
from cloud.assets.model import Asset, MeterReading, Thing
from cloud.assets.port import Projection
from cloud.assets.sightings import Sightings, assets_of
from shared.asset_events import CounterReset, CounterSet
from shared.clock import Clock
from shared.errors import Conflict, NotFound, Rejected, Unavailable
from shared.event import Event, at
from shared.eventlog import EventLog, Position, Record
from shared.events import parse_event
from shared.machine_events import MachineCounted
from shared.names import ASSETS, WORK_ORDERS

log = structlog.get_logger()

TOPICS: Final = (ASSETS, WORK_ORDERS)
MAX_SEEN: Final = 500
"""Events of sightings that one look writes; the next look goes on."""
_TRIES: Final = 2
_TOLD_EVERY: Final = 500

Decide = Callable[[State], list[Event]]
See = Callable[[], Awaitable[Sightings]]
Tell = Callable[[int, int], None]


class Metrics:
    """What was written."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "im_asset_events", "events of assets and work orders", ["type"], registry=registry
        )


class Owner:
    """The fold in memory, the tables behind it, and the way in for new events."""

    def __init__(
        self, events: EventLog, projection: Projection, clock: Clock, metrics: Metrics | None = None
    ) -> None:
        self._events, self._projection = events, projection
        self._clock, self._metrics = clock, metrics
        self._state = State()
        self._positions: dict[str, Position] = {}
        self._saved: dict[str, Position] = {}
        self._loaded = False
        self._unsaved: dict[object, Thing] = {}
        self._requests: dict[str, tuple[str, str]] = {}
        self._one_by_one = asyncio.Lock()

    async def look(self) -> tuple[State, Mapping[str, Position]]:
        """The fold of the log to its end, and the positions it stands at. Raises Unavailable."""
        async with self._one_by_one:
            await self._look()
            return self._state, dict(self._positions)

    async def execute(
        self, topic: str, decide: Decide, *, thread: bool = False
    ) -> tuple[State, Position, list[Event]]:
        """Decide on the newest state and write: the state after it, the position that shows it, and the events.

        With `thread` the decision takes long. Raises what `decide` raises, Unavailable, Conflict (someone else writes).
        """
        async with self._one_by_one:
            for left in reversed(range(_TRIES)):
                await self._look()
                made = await asyncio.to_thread(decide, self._state) if thread else decide(self._state)
                try:
                    await self._append(topic, made)
                except Conflict:
                    if not left:
                        raise
                    continue
                break
            if made:
                await self._look()
                await self._try_save()
            return self._state, self._positions.get(topic, {}), made

    async def see(self, sightings: Sightings) -> int:
        """Make events of what is new among what was seen; how many. Raises Unavailable, Conflict."""
        found, now = assets_of(sightings), at(self._clock.now_us())
        _, _, made = await self.execute(ASSETS, lambda state: decide_observed(state, found, now, MAX_SEEN))
        return len(made)

    async def count(self, counted: Sequence[MachineCounted]) -> int:
        """Bring counters to what edges counted; how many changes that made. Raises Unavailable, Conflict."""
        now = at(self._clock.now_us())
        _, _, made = await self.execute(ASSETS, lambda state: decide_counted(state, counted, now))
        return len(made)

    async def run(self, see: See, seconds: float) -> None:
        """Follow the log, look for new assets and write the tables, for ever; what is away is waited for."""
        while True:
            try:
                more = await self.see(await see())
                await self.save()
            except (Unavailable, Conflict, NotFound) as error:  # NotFound: the log's topics are not made yet
                log.info("assets can't be looked at now", why=str(error))
                more = 0
            if more < MAX_SEEN:
                await self._clock.sleep(seconds)

    async def save(self) -> None:
        """Bring the tables to the fold. Raises Unavailable: nothing of it is written then, and the next time all is."""
        async with self._one_by_one:
            await self._look()
            await self._save()

    async def rebuild(self, tell: Tell) -> None:
        """Fold the log anew and replace the tables by that; readers see the old ones until then. Raises Unavailable."""
        async with self._one_by_one:
            state = State()
            positions: dict[str, Position] = {}
            ends = {topic: await self._events.end(topic) for topic in TOPICS}
            total, done = sum(sum(end.values()) for end in ends.values()), 0
            for topic in TOPICS:
                positions[topic] = {}
                async for record in self._events.read(topic):
                    if (event := _event(record.value, topic)) is not None:
                        state.take(event)
                    positions[topic] = {**positions[topic], record.partition: record.offset}
                    done += 1
                    if done % _TOLD_EVERY == 0:
                        tell(min(done, total), total)
            await self._projection.replace(state, positions)
            self._state, self._positions, self._loaded = state, dict(positions), True
            self._saved = dict(positions)
            self._unsaved, self._requests = {}, {}
            tell(total, total)

    async def _look(self) -> None:
        if not self._loaded:
            await self._load()
        for topic in TOPICS:
            position = self._positions.get(topic, {})
            if await self._events.end(topic) == position:
                continue
            async for record in self._events.read(topic, position):
                # No await between these: cancelled anywhere, fold and position agree.
                self._take(record.value, topic)
                position = {**position, record.partition: record.offset}
                self._positions[topic] = position

    async def _load(self) -> None:
        state, positions = await self._projection.load()
        for topic, position in positions.items():
            end = await self._events.end(topic)
            if any(offset > end.get(partition, 0) for partition, offset in position.items()):
                log.warning("the tables of assets are of another log: they are made anew", topic=topic)
                state, positions = State(), {}
                await self._projection.replace(state, positions)
                break
        self._state, self._positions, self._loaded = state, dict(positions), True
        self._saved = dict(positions)

    def _take(self, value: bytes, topic: str) -> None:
        event = _event(value, topic)
        thing = None if event is None else self._state.take(event)
        if event is not None and thing is not None:
            self._unsaved[_key(thing)] = thing
            if event.correlation_id in self._state.requests:
                self._requests[event.correlation_id] = self._state.requests[event.correlation_id]

    async def _append(self, topic: str, made: Sequence[Event]) -> None:
        fence = self._positions.get(topic, {})
        for event in made:
            record = Record(event.to_json(), id=event.id)
            fence = await self._events.append(topic, record_key(event), [record], fence=fence)
            if self._metrics is not None:
                self._metrics.events.labels(event.type).inc()

    async def _try_save(self) -> None:
        """What was decided is in the log: that the tables can't have it now is no failure, the loop writes them."""
        with suppress(Unavailable):
            await self._save()

    async def _save(self) -> None:
        if self._saved == self._positions:
            return
        things, requests, positions = dict(self._unsaved), dict(self._requests), dict(self._positions)
        await self._projection.save(list(things.values()), requests, positions)
        self._saved = positions
        self._unsaved = {key: thing for key, thing in self._unsaved.items() if things.get(key) is not thing}
        self._requests = {key: one for key, one in self._requests.items() if key not in requests}


def record_key(event: Event) -> str:
    """The key of an event's record: the aggregate's id, with its kind where one topic has several."""
    if isinstance(event, CounterSet | CounterReset):
        return f"counter.{event.subject}"
    kind = getattr(event, "kind", "")
    return f"{kind}.{event.subject}" if event.type.startswith("asset.") else event.subject


def _event(value: bytes, topic: str) -> Event | None:
    try:
        return parse_event(value)
    except Rejected as error:  # a later release's: what it says is not known here
        log.warning("an event can't be read", topic=topic, problem=error.reason)
        return None


def _key(thing: Thing) -> object:
    kind = thing.kind if isinstance(thing, Asset) else isinstance(thing, MeterReading)
    return kind, thing.id
