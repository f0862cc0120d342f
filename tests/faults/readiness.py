"""What parts say of themselves, looked at all the time: whether /readyz was true to what a test did."""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

import httpx

from tests.faults.background import Background

_PACE_S: Final = 0.05
_PATIENCE_S: Final = 2.0
NOBODY: Final = 0
"""Nobody answered: the process is between two lives, or hangs."""


class Readiness:
    """Follows `/readyz` of the parts at these URLs until it is told to end. Times are `time.monotonic()`."""

    def __init__(self, background: Background, urls: Mapping[str, str]) -> None:
        self.names = tuple(urls)
        self._seen: dict[str, list[tuple[float, int]]] = {name: [] for name in urls}
        self._background = background
        self._halt = asyncio.Event()
        self._running = [background.start(self._follow(name, url)) for name, url in urls.items()]

    def stop(self) -> None:
        """End."""
        self._background.loop.call_soon_threadsafe(self._halt.set)
        for running in self._running:
            running.result(2 * _PATIENCE_S)

    def said(self, name: str, since: float, until: float) -> set[int]:
        """Every status of a part between two times."""
        return {status for at, status in list(self._seen[name]) if since <= at < until}

    def now(self, name: str) -> int:
        """The newest."""
        return self._seen[name][-1][1] if self._seen[name] else NOBODY

    async def _follow(self, name: str, url: str) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=_PATIENCE_S, trust_env=False) as client:
            while not self._halt.is_set():
                try:
                    status = (await client.get("/readyz")).status_code
                except httpx.TransportError:
                    status = NOBODY
                self._seen[name].append((time.monotonic(), status))
                await asyncio.sleep(_PACE_S)
