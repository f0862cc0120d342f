"""Commands from the cloud: received, judged, carried out once, answered.

This is the one place where the agent obeys. Whoever can do something on command registers a handler for its kind; what
nobody handles is refused. A command is written down before its handler runs, so that one that ends the agent
(`restart`), or that the agent does not survive, is never carried out a second time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final, Protocol

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter

from edge.outbox import Outbox
from shared.clock import Clock
from shared.commands import (
    MAX_ANSWERS,
    MAX_DETAIL,
    Answer,
    Command,
    Outcome,
    decode_commands,
    encode,
    parse_arguments,
)
from shared.errors import Rejected, Unavailable
from shared.names import COMMANDS_KEY

log = structlog.get_logger()

_RETRY_SECONDS: Final = 1.0
_STATE: Final = "commands"
RESTART: Final = "restart"

Handler = Callable[[Any], Awaitable[str]]
"""Carries a command out, given its arguments as `shared.commands` has them for its kind; returns what to tell who
asked. Raises Rejected with why it will not be done. It should take no longer than seconds: commands come one by one."""


class CommandSource(Protocol):
    """The part of the control plane that brings commands and takes answers. Raises Unavailable."""

    def watch_desired(self, edge: str) -> AsyncIterator[tuple[str, bytes | None] | None]:
        """Each (key, value) now, then each change."""

    async def report(self, edge: str, key: str, value: bytes) -> None:
        """Set a reported value."""


class Commands:
    """Carries out what the cloud asks of this edge, each command once."""

    def __init__(self, outbox: Outbox, clock: Clock, registry: CollectorRegistry, *, edge: str) -> None:
        self._outbox, self._clock, self._edge = outbox, clock, edge
        self._handlers: dict[str, Handler] = {}
        self._answers: dict[str, Answer] = {}
        self._begun: tuple[str, str] | None = None
        self._untold = asyncio.Event()
        self._handled = Counter(
            "im_edge_commands",
            "Commands of the cloud, by what became of them",
            ["outcome"],
            registry=registry,
        )

    def handle(self, kind: str, handler: Handler) -> None:
        """Let commands of `kind` be carried out by `handler`."""
        self._handlers[kind] = handler

    async def resume(self) -> None:
        """Read what was answered before this start; what was begun and not finished gets its answer now."""
        kept = orjson.loads(await self._outbox.state(_STATE) or b"{}")
        self._answers = {each["id"]: Answer.of(each) for each in kept.get("answers", ())}
        if kept.get("begun"):
            command, kind = kept["begun"]
            if kind == RESTART:
                await self._answer(command, Outcome.DONE, "the agent is back")
            else:
                await self._answer(command, Outcome.INTERRUPTED, "the agent ended before it was finished")
        self._untold.set()

    async def watch(self, source: CommandSource) -> None:
        """Receive commands for ever."""
        async for change in source.watch_desired(self._edge):
            if change is None or change[0] != COMMANDS_KEY:
                continue
            try:
                commands = decode_commands(change[1])
            except Rejected as error:
                log.error("commands can't be read", reason=error.reason)  # noqa: TRY400 - no bug to trace
                continue
            for command in commands:
                if command.id not in self._answers:
                    await self._obey(command)

    async def tell(self, source: CommandSource) -> None:
        """Report answers for ever; each report holds the newest ones, so that one which was lost is made up for."""
        while True:
            await self._untold.wait()
            self._untold.clear()
            try:
                await source.report(self._edge, COMMANDS_KEY, encode(list(self._answers.values())))
            except Unavailable as error:
                log.info("answers to commands can't be reported yet", reason=str(error))
                self._untold.set()
                await self._clock.sleep(_RETRY_SECONDS)

    async def _obey(self, command: Command) -> None:
        """Judge and carry out one command; whatever happens it has an answer then."""
        who = {"command": command.id, "kind": command.kind, "by": command.by}
        now_us = self._clock.now_us()
        if now_us > command.expires_us:
            late = (now_us - command.expires_us) / 1e6
            log.warning("a command came too late", late_seconds=round(late, 3), **who)
            await self._answer(command.id, Outcome.EXPIRED, f"it came {late:.0f} s after it expired")
            return
        try:
            arguments = parse_arguments(command.kind, command.arguments)
            handler = self._handlers.get(command.kind)
            if handler is None:
                raise Rejected(f"this agent can't {command.kind}")  # noqa: TRY301
            self._begun = (command.id, command.kind)
            await self._keep()
            detail = await handler(arguments)
        except Rejected as error:
            log.warning("a command was refused", reason=error.reason, **who)
            await self._answer(command.id, Outcome.REFUSED, error.reason)
            return
        log.info("a command was carried out", detail=detail, **who)
        if command.kind == RESTART:
            await asyncio.Event().wait()  # done once it is back; until the end nothing more is taken
        await self._answer(command.id, Outcome.DONE, detail)

    async def _answer(self, command: str, outcome: Outcome, detail: str) -> None:
        self._begun = None
        self._answers[command] = Answer(command, outcome, detail[:MAX_DETAIL], self._clock.now_us())
        while len(self._answers) > MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]
        await self._keep()
        self._handled.labels(outcome.value).inc()
        self._untold.set()

    async def _keep(self) -> None:
        """Remember on disk; waits as long as the outbox can't take it, for without that it might happen twice."""
        answers = [asdict(answer) for answer in self._answers.values()]
        kept = orjson.dumps({"answers": answers, "begun": self._begun})
        while True:
            try:
                await self._outbox.append([], {_STATE: kept})
            except Unavailable as error:
                await self._clock.sleep(error.retry_after)
            else:
                return
