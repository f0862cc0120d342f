"""Asks the inference API for remaining lives: for all browsers, every few minutes and as soon as there is another model."""

import random
from collections.abc import Callable
from typing import Final

import structlog
from pydantic import ValidationError

from cloud.ui.client import InferenceClient
from cloud.ui.lives import Lives
from shared.clock import Clock
from shared.errors import NotFound, Rejected, Unavailable

log = structlog.get_logger()

POLL_SECONDS: Final = 10.0
"""How often it is asked which machines have a life model: one small request, and how soon it is known to be away."""
RETRY_SECONDS: Final = (1.0, 10.0)
"""Pauses while the inference API is away, growing."""
GIVE_UP: Final = 3
"""Machines in a row that it does not answer for: it is away."""


class LifeReader:
    """Keeps `lives` current. One machine is asked for after the other, so that the store has one reader for all."""

    def __init__(
        self,
        lives: Lives,
        client: InferenceClient,
        clock: Clock,
        *,
        refresh_seconds: float,
        wake: Callable[[], None],
    ) -> None:
        self._lives, self._client, self._clock = lives, client, clock
        self._refresh_seconds = refresh_seconds
        self._wake = wake
        self._read_at: dict[str, float] = {}

    async def run(self) -> None:
        """For ever."""
        pause, longest = RETRY_SECONDS
        while True:
            if await self.read():
                pause = RETRY_SECONDS[0]
                await self._clock.sleep(POLL_SECONDS)
            else:
                await self._clock.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
                pause = min(longest, pause * 2)

    async def read(self) -> bool:
        """Ask for what is due. False: the inference API is away."""
        try:
            self._lives.take_tellers((await self._client.get("/v1/life"))["machines"])
            self._lives.heard()
            self._wake()
            await self._read_machines()
        except (Unavailable, Rejected, NotFound) as error:  # or it does not let the room in
            log.debug("remaining lives can't be read now", why=str(error))
            self._lives.away(self._clock.now_us())
            self._wake()
            return False
        except (ValidationError, KeyError, TypeError) as error:
            log.warning("an answer of the inference API can't be read", why=str(error)[:200])
        return True

    async def _read_machines(self) -> None:
        """Raises Unavailable: a few in a row were not answered."""
        missed = 0
        for machine in self._due():
            try:
                self._lives.take(machine, await self._client.get(f"/v1/machines/{machine}/life"))
                missed = 0
            except (NotFound, Rejected) as error:
                self._lives.refuse(machine, str(error))
                missed = 0
            except ValidationError as error:
                log.warning("a remaining life can't be read", machine=machine, why=str(error)[:200])
                self._lives.refuse(machine, "its answer can't be read by this control room")
                missed = 0
            except Unavailable as error:
                self._lives.miss(machine, str(error))
                missed += 1
                if missed == GIVE_UP:
                    raise
                continue
            self._read_at[machine] = self._clock.monotonic()
            self._wake()

    def _due(self) -> list[str]:
        """Machines that were not read since their model changed, or too long ago."""
        now, tellers = self._clock.monotonic(), self._lives.tellers or {}
        self._read_at = {name: read for name, read in self._read_at.items() if name in tellers}
        return [
            name
            for name in tellers
            if self._lives.of(name) is None or now - self._read_at.get(name, -1e9) >= self._refresh_seconds
        ]
