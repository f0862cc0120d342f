"""What the data API needs of verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from shared.eventlog import Position
from shared.verdict_events import VerdictKind


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody says of a machine's time [begins, ends), under which idempotency key."""

    machine: str
    begins: datetime
    ends: datetime
    kind: VerdictKind
    code: str
    confidence: float
    note: str
    supersedes: str
    by: str
    request: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict as it stands at the time that was asked for. `superseded_by` is empty while it holds."""

    id: str
    machine: str
    begins: datetime
    ends: datetime
    kind: VerdictKind
    code: str
    confidence: float
    by: str
    note: str
    as_of: datetime
    supersedes: str = ""
    superseded_by: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """What a request came to; `changed` is False where its key did it before."""

    verdict: Verdict
    position: Position
    changed: bool


@dataclass(frozen=True, slots=True)
class Quiet:
    """A stretch [from, to) of a machine's time in which nothing alarmed, for somebody to look at."""

    machine: str
    from_us: int
    to_us: int


class Verdicts(Protocol):
    """Takes verdicts and tells of them. Everything raises Unavailable."""

    async def give(self, asked: Asked) -> Given:
        """Write it down. Raises NotFound (machine, what it supersedes), Rejected, Conflict (superseded already; other key)."""
        ...

    async def newest(
        self, machine: str, as_of: datetime | None, limit: int, *, all_of_them: bool = False
    ) -> tuple[Sequence[Verdict], Position]:
        """The newest verdicts that hold as of a time (None: now), of one machine or of all (empty), newest first.

        `all_of_them`: superseded ones too. With them what of the topic they count to.
        """
        ...

    async def review(self, week: str) -> Sequence[Quiet]:
        """Quiet windows of an ISO week, the same ones for all who ask. Raises Rejected (no such week)."""
        ...
