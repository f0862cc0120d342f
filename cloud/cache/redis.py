"""The cache in Redis 7. A server that is slow, away, full or not ours costs an asker a short wait at most.

Entries expire by the server's own clock. Nothing is subscribed to and nothing deleted: entries tell by themselves
whether they still hold, so that a server that was away, or came back with what it had on its disk, can't mislead.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Final, TypeVar

import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from cloud.cache.circuit import Circuit
from cloud.cache.port import MAX_VALUE, CacheMetrics
from shared.clock import Clock
from shared.errors import Misconfigured

T = TypeVar("T")

log = structlog.get_logger()

CALL_SECONDS: Final = 0.1
"""For connecting, and for an answer. A cache that takes longer than the answer itself is none."""
PATIENCE_SECONDS: Final = 0.25
"""For both together, whatever the driver does."""
CONNECTIONS: Final = 16
"""Askers beyond these find nothing and compute."""
PREFIX: Final = "im1"


class RedisCache:
    """See the port."""

    def __init__(self, server: Redis, space: str, metrics: CacheMetrics, clock: Clock) -> None:
        self._server = server
        self._space = f"{PREFIX}:{space}:"
        self._metrics = metrics
        self._circuit = Circuit(clock)
        self._calls = 0

    async def get(self, key: str) -> bytes | None:
        """See the port."""
        if not self._free():
            return None
        found: object = await self._call(self._server.get(self._space + key))
        mark = _mark(key)
        return found[len(mark) :] if isinstance(found, bytes) and found.startswith(mark) else None

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """See the port."""
        if len(value) <= MAX_VALUE and self._free():
            kept = _mark(key) + value
            await self._call(self._server.set(self._space + key, kept, px=max(1, int(seconds * 1000))))

    def _free(self) -> bool:
        return self._calls < CONNECTIONS and self._circuit.admits()

    async def _call(self, call: Awaitable[T]) -> T | None:
        self._calls += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                found = await call
        except (RedisError, OSError, TimeoutError) as error:
            self._metrics.errors.inc()
            was_open = self._circuit.open
            self._circuit.failed()
            if self._circuit.open and not was_open:
                log.warning(
                    "the cache's server is left alone for a while", why=str(error) or type(error).__name__
                )
            found = None
        else:
            if self._circuit.open:
                log.info("the cache's server answers again")
            self._circuit.succeeded()
        finally:
            self._calls -= 1
            self._metrics.open.set(self._circuit.open)
        return found


def _mark(key: str) -> bytes:
    """What a value begins with: a reply that belongs to another call is not taken for this one's."""
    return blake2b(key.encode(), digest_size=16).digest()


@asynccontextmanager
async def open_redis(url: str, space: str, metrics: CacheMetrics, clock: Clock) -> AsyncIterator[RedisCache]:
    """A client of the server at `url`, which need not be there yet. Raises Misconfigured (no such URL)."""
    try:
        pool = ConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            socket_connect_timeout=CALL_SECONDS,
            socket_timeout=CALL_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        # It connects to nothing yet, but refuses options that are none.
        pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        raise Misconfigured(
            f"no Redis by this URL: {error}", hint="use redis://[:PASSWORD@]HOST:PORT[/DB]"
        ) from error
    server = Redis(connection_pool=pool)
    try:
        yield RedisCache(server, space, metrics, clock)
    finally:
        await server.aclose()
        await pool.aclose()
