"""Dead letters as people see to them: look, send again, put aside. What they decided is in the topic `audit`.

One instance a plant decides; anyone may read.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from cloud.deadletters.logic import (
    SUBJECT,
    Assignments,
    Fate,
    Fates,
    Letter,
    Place,
    Via,
    Wanted,
    decide,
    dropped,
    log_place,
    replay_from_us,
    replayed,
    route,
)
from cloud.deadletters.reading import Letters, read_at
from shared.clock import MICROSECONDS, Clock
from shared.errors import Conflict, NotFound, Rejected, Unavailable
from shared.eventlog import EventLog, Position, Record
from shared.events import Event, at, parse_event
from shared.names import AUDIT
from shared.paho import open_mqtt
from shared.tls import Certificates

log = structlog.get_logger()

PUBLISH_SECONDS: Final = 5.0
_CONFLICT_TRIES: Final = 5

Publish = Callable[[str, bytes], Awaitable[None]]
"""Publish a payload on an MQTT topic at QoS 1; returns once the broker has it. Raises Unavailable."""


class Metrics:
    """What people did."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.handled = Counter(
            "im_dead_letters_handled", "dead letters seen to", ["outcome"], registry=registry
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """A letter and what became of it; in full where it can be sent again, from when on, or why not."""

    letter: Letter
    fate: Fate | None
    via: Via | None = None
    from_us: int = 0
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class SeenPage:
    """Letters, newest first, and where the next page goes on (empty at the end)."""

    letters: tuple[Seen, ...]
    before: Mapping[str, int]
    scanned: int


@dataclass(frozen=True, slots=True)
class Done:
    """A decision about a letter. `position` in the topic `audit` shows it; `changed` is False where it was done already."""

    place: Place
    fate: Fate
    position: Position
    changed: bool


