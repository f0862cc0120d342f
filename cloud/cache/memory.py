"""The cache in this process: bounded in bytes, the entry that was not asked for longest goes first."""

from collections import OrderedDict
from typing import Final

from cloud.cache.port import MAX_VALUE, CacheMetrics
from shared.clock import Clock

ENTRY_BYTES: Final = 200
"""What an entry takes beside its key and value, about."""


class MemoryCache:
    """See the port."""

    def __init__(self, clock: Clock, metrics: CacheMetrics, most_bytes: int) -> None:
        self._clock = clock
        self._metrics = metrics
        self._most = most_bytes
        self._held = 0
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def get(self, key: str) -> bytes | None:
        """See the port."""
        found = self._entries.get(key)
        if found is None:
            return None
        until, value = found
        if until <= self._clock.monotonic():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """See the port."""
        self._drop(key)
        if len(value) > MAX_VALUE or _size(key, value) > self._most:
            return
        self._entries[key] = self._clock.monotonic() + seconds, value
        self._held += _size(key, value)
        while self._held > self._most:
            self._drop(next(iter(self._entries)))
        self._metrics.bytes.set(self._held)

    def _drop(self, key: str) -> None:
        if (found := self._entries.pop(key, None)) is not None:
            self._held -= _size(key, found[1])
            self._metrics.bytes.set(self._held)


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + ENTRY_BYTES
