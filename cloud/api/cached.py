"""Answers kept for the next asker, and made once for all who ask at the same time; never one that no longer holds.

An entry says up to which position of the log the store counted before it was made. It is given to an asker only if the
log has touched nothing of it since (`touched`), or if the store stands exactly where it stood. Nothing has to be
told to a cache for that, so that one that was away, or is shared by several processes, can't be wrong.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import orjson
from prometheus_client import CollectorRegistry
from pydantic import TypeAdapter, ValidationError

from cloud.api.live import Broadcaster
from cloud.api.touched import Reads, Touched, covers
from cloud.cache.memory import MemoryCache
from cloud.cache.port import DEFAULT_BYTES, Cache, CacheMetrics
from cloud.telemetry.port import TelemetryReader
from shared.clock import Clock
from shared.eventlog import Position

Positions = Mapping[str, Mapping[str, int]]
"""Topic to partition to offset."""

KEEP_SECONDS: Final = 60.0
"""Bounds what no position tells: rows that retention took away, a store that was replaced by its rebuilt copy."""
MAX_FLIGHTS: Final = 256
"""Answers being made for all who ask; beyond, each asker has its own made."""


@dataclass(frozen=True, slots=True)
class Made:
    """An answer's bytes and what they are; `more` are header fields."""

    media_type: str
    body: bytes
    more: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer with its strong tag and the position that it counts to."""

    made: Made
    tag: str
    positions: Positions


class Answers:
    """The store's answers by key. `positions` tells where the store stands now."""

    def __init__(
        self,
        cache: Cache,
        touched: Touched,
        positions: Callable[[], Awaitable[Positions]],
        metrics: CacheMetrics,
        *,
        seconds: float = KEEP_SECONDS,
    ) -> None:
        self._cache = cache
        self._touched = touched
        self._positions = positions
        self._metrics = metrics
        self._seconds = seconds
        self._flights: dict[str, asyncio.Task[Kept]] = {}
        self._puts: set[asyncio.Task[None]] = set()

    async def get(self, key: str, reads: Sequence[Reads], make: Callable[[], Awaitable[Made]]) -> Kept:
        """The answer under the key, which `make` makes from `reads` alone. Raises what `make` raises."""
        needed = [self._touched.needs(what) for what in reads]
        flight = self._flights.get(key)
        if flight is None:
            kept = _decode(await self._cache.get(key))
            if kept is not None and await self._holds(kept, reads, needed):
                self._metrics.asked.labels("hit").inc()
                return kept
            outcome = "miss" if kept is None else "stale"
            flight = self._flights.get(key)  # somebody may have begun meanwhile
        if flight is not None:
            kept = await asyncio.shield(flight)
            if await self._holds(kept, reads, needed):
                self._metrics.asked.labels("joined").inc()
                return kept
            outcome = "stale"
            newer = self._flights.get(key)
            if newer is not None and newer is not flight:  # it began after this asker came
                self._metrics.asked.labels("joined").inc()
                return await asyncio.shield(newer)
        self._metrics.asked.labels(outcome).inc()
        return await asyncio.shield(self._begin(key, reads, make))

    async def kept(self, key: str, reads: Sequence[Reads]) -> Kept | None:
        """The answer under the key if it is there and holds by what the log touched; nothing is made."""
        needed = [self._touched.needs(what) for what in reads]
        found = _decode(await self._cache.get(key)) if None not in needed else None
        if found is None or not _counts(found, reads, needed):
            return None
        self._metrics.asked.labels("hit").inc()
        return found

    def _begin(
        self, key: str, reads: Sequence[Reads], make: Callable[[], Awaitable[Made]]
    ) -> asyncio.Task[Kept]:
        flight = asyncio.create_task(self._make(reads, make), name="answer")
        flight.add_done_callback(lambda done: self._landed(key, done))
        if len(self._flights) < MAX_FLIGHTS:
            self._flights[key] = flight
        return flight

    def _landed(self, key: str, flight: asyncio.Task[Kept]) -> None:
        """Keep the answer; until it is kept, who asks is still given the flight's."""
        if flight.cancelled() or flight.exception() is not None:
            self._forget(key, flight)
            return
        put = asyncio.create_task(
            self._cache.put(key, _encode(flight.result()), self._seconds), name="keep an answer"
        )
        self._puts.add(put)
        put.add_done_callback(self._puts.discard)
        put.add_done_callback(lambda _: self._forget(key, flight))

    def _forget(self, key: str, flight: asyncio.Task[Kept]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    def stands(self, topic: str) -> Callable[[], Awaitable[Position]]:
        """Who tells up to where of the topic the store counts now."""

        async def look() -> Position:
            return (await self._positions()).get(topic, {})

        return look

    async def _make(self, reads: Sequence[Reads], make: Callable[[], Awaitable[Made]]) -> Kept:
        stood = await self._positions()  # before the answer: it counts at least to there
        made = await make()
        positions = {what.topic: dict(stood.get(what.topic, {})) for what in reads}
        return Kept(made, tag_of(made), positions)

    async def _holds(
        self, kept: Kept, reads: Sequence[Reads], needed: Sequence[Mapping[str, int] | None]
    ) -> bool:
        """Whether the store has nothing of `reads` that the answer lacks."""
        if _counts(kept, reads, needed):
            return True
        now = await self._positions()
        return all(kept.positions.get(what.topic) == dict(now.get(what.topic, {})) for what in reads)


def _counts(kept: Kept, reads: Sequence[Reads], needed: Sequence[Mapping[str, int] | None]) -> bool:
    """Whether the answer counts to all that is needed, and that is known."""
    return all(
        position is not None and covers(kept.positions.get(what.topic, {}), position)
        for what, position in zip(reads, needed, strict=True)
    )


def answers_in_memory(
    store: TelemetryReader, live: Broadcaster, registry: CollectorRegistry, clock: Clock
) -> Answers:
    """Answers that this process keeps."""
    metrics = CacheMetrics(registry)
    cache = MemoryCache(clock, metrics, DEFAULT_BYTES)
    return Answers(cache, live.touched, store.positions, metrics)


def tag_of(made: Made) -> str:
    """A strong entity tag: a hash of the media type and the bytes."""
    digest = blake2b(made.media_type.encode() + b"\n", digest_size=16)
    digest.update(made.body)
    return f'"{digest.hexdigest()}"'


def key_of(*parts: Any) -> str:  # noqa: ANN401 - JSON
    """A short key for an answer to a question with these parts."""
    return blake2b(orjson.dumps(parts), digest_size=20).hexdigest()


def _encode(kept: Kept) -> bytes:
    head = [kept.made.media_type, dict(kept.made.more), kept.tag, kept.positions]
    return orjson.dumps(head) + b"\n" + kept.made.body


_HEAD: Final = TypeAdapter(tuple[str, dict[str, str], str, dict[str, dict[str, int]]])


def _decode(value: bytes | None) -> Kept | None:
    """The entry; None for what is none, or another release's."""
    if value is None:
        return None
    head, _, body = value.partition(b"\n")
    try:
        media_type, more, tag, positions = _HEAD.validate_json(head)
    except ValidationError:
        return None
    return Kept(Made(media_type, body, more), tag, positions)
