"""Reads a log topic backwards, newest first, in bounded stretches; and one record by its place.

Nothing is kept between two reads: a page of the newest letters costs one read of a few hundred records, however
many there are, and a filter that finds little stops after `MAX_SCANNED` with the place to go on from.
"""

import heapq
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, cast

from cloud.deadletters.logic import Accept, Letter, Place
from shared.errors import NotFound
from shared.eventlog import EventLog, Position, Stored
from shared.names import DEAD_LETTER

MAX_SCANNED: Final = 10_000
"""Letters that one page looks at."""
_STRETCHES: Final = (256, 4096)
"""Records of the first stretch, and of the longest."""


@dataclass(frozen=True, slots=True)
class Page:
    """Letters without their payloads, newest first. `before` is where the next page goes on; empty at the end."""

    letters: tuple[Letter, ...]
    before: Mapping[str, int]
    scanned: int


@dataclass(slots=True)
class _Stretch:
    """Accepted letters of one partition with offsets in [low, high), oldest first, and how many were looked at."""

    low: int
    found: list[Letter]
    looked: int
    first: bool
    """Whether there is nothing older to look at."""


async def read_at(events: EventLog, topic: str, place: Place) -> Stored | None:
    """The record at a place; None if the log holds none there (any more). Raises Unavailable."""
    ends = await events.end(topic)
    if place.offset > ends.get(place.partition, -1):
        return None
    async with _records(events, topic, ends, place.partition, place.offset) as records:
        async for record in records:
            if record.partition == place.partition:
                return record if record.offset == place.offset else None
    return None


class Letters:
    """The topic `dead-letter`."""

    def __init__(self, events: EventLog) -> None:
        self._events = events

    async def one(self, place: Place) -> Letter:
        """A letter, whole. Raises NotFound, Unavailable."""
        record = await read_at(self._events, DEAD_LETTER, place)
        if record is None:
            raise NotFound(f"no dead letter {place}: it aged out, or there never was one")
        return Letter.of(record)

    async def page(self, accept: Accept, before: Mapping[str, int], limit: int, *, since_us: int = 0) -> Page:
        """Up to `limit` accepted letters before these offsets (none given: before the end), newest first.

        Newest by the log's time; of several partitions stretch by stretch. Raises Unavailable.
        """
        ends = await self._events.end(DEAD_LETTER)
        cursors = {
            partition: min(before.get(partition, end + 1), end + 1) for partition, end in sorted(ends.items())
        }
        found: list[Letter] = []
        scanned, length = 0, _STRETCHES[0]
        while any(cursors.values()) and len(found) < limit and scanned < MAX_SCANNED:
            stretches = {
                partition: await self._stretch(ends, partition, high, length, accept, since_us)
                for partition, high in cursors.items()
                if high
            }
            scanned += sum(stretch.looked for stretch in stretches.values())
            taken = list(_newest(stretches))[: limit - len(found)]
            found += taken
            cursors |= {
                partition: _reached(partition, cursors, s, taken) for partition, s in stretches.items()
            }
            length = min(4 * length, _STRETCHES[1])
        return Page(tuple(found), cursors if any(cursors.values()) else {}, scanned)

    async def _stretch(
        self, ends: Position, partition: str, high: int, length: int, accept: Accept, since_us: int
    ) -> _Stretch:
        made = _Stretch(max(high - length, 0), [], 0, first=high <= length)
        async with _records(self._events, DEAD_LETTER, ends, partition, made.low) as records:
            async for record in records:
                if record.partition != partition:
                    continue  # newer than the end we know
                if record.offset < high:
                    made.first = made.first or record.time_us < since_us
                    made.looked += 1
                    letter = Letter.of(record)
                    if accept(letter):
                        made.found.append(letter.without_payload())
                if record.offset >= high - 1:
                    break
        if not made.looked and not made.first:
            made.first = await self._first(ends, partition) >= high
        return made

    async def _first(self, ends: Position, partition: str) -> int:
        """The offset of the oldest record that the log still has; past the end if there is none."""
        async with _records(self._events, DEAD_LETTER, ends, partition, 0) as records:
            async for record in records:
                if record.partition == partition:
                    return record.offset
        return ends[partition] + 1


def _newest(stretches: Mapping[str, _Stretch]) -> list[Letter]:
    """The stretches' letters, newest first, each partition's in its own order."""
    backwards = [reversed(stretch.found) for stretch in stretches.values()]
    return list(heapq.merge(*backwards, key=lambda letter: -letter.time_us))


def _reached(partition: str, cursors: Mapping[str, int], stretch: _Stretch, taken: list[Letter]) -> int:
    """The offset before which a partition goes on; 0 when it is done."""
    offsets = [letter.place.offset for letter in taken if letter.place.partition == partition]
    if len(offsets) < len(stretch.found):
        return min(offsets, default=cursors[partition])
    return 0 if stretch.first else stretch.low


def _records(
    events: EventLog, topic: str, ends: Position, partition: str, low: int
) -> "aclosing[AsyncGenerator[Stored, None]]":
    """Records of one partition from offset `low` on, as long as its reader wants them."""
    start = {name: end for name, end in ends.items() if name != partition}
    if low > 0:
        start[partition] = low - 1
    return aclosing(cast("AsyncGenerator[Stored, None]", events.read(topic, start)))
