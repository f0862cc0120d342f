"""Time as a dependency: the system's clock, and one that tests move by hand."""

import asyncio
import heapq
import itertools
import time
from typing import Protocol

MICROSECONDS = 1_000_000


class Clock(Protocol):
    """Wall time, monotonic time and waiting. Event times are integer microseconds since 1970 UTC."""

    def now_us(self) -> int:
        """Wall time in µs since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Return after `seconds`."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_us(self) -> int:
        """Wall time in µs since the epoch."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float, /) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands still until `advance` moves it; sleepers wake in order of their deadlines."""

    def __init__(self, start_us: int = 1_700_000_000 * MICROSECONDS) -> None:
        self._start_us = start_us
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_us(self) -> int:
        """Wall time in µs since the epoch."""
        return self._start_us + round(self._elapsed * MICROSECONDS)

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed

    async def sleep(self, seconds: float, /) -> None:
        """Return once `advance` has moved the clock by `seconds`; at once if that is 0 or less."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), waiter))
        await waiter

    async def advance(self, seconds: float) -> None:
        """Move time on and let everything that became due run."""
        target = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, waiter = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, due)
            if not waiter.done():
                waiter.set_result(None)
            for _ in range(5):
                await asyncio.sleep(0)
        self._elapsed = target
        await asyncio.sleep(0)

    async def jump(self, seconds: float) -> None:
        """Move time on at once, as for a machine that slept: what became due meanwhile runs once, late."""
        self._elapsed += seconds
        await self.advance(0)
