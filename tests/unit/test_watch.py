"""Readiness follows what is asked: there, away, hanging, and back."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from shared.errors import Unavailable
from shared.health import Health
from shared.watch import Probe, Watch


class Server:
    """What is asked. `away` refuses; while `answering` is clear, it hangs."""

    def __init__(self) -> None:
        self.away = False
        self.answering = asyncio.Event()
        self.answering.set()
        self.asked = self.open = self.most_open = 0
        self._news = asyncio.Condition()

    async def ask(self) -> None:
        self.asked += 1
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        async with self._news:
            self._news.notify_all()
        try:
            await self.answering.wait()
        finally:
            self.open -= 1
        if self.away:
            raise Unavailable("it is away")

    async def next_questions(self, count: int = 2) -> None:
        """Until so many more were asked: the answer to all but the last was looked at by then."""
        goal = self.asked + count
        async with self._news:
            await self._news.wait_for(lambda: self.asked >= goal)


@asynccontextmanager
async def watched(probes: Mapping[str, Probe], most: float = 5.0) -> AsyncIterator[Health]:
    health = Health()
    health.started = True
    watch = Watch(health, probes, every=0.0, most=most)
    running = asyncio.create_task(watch.run())
    try:
        yield health
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_nothing_is_ready_before_it_was_asked() -> None:
    server = Server()
    server.answering.clear()
    async with watched({"store": server.ask}) as health:
        assert health.problems() == {"store": "not asked yet"}


async def test_readiness_goes_with_a_server_and_comes_back_with_it() -> None:
    server, other = Server(), Server()
    async with watched({"store": server.ask, "database": other.ask}) as health:
        await asyncio.gather(server.next_questions(), other.next_questions())
        assert health.ready
        server.away = True
        await server.next_questions()
        assert health.problems() == {"store": "it is away"}
        server.away = False
        await server.next_questions()
        assert health.ready


async def test_a_server_that_hangs_is_not_there_and_is_asked_one_question_at_a_time() -> None:
    server = Server()
    async with watched({"store": server.ask}, most=0.001) as health:
        await server.next_questions()
        server.answering.clear()
        async with asyncio.timeout(10):
            while health.ready:
                await asyncio.sleep(0)
        assert "no answer" in health.problems()["store"]
        assert (server.open, server.most_open) == (1, 1)
        server.answering.set()
        await server.next_questions()
        assert server.most_open == 1


async def test_a_bug_in_a_probe_ends_the_watch() -> None:
    async def broken() -> None:
        raise KeyError("no such column")

    with pytest.raises(ExceptionGroup) as caught:
        await Watch(Health(), {"store": broken}).run()
    assert caught.group_contains(KeyError)
