"""The cache's port: bytes by key, for a while. Whether they still hold is the business of who keeps them.

A cache may forget anything at any time, and holds nothing that can't be made again. Invalidation is by what an entry
says of itself (`cloud/api/cached.py`: up to which position of the log it counts), never by messages that could be lost.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge

from shared.clock import Clock
from shared.errors import Misconfigured

MAX_VALUE: Final = 4 * 1024 * 1024
"""Longer values are not kept."""
DEFAULT_BYTES: Final = 64 * 1024 * 1024


class Cache(Protocol):
    """Never raises, and never keeps its asker waiting for long: what is away has nothing and keeps nothing."""

    async def get(self, key: str) -> bytes | None:
        """The bytes last put under the key, if they are still there."""
        ...

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """Keep bytes for at most so long. Longer than MAX_VALUE, they are not kept."""
        ...


class CacheMetrics:
    """What the cache does and how it is."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.asked = Counter(
            "im_cache_requests", "Answers asked of the cache, by outcome.", ["outcome"], registry=registry
        )
        self.errors = Counter("im_cache_errors", "Calls that the cache's server failed.", registry=registry)
        self.open = Gauge("im_cache_circuit_open", "1 while the server is not even asked.", registry=registry)
        self.bytes = Gauge("im_cache_bytes", "Bytes kept in this process.", registry=registry)


@asynccontextmanager
async def open_cache(
    url: str, *, metrics: CacheMetrics, clock: Clock, space: str = "", most_bytes: int = DEFAULT_BYTES
) -> AsyncIterator[Cache]:
    """The cache behind `url`: `memory://` (in this process, up to `most_bytes`) or `redis://[:PASSWORD@]HOST:PORT[/DB]`.

    `space` keeps what shares a server apart. A server that is away is no error, now or later. Raises Misconfigured.
    """
    match urlsplit(url).scheme:
        case "" | "memory":
            from cloud.cache.memory import MemoryCache  # noqa: PLC0415 - a backend loads only when it is chosen

            yield MemoryCache(clock, metrics, most_bytes)
        case "redis" | "rediss":
            from cloud.cache.redis import open_redis  # noqa: PLC0415 - the same

            async with open_redis(url, space, metrics, clock) as cache:
                yield cache
        case scheme:
            raise Misconfigured(
                f"no cache for {scheme!r}", hint="use memory:// or redis://HOST:PORT in api.cache_url"
            )
