"""The agent's word on itself in its own folder: what `industrialmind edge status` and `diag` read, also with no network."""

import asyncio
import os
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from edge.reload import Reload
from edge.renewal import Renewal
from edge.report import Reporter
from shared.clock import Clock
from shared.health import Health

log = structlog.get_logger()

BEAT_SECONDS: Final = 10.0
STALE_SECONDS: Final = 35.0
"""A status older than this is of an agent that does not live."""
FILE: Final = "status.json"


class Heartbeat:
    """Writes `status.json` every ten seconds. It is not synced: after a loss of power an old or no status is no harm."""

    def __init__(
        self,
        folder: Path,
        health: Health,
        reporter: Reporter,
        renewal: Renewal,
        reload: Reload,
        clock: Clock,
    ) -> None:
        self._path = folder / FILE
        self._health, self._reporter, self._renewal = health, reporter, renewal
        self._reload, self._clock = reload, clock
        self._failing = False

    async def run(self) -> None:
        """Beat for ever; a disk that takes nothing is no reason to stop."""
        while True:
            status = await self.status()
            try:
                await asyncio.to_thread(write, self._path, status)
                self._failing = False
            except OSError as error:
                if not self._failing:
                    log.warning("the status can't be written", why=str(error))
                self._failing = True
            await self._clock.sleep(BEAT_SECONDS)

    async def status(self) -> dict[str, Any]:
        """What there is to say."""
        certificate = self._renewal.current()
        return {
            "at_us": self._clock.now_us(),
            "pid": os.getpid(),
            "ready": self._health.ready,
            "problems": self._health.problems(),
            "settings_refused": self._reload.refused,
            "certificate": None
            if certificate is None
            else {
                "name": certificate.name,
                "serial": f"{certificate.serial:x}",
                "not_after": certificate.not_after.isoformat(),
                "refused": self._renewal.refused,
            },
            "state": await self._reporter.state(),
        }


def write(path: Path, status: dict[str, Any]) -> None:
    """Replace the file. Raises OSError."""
    made = path.with_name(f".{path.name}.new")
    made.write_bytes(orjson.dumps(status))
    made.rename(path)
