"""The owner of the topic `commands`: issues commands, gives them to the edges, and writes down what they answer.

The log is the truth; an edge's desired state is derived from it and put right again whenever the two differ, so a death
between them loses no command. One instance a plant; writes are fenced by the topic's end.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter

from cloud.commands.logic import State, command_id, decide_answers, decide_issue, for_edge
from cloud.commands.port import Asked, Issued, Tracked
from shared.clock import Clock
from shared.commands import decode_answers, encode
from shared.errors import Conflict, NotFound, Rejected, Unavailable
from shared.event import Event, at
from shared.eventlog import EventLog, Position, Record
from shared.events import parse_event
from shared.names import COMMANDS, COMMANDS_KEY

log = structlog.get_logger()

LOOK_SECONDS: Final = 1.0
"""How often the edges that have something to answer are looked at."""
_TRIES: Final = 3


class EdgeStates(Protocol):
    """The part of the control plane that carries commands. All raise Unavailable."""

    async def assignments(self) -> dict[str, tuple[str, str]]:
        """Machine to (site, edge)."""
        ...

    async def desire(self, edge: str, key: str, value: bytes) -> None:
        """Set a desired value. Raises Rejected (its size)."""
        ...

    async def desired(self, edge: str) -> dict[str, bytes]:
        """Every desired value."""
        ...

    async def reported(self, edge: str) -> dict[str, bytes]:
        """Every reported value."""
        ...


class Metrics:
    """What was issued and answered."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter("im_command_events", "events of commands", ["type"], registry=registry)


class Dispatcher:
    """Implements `EdgeCommands`."""

    def __init__(
        self, events: EventLog, edges: EdgeStates, clock: Clock, metrics: Metrics | None = None
    ) -> None:
        self._events, self._edges, self._clock, self._metrics = events, edges, clock, metrics
        self._state = State()
        self._position: Position = {}
        self._one_by_one = asyncio.Lock()
        self._news = asyncio.Event()
        self._stale: set[str] = set()
        self._read = False

    async def issue(self, asked: Asked) -> Issued:
        """See the port. The edge has it when this returns, or soon after if the control plane is away."""
        if asked.edge not in {edge for _, edge in (await self._edges.assignments()).values()}:
            raise NotFound(f"no machine is assigned to an edge {asked.edge[:40]!r}")
        async with self._one_by_one:
            made = await self._write(lambda state: decide_issue(state, asked, at(self._clock.now_us())))
            command = self._state.commands[command_id(asked)]
            self._stale.add(asked.edge)
            try:
                await self._hand_over(asked.edge)
            except Unavailable as error:
                log.warning("a command waits for the control plane", command=command.id, why=str(error))
            self._news.set()
            return Issued(command, self._position, changed=bool(made))

    async def newest(self, edge: str, limit: int) -> tuple[Sequence[Tracked], Position]:
        """See the port."""
        async with self._one_by_one:
            await self._look()
            found = [one for one in reversed(self._state.commands.values()) if edge in ("", one.edge)]
            return found[:limit], self._position

    async def one(self, command: str) -> tuple[Tracked, Position]:
        """See the port."""
        async with self._one_by_one:
            await self._look()
            if command not in self._state.commands:
                raise NotFound(f"there is no command {command[:40]!r}")
            return self._state.commands[command], self._position

    async def run(self) -> None:
        """Take answers and keep desired states right, for ever; what is away is waited for."""
        while True:
            try:
                await self.look()
            except (Unavailable, Conflict, NotFound) as error:  # NotFound: the topic is not made yet
                log.info("commands can't be looked at now", why=str(error))
                await self._clock.sleep(LOOK_SECONDS)
                continue
            if not self._state.waited_for():
                self._news.clear()
                await self._news.wait()
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Take what edges answered since the last look. Raises Unavailable, Conflict."""
        async with self._one_by_one:
            await self._look()
            if not self._read:  # what an earlier life of this process did not hand over
                self._stale |= self._state.waited_for()
                self._read = True
            for edge in sorted(self._state.waited_for()):
                await self._take_answers(edge)
            for edge in sorted(self._stale):
                await self._hand_over(edge)

    async def _take_answers(self, edge: str) -> None:
        try:
            answers = decode_answers((await self._edges.reported(edge)).get(COMMANDS_KEY))
        except Rejected as error:
            log.warning("an edge's answers can't be read", edge=edge, reason=error.reason)
            return
        before = len(self._state.open(edge))
        await self._write(lambda state: decide_answers(state, edge, answers))
        if len(self._state.open(edge)) != before:
            self._stale.add(edge)

    async def _hand_over(self, edge: str) -> None:
        """Make the edge's desired state what the log says."""
        value = encode(for_edge(self._state.open(edge)))
        if (await self._edges.desired(edge)).get(COMMANDS_KEY, b"[]") != value:
            await self._edges.desire(edge, COMMANDS_KEY, value)
        self._stale.discard(edge)

    async def _write(self, decide: Callable[[State], list[Event]]) -> list[Event]:
        """Decide on the fold of the log to its end and append. Raises what `decide` raises, Unavailable, Conflict."""
        for left in reversed(range(_TRIES)):
            await self._look()
            made = decide(self._state)
            try:
                for event in made:
                    record = Record(event.to_json(), id=event.id)
                    await self._events.append(COMMANDS, event.subject, [record], fence=self._position)
                    await self._look()
                    if self._metrics is not None:
                        self._metrics.events.labels(event.type).inc()
            except Conflict:
                if not left:
                    raise
                continue
            return made
        return []

    async def _look(self) -> None:
        if await self._events.end(COMMANDS) == self._position:
            return
        async for stored in self._events.read(COMMANDS, self._position):
            try:
                self._state.take(parse_event(stored.value))
            except Rejected as error:  # a later release's: what it says is not known here
                log.warning("an event in the topic commands can't be read", problem=error.reason)
            self._position = {**self._position, stored.partition: stored.offset}
