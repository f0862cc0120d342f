"""Waiting for something to happen or for time to pass, whichever is first."""

import asyncio
from typing import Any

from shared.clock import Clock


async def event_or_time(event: asyncio.Event, clock: Clock, seconds: float | None) -> None:
    """Return when `event` is set or after `seconds` (None: only the event); `event` is cleared."""

    async def happened() -> None:
        await event.wait()

    async def passed(wait: float) -> None:
        await clock.sleep(wait)

    waits: list[asyncio.Task[Any]] = [asyncio.create_task(happened())]
    if seconds is not None:
        waits.append(asyncio.create_task(passed(seconds)))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
        event.clear()