class FatesView:
    """What became of the letters, as the log has it; each look reads on from the last one."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._fates = Fates()
        self._position: Position = {}
        self._reading = asyncio.Lock()

    async def look(self) -> tuple[Fates, Position]:
        """The fold and the position it stands at. Raises Unavailable."""
        async with self._reading:
            if await self._events.end(AUDIT) != self._position:
                async for stored in self._events.read(AUDIT, self._position):
                    if stored.key == SUBJECT:
                        self._take(stored.value)
                    self._position = {**self._position, stored.partition: stored.offset}
            return self._fates, self._position

    def _take(self, value: bytes) -> None:
        try:
            self._fates.take(parse_event(value))
        except Rejected as error:  # a later release's: what it says is not known here
            log.warning("an event in the topic audit can't be read", problem=error.reason)


class DeadLetters:
    """Reads letters and carries out decisions about them; without `publish` what came over MQTT can't be sent again."""

    def __init__(
        self,
        events: EventLog,
        assignments: Callable[[], Awaitable[Assignments]],
        clock: Clock,
        *,
        publish: Publish | None = None,
        metrics: Metrics | None = None,
        turn: asyncio.Lock | None = None,
    ) -> None:
        """`turn` is held from a look at the topic's end to a write there, so that this process is one writer."""
        self._turn = turn or asyncio.Lock()
        self._events, self._assignments, self._clock = events, assignments, clock
        self._publish, self._metrics = publish, metrics
        self._letters = Letters(events)
        self._fates = FatesView(events)
        self._one_by_one = asyncio.Lock()

    async def position(self) -> Position:
        """How far in the topic `audit` the decisions are known. Raises Unavailable."""
        _, position = await self._fates.look()
        return position

    async def page(self, wanted: Wanted, before: Mapping[str, int], limit: int) -> SeenPage:
        """Letters that are wanted, newest first, without their payloads. Raises Unavailable."""
        fates, _ = await self._fates.look()

        def accept(letter: Letter) -> bool:
            return wanted.accepts(letter, fates.letters.get(letter.place))

        page = await self._letters.page(accept, before, limit, since_us=wanted.since_us)
        seen = tuple(Seen(letter, fates.letters.get(letter.place)) for letter in page.letters)
        return SeenPage(seen, page.before, page.scanned)

    async def show(self, place: Place) -> Seen:
        """One letter in full. Raises NotFound, Unavailable."""
        fates, _ = await self._fates.look()
        letter = await self._letters.one(place)
        try:
            via = route(letter, await self._assignments())
        except Rejected as error:
            return Seen(letter, fates.letters.get(place), refusal=error.reason)
        return Seen(letter, fates.letters.get(place), via, replay_from_us(letter, via))

    async def replay(self, place: Place, *, by: str, request: str, again: bool, at_once: bool) -> Done:
        """Send the input again where it came from, and write down that it was sent.

        Dying in between, or called again under the same `request` after Unavailable, it may be sent twice, which is
        harmless by the readings' identity. Raises NotFound, Rejected (it can't be sent), Unavailable, Conflict
        (somebody saw to it and not `again`; so young that a second refusal would not show, and not `at_once`).
        """
        async with self._one_by_one:
            fates, position = await self._fates.look()
            if not decide(fates, "replayed", place, request, again=again):
                return Done(place, fates.letters[place], position, changed=False)
            letter = await self._letters.one(place)
            via = route(letter, await self._assignments())
            wait_us = replay_from_us(letter, via) - self._clock.now_us()
            if wait_us > 0 and not at_once:
                raise Conflict(
                    f"letter {place} is too young: sent now, a second refusal would be taken for the first one's"
                    f" resend and not show; wait {wait_us / MICROSECONDS:.0f} s"
                )
            await self._send(letter, via)
            made = partial(replayed, place, via, letter.content.topic, by=by, request=request)
            return await self._write(place, request, lambda: made(at=at(self._clock.now_us())))

    async def drop(self, place: Place, why: str, *, by: str, request: str) -> Done:
        """Write down that a letter needs nothing more. Raises NotFound, Unavailable, Conflict."""
        async with self._one_by_one:
            fates, position = await self._fates.look()
            if not decide(fates, "dropped", place, request, again=False):
                return Done(place, fates.letters[place], position, changed=False)
            await self._letters.one(place)
            made = partial(dropped, place, why, by=by, request=request)
            return await self._write(place, request, lambda: made(at=at(self._clock.now_us())))

    async def _send(self, letter: Letter, via: Via) -> None:
        """Return once the input is with the broker or in the log. Raises NotFound, Unavailable."""
        content = letter.content
        if via == "mqtt":
            if self._publish is None:
                raise Unavailable("inputs can't be sent again: the setting api.mqtt_url names no broker")
            await self._publish(content.topic, content.payload)
            return
        record = await read_at(self._events, content.topic, log_place(content))
        if record is None:
            raise NotFound(f"the input of letter {letter.place} has aged out of the topic {content.topic}")
        # No id: the log must not take it for a resend of the first one.
        await self._events.append(content.topic, record.key, [Record(record.value, record.headers)])

    async def _write(self, place: Place, request: str, make: Callable[[], Event]) -> Done:
        """Append the event at the topic's end; whoever else writes there is read first. Raises Conflict, Unavailable."""
        for _ in range(_CONFLICT_TRIES):
            async with self._turn:
                fates, position = await self._fates.look()
                if request in fates.requests:  # written by a try whose confirmation was lost
                    return Done(place, fates.letters[place], position, changed=True)
                event = make()
                try:
                    await self._events.append(
                        AUDIT, SUBJECT, [Record(event.to_json(), id=event.id)], fence=position
                    )
                except Conflict:
                    continue
            if self._metrics is not None:
                self._metrics.handled.labels(event.type.rpartition(".")[2]).inc()
            fates, position = await self._fates.look()
            return Done(place, fates.letters[place], position, changed=True)
        raise Conflict(f"the {AUDIT} topic moved on {_CONFLICT_TRIES} times: someone else writes there")


def publisher(url: str, username: str, password: str, tls: Certificates | None = None) -> Publish:
    """Publishes on the broker at `mqtt://host:port` or `mqtts://host:port`, each time on a connection of its own."""

    async def publish(topic: str, payload: bytes) -> None:
        name = f"replay-{secrets.token_hex(12)}"
        async with open_mqtt(
            url, client_id=name, username=username, password=password, clean=True, tls=tls
        ) as client:
            await client.wait_connected(PUBLISH_SECONDS)
            try:
                async with asyncio.timeout(PUBLISH_SECONDS):
                    await client.publish(topic, payload)
            except TimeoutError as error:
                raise Unavailable(
                    f"the broker at {url} did not confirm within {PUBLISH_SECONDS:g} s"
                ) from error

    return publish
