"""Batches of the log: how many records are written together. Bounded by records, by rows and by time."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cloud.ingest.logic import Letter, read_batch
from cloud.telemetry.port import Entry
from shared.clock import Clock
from shared.errors import Unavailable
from shared.eventlog import Batch, Subscription
from shared.frames import MAX_ROWS

_IDLE_SECONDS: Final = 0.5
MOST_RECORDS: Final = 1000
"""Records of a batch that grows while the store is busy."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is written: after so many records, so many rows, or so long after its first record."""

    records: int = 100
    rows: int = 50_000
    seconds: float = 0.03


@dataclass(slots=True)
class Fetched:
    """Records that are written together, decoded."""

    batches: list[Batch] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    rows: int = 0

    @property
    def oldest_us(self) -> int:
        """When the log took the oldest of them."""
        return min(entry.record.time_us for entry in self.entries)

    def add(self, batch: Batch, entries: Sequence[Entry], letters: Sequence[Letter]) -> None:
        """One more of the log's batches, with what its records are."""
        self.batches.append(batch)
        self.entries += entries
        self.letters += letters
        self.rows += sum(1 if entry.header is None else entry.header.count for entry in entries)


class Fetcher:
    """Makes a member's records batches.

    A batch is ready after `limits.records` records, `limits.rows` rows or `limits.seconds` after its first record. While
    the store is still busy with the one before, a ready one would only wait: then it goes on to take what the log
    has, up to the same rows and `MOST_RECORDS`. So frames of few rows share a transaction when there is much to do,
    and nobody waits for company when there is not.
    """

    def __init__(self, subscription: Subscription, limits: Limits, clock: Clock) -> None:
        self._subscription = subscription
        self._limits = limits
        self._clock = clock
        self._per_record = MAX_ROWS

    async def fetch(self, busy: Callable[[], bool]) -> Fetched | None:
        """The next batch; None if nothing comes for a while. Raises Unavailable."""
        found = Fetched()
        await self._add(found, await self._subscription.fetch(self._piece(found, busy=False), _IDLE_SECONDS))
        if not found.entries:
            return None
        until = self._clock.monotonic() + self._limits.seconds
        while piece := self._piece(found, busy=busy()):
            left = until - self._clock.monotonic()
            if left <= 0 and not busy():
                break
            try:
                more = await self._subscription.fetch(piece, max(0.0, left))
            except Unavailable:
                break  # what is here is written; the next call tells
            if not more.records:
                break
            await self._add(found, more)
        return found

    def _piece(self, found: Fetched, *, busy: bool) -> int:
        """How many records to ask for: as many as fill the batch, if they are like the last ones; 0: it is full."""
        most = max(self._limits.records, MOST_RECORDS) if busy else self._limits.records
        records, rows = most - len(found.entries), self._limits.rows - found.rows
        if records <= 0 or rows <= 0:
            return 0
        return min(records, self._limits.records, -(-rows // self._per_record))

    async def _add(self, found: Fetched, batch: Batch) -> None:
        if batch.records:
            found.add(batch, *await asyncio.to_thread(read_batch, batch.records))
            self._per_record = max(1, found.rows // len(found.entries))
