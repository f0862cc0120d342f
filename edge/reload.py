"""Other settings while the agent runs: from its file (SIGHUP) or by a command of the cloud; all of a change, or none of it.

A setting that a part can take over while it works registers here. A change of any other is refused with its name, and
everything stays as it was: what could only half change would be worse than a restart.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog

from edge.outbox import Outbox
from edge.settings import EdgeSettings
from shared.clock import Clock
from shared.errors import Misconfigured, Rejected, Unavailable

log = structlog.get_logger()

Read = Callable[[Mapping[str, Any]], EdgeSettings]
"""Reads the settings again, with these on top. Raises Misconfigured."""
Apply = Callable[[EdgeSettings], None]

_STATE: Final = "settings"


@dataclass(frozen=True, slots=True)
class Again:
    """How settings are read again, and what says that they should be."""

    read: Read
    hangup: asyncio.Event


class Reload:
    """The settings that rule now. `refused`: why the last change was not taken, empty if it was."""

    def __init__(self, settings: EdgeSettings, read: Read | None, outbox: Outbox, clock: Clock) -> None:
        self.settings = settings
        self.refused = ""
        self._read, self._outbox, self._clock = read, outbox, clock
        self._applies: dict[str, Apply] = {}
        self._commanded: dict[str, Any] = {}

    def on(self, key: str, apply: Apply) -> None:
        """Let changes of a top-level setting be taken over by `apply`, which must not fail."""
        self._applies[key] = apply

    async def resume(self) -> None:
        """Apply what was commanded before this start. What does not fit any more is dropped and told."""
        kept: dict[str, Any] = orjson.loads(await self._outbox.state(_STATE) or b"{}")
        if kept and self._read is not None:
            try:
                self._change(self._read(kept))
            except (Misconfigured, Rejected) as error:
                self._refuse(error)
            else:
                self._commanded = kept

    async def reread(self, hangup: asyncio.Event) -> None:
        """Read the file again at each hang-up signal, for ever."""
        while True:
            await hangup.wait()
            hangup.clear()
            if self._read is None:
                continue
            try:
                changed = self._change(self._read(self._commanded))
            except (Misconfigured, Rejected) as error:
                self._refuse(error)
            else:
                self.refused = ""
                log.info("settings were read again", changed=changed)

    async def command(self, values: Mapping[str, Any]) -> str:
        """Values from the cloud, over those of the file, also after a restart; null: the file's again. Raises Rejected."""
        if self._read is None:
            raise Rejected("this agent was started without a way to read its settings again")
        unsafe = sorted(set(values) - set(self._applies))
        if unsafe:
            raise Rejected(self._needs_restart(unsafe))
        wanted = {key: value for key, value in {**self._commanded, **values}.items() if value is not None}
        try:
            changed = self._change(self._read(wanted))
        except Misconfigured as error:
            raise Rejected(str(error).splitlines()[0]) from error
        self._commanded = wanted
        await self._keep()
        return f"changed {', '.join(changed)}" if changed else "it was so already"

    def _change(self, new: EdgeSettings) -> list[str]:
        """Take new settings over; which ones changed. Raises Rejected before anything has changed."""
        old = self.settings
        changed = [key for key in EdgeSettings.model_fields if getattr(old, key) != getattr(new, key)]
        unsafe = [key for key in changed if key not in self._applies]
        if unsafe:
            raise Rejected(self._needs_restart(unsafe))
        self.settings = new
        for key in changed:
            self._applies[key](new)
        return changed

    def _needs_restart(self, keys: list[str]) -> str:
        return (
            f"edge.{', edge.'.join(keys)} can't change while the agent runs: restart it;"
            f" {', '.join(sorted(self._applies))} can"
        )

    def _refuse(self, error: Exception) -> None:
        self.refused = str(error).splitlines()[0]
        log.error("changed settings are refused, the old ones stay", reason=self.refused)

    async def _keep(self) -> None:
        kept = orjson.dumps(self._commanded)
        while True:
            try:
                await self._outbox.append([], {_STATE: kept})
            except Unavailable as error:
                await self._clock.sleep(error.retry_after)
            else:
                return
