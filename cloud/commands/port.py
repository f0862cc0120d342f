"""What the data API needs of commands to edges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from shared.eventlog import Position

OPEN = "open"


@dataclass(frozen=True, slots=True)
class Tracked:
    """A command and what became of it: `outcome` is `open` until its edge answered."""

    id: str
    edge: str
    kind: str
    arguments: Mapping[str, Any]
    by: str
    issued_at: datetime
    expires_at: datetime
    outcome: str = OPEN
    detail: str = ""
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants of an edge, under which idempotency key; `expires_s` None: as usual for the kind."""

    edge: str
    kind: str
    arguments: Mapping[str, Any]
    by: str
    request: str
    expires_s: float | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """What a request came to; `changed` is False where its key did it before."""

    command: Tracked
    position: Position
    changed: bool


class EdgeCommands(Protocol):
    """Issues commands, and tells of them. Everything raises Unavailable."""

    async def issue(self, asked: Asked) -> Issued:
        """Write it down and let it go. Raises NotFound (no such edge), Rejected, Conflict (too many wait; other key)."""
        ...

    async def newest(self, edge: str, limit: int) -> tuple[Sequence[Tracked], Position]:
        """The newest commands, of one edge or of all (empty), newest first; and what of the topic they count to."""
        ...

    async def one(self, command: str) -> tuple[Tracked, Position]:
        """One. Raises NotFound."""
        ...
