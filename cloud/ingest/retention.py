"""What the store keeps no longer goes, a piece at a time, so that a write waits for one piece at most."""

import asyncio
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from cloud.telemetry.port import Retention, TelemetryStore
from shared.clock import Clock
from shared.errors import Unavailable
from shared.service import wait_or_stop

log = structlog.get_logger()

_EVERY_SECONDS: Final = 600.0
_PAUSE_SECONDS: Final = 0.02


class Expirer:
    """Expires what is old, at the start and then at intervals."""

    def __init__(
        self, store: TelemetryStore, retention: Retention, clock: Clock, registry: CollectorRegistry
    ) -> None:
        self._store, self._retention, self._clock = store, retention, clock
        self._removed = Counter(
            "im_ingest_expired_rows", "rows of the store that retention removed", registry=registry
        )

    async def run(self, stop: asyncio.Event, *, every: float = _EVERY_SECONDS) -> None:
        """Until `stop`. A store that is away is tried again at the next interval."""
        while not stop.is_set():
            try:
                await self.expire(stop)
            except Unavailable as error:
                log.warning("nothing expires now", why=str(error), again_seconds=every)
            await wait_or_stop(stop, every)

    async def expire(self, stop: asyncio.Event) -> None:
        """All that is old, or as much of it as there is time for. Raises Unavailable."""
        total = 0
        while removed := await self._store.expire(self._retention, self._clock.now_us()):
            total += removed
            self._removed.inc(removed)
            if await wait_or_stop(stop, _PAUSE_SECONDS):
                break
        if total:
            log.info("old rows have expired", rows=total)
