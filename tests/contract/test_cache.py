"""One suite for every cache: bytes come back as they were or not at all, and nobody waits for a server that is away."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager

import pytest
from prometheus_client import CollectorRegistry

from cloud.cache.port import MAX_VALUE, Cache, CacheMetrics, open_cache
from deploy.servers.redis import Redis
from shared.clock import ManualClock, SystemClock
from shared.errors import Misconfigured

Open = Callable[..., AbstractAsyncContextManager[Cache]]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.real)])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    server: Redis = request.getfixturevalue("redis")
    return server.url


@pytest.fixture
async def cache(url: str, request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    metrics = CacheMetrics(CollectorRegistry())
    async with open_cache(url, metrics=metrics, clock=SystemClock(), space=request.node.name) as opened:
        yield opened


async def gone(cache: Cache, key: str) -> None:
    async with asyncio.timeout(5):
        while await cache.get(key) is not None:
            await asyncio.sleep(0.005)


async def test_what_was_put_comes_back_byte_for_byte(cache: Cache) -> None:
    values = {"a": b"", "b": bytes(range(256)), "ü/ {}\n": b"x" * 100_000}
    assert [await cache.get(key) for key in values] == [None] * 3
    for key, value in values.items():
        await cache.put(key, value, 60)
    assert [await cache.get(key) for key in values] == list(values.values())
    await cache.put("a", b"newer", 60)
    assert await cache.get("a") == b"newer"


async def test_nothing_is_kept_longer_than_was_said(cache: Cache) -> None:
    await cache.put("short", b"1", 0.05)
    await cache.put("long", b"2", 60)
    await gone(cache, "short")
    assert await cache.get("long") == b"2"
    await cache.put("short", b"3", 60)
    assert await cache.get("short") == b"3"


async def test_what_is_too_long_is_not_kept(cache: Cache) -> None:
    await cache.put("k", b"old", 60)
    await cache.put("k", bytes(MAX_VALUE + 1), 60)
    assert await cache.get("k") in {None, b"old"}
    await cache.put("most", bytes(MAX_VALUE), 60)
    assert await cache.get("most") == bytes(MAX_VALUE)


async def test_askers_that_give_up_leave_no_harm(cache: Cache) -> None:
    """A reply that nobody took must not be the next asker's."""
    for n in range(50):
        await cache.put(str(n), str(n).encode() * 1000, 60)
    for n in range(50):
        asking = asyncio.create_task(cache.get(str(n)))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        other = str(49 - n)
        assert await cache.get(other) in {None, other.encode() * 1000}


async def test_many_askers_at_once(cache: Cache) -> None:
    await cache.put("k", b"v" * 10_000, 60)
    found = await asyncio.gather(*(cache.get("k") for _ in range(200)))
    assert set(found) <= {None, b"v" * 10_000}
    assert b"v" * 10_000 in found


async def test_memory_is_bounded_and_what_was_asked_for_last_stays() -> None:
    registry = CollectorRegistry()
    metrics = CacheMetrics(registry)
    async with open_cache("", metrics=metrics, clock=ManualClock(), most_bytes=10_000) as cache:
        await cache.put("first", bytes(2000), 60)
        for n in range(20):
            assert await cache.get("first") is not None
            await cache.put(str(n), bytes(2000), 60)
        assert [n for n in range(20) if await cache.get(str(n))] == [17, 18, 19]
        assert 8000 < (registry.get_sample_value("im_cache_bytes") or 0) <= 10_000
        await cache.put("first", bytes(20_000), 60)
        assert await cache.get("first") is None


async def test_a_cache_of_no_bytes_keeps_nothing() -> None:
    metrics = CacheMetrics(CollectorRegistry())
    async with open_cache("", metrics=metrics, clock=ManualClock(), most_bytes=0) as cache:
        await cache.put("k", b"", 60)
        assert await cache.get("k") is None


@pytest.mark.parametrize(
    "url", ["memcached://x", "redis://h:port", "redis://h:1/x?y=z&retry_on_timeout=maybe"]
)
async def test_a_url_that_is_none_is_told_at_the_start(url: str) -> None:
    with pytest.raises(Misconfigured):
        async with open_cache(url, metrics=CacheMetrics(CollectorRegistry()), clock=SystemClock()):
            pass


# Redis alone


async def timed(call: Awaitable[object]) -> float:
    begin = time.monotonic()
    assert await call is None
    return time.monotonic() - begin


@pytest.fixture
async def apart(redis: Redis) -> AsyncIterator[tuple[Cache, CollectorRegistry, ManualClock]]:
    registry, clock = CollectorRegistry(), ManualClock()
    async with open_cache(redis.url, metrics=CacheMetrics(registry), clock=clock, space="apart") as cache:
        yield cache, registry, clock


@pytest.mark.real
async def test_a_frozen_server_costs_a_short_wait_and_is_then_left_alone(
    redis: Redis, apart: tuple[Cache, CollectorRegistry, ManualClock]
) -> None:
    cache, registry, clock = apart
    await cache.put("k", b"v", 60)
    redis.pause()
    try:
        waits = [await timed(cache.get("k")) for _ in range(5)]
        assert max(waits) < 0.5
        assert registry.get_sample_value("im_cache_circuit_open") == 1
        assert sum([await timed(cache.get("k")) for _ in range(1000)]) < 0.1
        assert registry.get_sample_value("im_cache_errors_total") == 5
    finally:
        redis.resume()
    assert await cache.get("k") is None
    await clock.advance(1)
    assert await cache.get("k") == b"v"
    assert registry.get_sample_value("im_cache_circuit_open") == 0


@pytest.mark.real
async def test_a_killed_server_is_found_again(
    redis: Redis, apart: tuple[Cache, CollectorRegistry, ManualClock]
) -> None:
    cache, registry, clock = apart
    await cache.put("k", b"v", 60)
    redis.kill()
    try:
        for _ in range(5):
            assert await timed(cache.get("k")) < 0.5
        await cache.put("k", b"w", 60)
        assert registry.get_sample_value("im_cache_circuit_open") == 1
    finally:
        redis.start()
    await clock.advance(1)
    assert await cache.get("k") in {None, b"v"}
    await cache.put("k", b"x", 60)
    assert await cache.get("k") == b"x"


@pytest.mark.real
async def test_what_is_under_the_key_and_not_ours_is_nothing(redis: Redis) -> None:
    from redis.asyncio import Redis as Driver  # noqa: PLC0415 - the fixture has the name

    metrics = CacheMetrics(CollectorRegistry())
    async with (
        open_cache(redis.url, metrics=metrics, clock=SystemClock(), space="s") as cache,
        Driver.from_url(redis.url) as driver,
    ):
        await driver.set("im1:s:text", b"somebody else's")
        await driver.lpush("im1:s:list", b"1")
        assert await cache.get("text") is None
        assert await cache.get("list") is None
        await cache.put("list", b"ours", 60)
        assert await cache.get("list") == b"ours"
