"""Taking a rebuilt copy into the store, by the store's only writer, between two batches."""

from typing import Final

import structlog

from cloud.ingest.rebuild import read_into
from cloud.telemetry.lateness import LateBounds
from cloud.telemetry.port import TelemetryStore, Told, open_store, untold
from cloud.telemetry.rebuild import discard, refuse, waiting
from shared.clock import Clock
from shared.errors import Misconfigured, Unavailable
from shared.eventlog import EventLog

log = structlog.get_logger()

_AGAIN_SECONDS: Final = 30.0


async def adopt(
    event_log: EventLog,
    store: TelemetryStore,
    url: str,
    *,
    bounds: LateBounds | None = None,
    told: Told = untold,
) -> bool:
    """Replace the content of `store`, which is at `url`, by the copy that waits beside it; False if none does.

    First the copy is brought to where the store is, from the log, and takes over what the log holds no more. Killed
    anywhere, it is done again; until the store's one transaction commits the store is as it was. Raises Unavailable,
    and Misconfigured for a copy that can't be used.
    """
    copy_at = waiting(url)
    if copy_at is None:
        return False
    async with open_store(copy_at, bounds=bounds) as copy:
        await read_into(event_log, copy, until=await store.positions())
        await copy.take_over(url, await store.stored_ranges())
    await store.replace(copy_at, told)
    discard(copy_at)
    return True


class Adopter:
    """Looks for a copy whenever ingest is between two batches. Whatever fails, the store goes on as it is."""

    def __init__(
        self, event_log: EventLog, store: TelemetryStore, url: str, bounds: LateBounds, clock: Clock
    ) -> None:
        self._log, self._store, self._url = event_log, store, url
        self._bounds, self._clock = bounds, clock
        self._not_before = 0.0

    async def look(self) -> None:
        """Adopt the copy if one waits; one that failed is tried again after a while."""
        if waiting(self._url) is None or self._clock.monotonic() < self._not_before:
            return
        begun = self._clock.monotonic()
        try:
            await adopt(self._log, self._store, self._url, bounds=self._bounds)
        except Unavailable as error:
            self._not_before = self._clock.monotonic() + _AGAIN_SECONDS
            log.warning("the rebuilt store waits", why=str(error), again_seconds=_AGAIN_SECONDS)
        except Misconfigured as error:
            aside = str(refuse(self._url))
            log.warning("the rebuilt store can't be used and is set aside", why=str(error), path=aside)
        else:
            seconds = round(self._clock.monotonic() - begun, 3)
            log.info("the rebuilt store has replaced the old one", seconds=seconds)
