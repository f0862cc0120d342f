"""Redis stopped, frozen and killed under load, with two API processes' worth of askers: every answer beside the truth."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from cloud.api.cached import Answers, Made, key_of
from cloud.api.series import Name, pages
from cloud.api.touched import Reads, Touched
from cloud.cache.port import CacheMetrics, open_cache
from cloud.telemetry.port import HOUR_US, Entry, TelemetryStore, open_store
from deploy.servers.redis import Redis
from shared.clock import SystemClock
from shared.eventlog import Stored
from shared.frames import Header, Kind, Readings
from shared.names import SENSOR_READINGS

pytestmark = pytest.mark.real

T0 = 1_767_225_600_000_000
HOURS = 6
SETTLE_S = 1.0
MACHINES = ("m1", "m2", "m3")


class Plant:
    """One store, a writer that the log runs ahead of by nothing, and two processes that keep answers in one Redis."""

    def __init__(self, store: TelemetryStore) -> None:
        self.store = store
        self.written: dict[str, set[int]] = {machine: set() for machine in MACHINES}
        self.known: dict[str, set[int]] = {machine: set() for machine in MACHINES}
        self.registries = [CollectorRegistry(), CollectorRegistry()]
        self.touched = [Touched(), Touched()]
        for each in self.touched:
            each.begin(SENSOR_READINGS, {})
        self.answers: list[Answers] = []
        self.asked = 0
        self.slowest = 0.0
        self._random = random.Random(5)
        self._row = 0

    async def write(self) -> None:
        """One more reading at any time of the six hours: in the store, then in each process's view of the log."""
        machine = self._random.choice(MACHINES)
        time_us = T0 + self._random.randrange(HOURS * 3600) * 1_000_000 + self._row
        self._row += 1
        at = np.array([time_us])
        body = Readings(("s",), ("mm",), at * 0, at, at, np.array([1.0]), np.zeros(1, np.uint8))
        header = Header("s1", "e1", machine, Kind.READINGS, b"e" * 16, self._row, 1)
        record = Stored(SENSOR_READINGS, machine, b"", {}, "0", self._row, time_us)
        self.written[machine].add(time_us)
        await self.store.write([Entry(record, header, body)])
        for each in self.touched:
            each.touch(SENSOR_READINGS, "0", self._row, machine, (time_us, time_us))
        self.known[machine].add(time_us)

    async def ask(self) -> None:
        """A question of one process; its answer has all that was known before it, and nothing that is not written."""
        machine, hour = self._random.choice(MACHINES), self._random.randrange(HOURS)
        first, last = T0 + hour * HOUR_US, T0 + (hour + 1) * HOUR_US
        must = {at for at in self.known[machine] if first <= at < last}

        async def make() -> Made:
            [part], _ = await pages(self.store, [Name(machine, "s")], [first], last, 4000)
            return Made("test", b" ".join(str(at).encode() for at in part.columns["time_us"]), {})

        begin = time.monotonic()
        reads = [Reads(SENSOR_READINGS, machine, first, last)]
        kept = await self._random.choice(self.answers).get(key_of(machine, hour), reads, make)
        self.slowest = max(self.slowest, time.monotonic() - begin)
        found = {int(at) for at in kept.made.body.split()}
        assert must <= found, "an answer lacks what was known before it was asked for"
        assert found <= self.written[machine]
        self.asked += 1

    def figure(self, name: str, **labels: str) -> float:
        return sum(each.get_sample_value(name, labels) or 0 for each in self.registries)


@pytest.fixture
async def plant(tmp_path: Path, redis: Redis) -> AsyncIterator[Plant]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(f"sqlite:///{tmp_path}/t.db"))
        made = Plant(store)
        for registry, touched in zip(made.registries, made.touched, strict=True):
            metrics = CacheMetrics(registry)
            cache = await stack.enter_async_context(
                open_cache(redis.url, metrics=metrics, clock=SystemClock(), space=str(tmp_path))
            )
            made.answers.append(Answers(cache, touched, store.positions, metrics))
        for machine in MACHINES:
            while not made.known[machine]:
                await made.write()
        yield made


async def test_no_answer_is_wrong_whatever_happens_to_redis(plant: Plant, redis: Redis) -> None:
    over = asyncio.Event()

    async def keep(what: Callable[[], Awaitable[None]], pause: float) -> None:
        while not over.is_set():
            await what()
            await asyncio.sleep(pause)

    async def hits(more: int) -> None:
        """Load goes on until the cache gave so many more answers."""
        wanted = plant.figure("im_cache_requests_total", outcome="hit") + more
        async with asyncio.timeout(60):
            while plant.figure("im_cache_requests_total", outcome="hit") < wanted:
                await asyncio.sleep(0.01)

    async def answers(more: int) -> None:
        wanted = plant.asked + more
        async with asyncio.timeout(60):
            while plant.asked < wanted:
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as load:
        load.create_task(keep(plant.write, 0.03))
        for _ in range(6):
            load.create_task(keep(plant.ask, 0.002))
        await hits(100)
        for away, back in ((redis.stop, redis.start), (redis.pause, redis.resume), (redis.kill, redis.start)):
            errors = plant.figure("im_cache_errors_total")
            await asyncio.to_thread(away)
            await answers(200)
            assert plant.figure("im_cache_errors_total") > errors
            assert plant.figure("im_cache_circuit_open") > 0
            await asyncio.to_thread(back)
            await hits(50)
        over.set()
    print(  # noqa: T201 - a figure for the report
        f"{plant.asked} answers, the slowest after {plant.slowest * 1000:.0f} ms"
    )
    assert plant.slowest < SETTLE_S
