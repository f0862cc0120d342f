"""Rebuilds inside the cloud process: one task a projection, what it says of itself."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from cloud.api.rebuilds import RebuildStatus
from shared.errors import IndustrialMindError, NotFound

log = structlog.get_logger()

Job = Callable[[Callable[[int, int], None]], Awaitable[None]]
"""Makes a projection anew and tells (records done, of how many)."""


class RebuildJobs:
    """See the data API's `Rebuilds`."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self._jobs = jobs
        self._last = {name: RebuildStatus(name=name) for name in jobs}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str) -> RebuildStatus:
        """See Rebuilds."""
        if self.status(name).state != "running":
            self._last[name] = RebuildStatus(name=name, state="running")
            self._tasks[name] = asyncio.create_task(self._run(name), name=f"rebuild {name}")
        return self._last[name]

    def status(self, name: str) -> RebuildStatus:
        """See Rebuilds."""
        if name not in self._last:
            raise NotFound(f"no projection {name[:40]!r} is kept here: there are {', '.join(self._last)}")
        return self._last[name]

    async def _run(self, name: str) -> None:
        def tell(done: int, total: int) -> None:
            self._last[name] = RebuildStatus(name=name, state="running", done=done, total=total)

        try:
            await self._jobs[name](tell)
        except IndustrialMindError as error:
            log.warning("a rebuild failed; what was there is kept", name=name, why=str(error))
            self._last[name] = self._last[name].model_copy(update={"state": "failed", "why": str(error)})
        else:
            self._last[name] = self._last[name].model_copy(update={"state": "done"})
