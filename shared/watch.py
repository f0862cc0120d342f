"""Whether what a service needs is there, asked over and over, so that readiness is true also when nobody else asks."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from shared.errors import Unavailable
from shared.health import Health

Probe = Callable[[], Awaitable[object]]
"""A small question; it returns if the answer came, and raises Unavailable."""

_EVERY_SECONDS: Final = 1.0
_MOST_SECONDS: Final = 2.0


class Watch:
    """Makes readiness need an answer to each probe: the last one, and within `most` seconds.

    A server that hangs takes a question and never answers it, so at most one question of a probe is open at any time:
    it is waited for, however long it takes, before the next one is asked.
    """

    def __init__(
        self,
        health: Health,
        probes: Mapping[str, Probe],
        *,
        every: float = _EVERY_SECONDS,
        most: float = _MOST_SECONDS,
    ) -> None:
        self._probes = dict(probes)
        self._every, self._most = every, most
        self._wrong = dict.fromkeys(probes, "not asked yet")
        for name in probes:
            health.add_check(name, lambda name=name: self._wrong[name])  # type: ignore[misc]

    async def run(self) -> None:
        """Ask until cancelled. An error that is not Unavailable is a bug, and comes through."""
        async with asyncio.TaskGroup() as asking:
            for name, probe in self._probes.items():
                asking.create_task(self._follow(name, probe))

    async def _follow(self, name: str, probe: Probe) -> None:
        while True:
            question = asyncio.ensure_future(probe())
            try:
                done, _ = await asyncio.wait({question}, timeout=self._most)
                if not done:
                    self._wrong[name] = f"no answer within {self._most:g} s"
                    await asyncio.wait({question})
                question.result()
            except Unavailable as error:
                self._wrong[name] = str(error) or "away"
            else:
                self._wrong[name] = ""
            finally:
                question.cancel()
            await asyncio.sleep(self._every)
