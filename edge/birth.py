"""The agent's word that it is there: an event at its start, and whenever the cloud asks for it."""

import asyncio
from collections.abc import Callable
from importlib.metadata import version

from edge.delivery import keep_event
from edge.outbox import Outbox
from edge.settings import EdgeSettings
from shared.clock import Clock
from shared.events import EdgeStarted, at


class Birth:
    """The agent's word that it is there."""

    def __init__(self, settings: EdgeSettings, outbox: Outbox, clock: Clock) -> None:
        self._settings, self._outbox, self._clock = settings, outbox, clock

    async def run(self) -> None:
        """Say that this agent came up, then rest."""
        await self._say()
        await asyncio.Event().wait()

    async def again(self, report: Callable[[], None]) -> str:
        """Say it because somebody asked, and report everything."""
        await self._say()
        report()
        return f"epoch {self._outbox.epoch.hex()}"

    async def _say(self) -> None:
        event = EdgeStarted(
            source=f"edge/{self._settings.edge}",
            subject=self._settings.edge,
            occurred_at=at(self._clock.now_us()),
            epoch=self._outbox.epoch.hex(),
            software=version("industrialmind"),
        )
        await keep_event(self._outbox, self._settings.machines[0], event, self._clock)
