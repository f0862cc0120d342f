"""The fold of the topic `commands`, and what is decided on it. No I/O here."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import orjson

from cloud.commands.port import OPEN, Asked, Tracked
from shared.command_events import CommandAnswered, CommandIssued
from shared.commands import KINDS, MAX_OPEN, Answer, Command, parse_arguments
from shared.errors import Conflict, Rejected
from shared.event import Event, at, deterministic_id, to_us

SOURCE: Final = "cloud/commands"
MAX_REMEMBERED: Final = 10_000
"""Commands that the fold holds; older ones, answered long ago, are in the log alone."""
MAX_EXPIRES_S: Final = 30 * 86_400.0


@dataclass(slots=True)
class State:
    """Commands in order of their issue, by id; `requests`: a command's id to the digest of what was asked."""

    commands: dict[str, Tracked] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """One more event. What was taken before, and other topics' events, change nothing."""
        match event:
            case CommandIssued() if event.subject not in self.commands:
                self.commands[event.subject] = Tracked(
                    event.subject,
                    event.edge,
                    event.kind,
                    event.arguments,
                    event.by,
                    event.occurred_at,
                    event.expires_at,
                )
                self.requests[event.subject] = event.request
                while len(self.commands) > MAX_REMEMBERED:
                    oldest = next(iter(self.commands))
                    del self.commands[oldest], self.requests[oldest]
            case CommandAnswered():
                known = self.commands.get(event.subject)
                if known is not None and known.outcome == OPEN:
                    self.commands[event.subject] = replace(
                        known, outcome=event.outcome, detail=event.detail, answered_at=event.occurred_at
                    )

    def open(self, edge: str) -> list[Tracked]:
        """The edge's commands that it did not answer, oldest first."""
        return [one for one in self.commands.values() if one.edge == edge and one.outcome == OPEN]

    def waited_for(self) -> set[str]:
        """Edges that have something to answer."""
        return {one.edge for one in self.commands.values() if one.outcome == OPEN}


def command_id(asked: Asked) -> str:
    """The same command for the same idempotency key."""
    return f"cmd-{deterministic_id(asked.edge, asked.request)[:16]}"


def decide_issue(state: State, asked: Asked, now: datetime) -> list[Event]:
    """Let the edge be asked. Raises Rejected (no such command), Conflict (the key was another's, too many wait)."""
    parse_arguments(asked.kind, asked.arguments)
    expires_s = KINDS[asked.kind].expires_s if asked.expires_s is None else asked.expires_s
    if not 0 < expires_s <= MAX_EXPIRES_S:
        raise Rejected(f"a command expires within {MAX_EXPIRES_S:g} s")
    name, digest = command_id(asked), _digest(asked)
    if name in state.commands:
        if state.requests[name] != digest:
            raise Conflict("this idempotency key was used for something else")
        return []
    if len(state.open(asked.edge)) >= MAX_OPEN:
        raise Conflict(f"{MAX_OPEN} commands wait for {asked.edge} already: is it connected?")
    return [
        CommandIssued(
            source=SOURCE, subject=name, occurred_at=now, correlation_id=asked.request, edge=asked.edge,
            kind=asked.kind, arguments=dict(asked.arguments), by=asked.by,
            expires_at=now + timedelta(seconds=expires_s), request=digest,
        )
    ]  # fmt: skip


def decide_answers(state: State, edge: str, answers: Iterable[Answer]) -> list[Event]:
    """Events of the answers that are news. An edge answers for its own commands only."""
    made: list[Event] = []
    for answer in answers:
        known = state.commands.get(answer.id)
        if known is not None and known.edge == edge and known.outcome == OPEN:
            made.append(
                CommandAnswered(
                    source=f"edge/{edge}", subject=answer.id, occurred_at=at(answer.at_us), edge=edge,
                    outcome=answer.outcome.value, detail=answer.detail,
                )
            )  # fmt: skip
    return made


def for_edge(commands: Iterable[Tracked]) -> list[Command]:
    """Commands as the edge is given them."""
    return [
        Command(one.id, one.kind, one.arguments, one.by, to_us(one.issued_at), to_us(one.expires_at))
        for one in commands
    ]


def _digest(asked: Asked) -> str:
    what: Mapping[str, object] = {
        "edge": asked.edge, "kind": asked.kind, "arguments": asked.arguments, "expires_s": asked.expires_s,
    }  # fmt: skip
    return hashlib.blake2b(orjson.dumps(what, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()
