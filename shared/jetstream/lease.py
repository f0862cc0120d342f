"""Who of a group's members is active: a lease in KV, renewed by compare-and-set.

Nobody compares clocks: a standby takes over when it has watched the same revision, without losing sight of the
server, for the time that the holder itself promised; the holder counts from before it sent its renewal.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import orjson

from shared.errors import Conflict, IndustrialMindError, Unavailable
from shared.jetstream.topics import LEASES_BUCKET
from shared.nats.link import Link
from shared.nats.session import sequence

_RENEWALS: Final = 3
_LOOKS: Final = 5


class Lease:
    """This member's claim to be the active one of `group`."""

    def __init__(self, link: Link, group: str, seconds: float, changed: Callable[[], None]) -> None:
        self.term = 0
        """Grows each time the lease is won."""
        self.member = secrets.token_hex(8)
        """Who this is: no other member of any group has it."""
        self._link = link
        self._subject = f"$KV.{LEASES_BUCKET}.{group}"
        self._seconds = seconds
        self._changed = changed
        self._revision = 0
        self._until = 0.0
        self._seen: tuple[int, float] | None = None  # a revision of another holder and when it was first seen

    def remaining(self) -> float:
        """Seconds for which this member is surely the only active one; 0 or less when it is not."""
        return self._until - time.monotonic()

    async def keep(self) -> None:
        """Win and renew until cancelled. Anything but Unavailable is raised."""
        while True:
            try:
                await (self._renew() if self.remaining() > 0 else self._seek())
            except Unavailable:
                self._seen = None  # who knows what happened meanwhile: watch for the full time again
            held = self.remaining() > 0
            await asyncio.sleep(self._seconds / (_RENEWALS if held else _LOOKS))

    async def release(self) -> None:
        """Let the next one in at once."""
        if self.remaining() > 0:
            self._until = 0.0
            with suppress(IndustrialMindError):  # then it runs out by itself
                await self._write(b"", self._revision)

    async def _renew(self) -> None:
        sent = time.monotonic()
        try:
            self._revision = await self._write(self._claim(), self._revision)
        except Conflict:
            self._until = 0.0
            self._changed()
        else:
            self._until = sent + self._seconds

    async def _seek(self) -> None:
        query = {"seq": 1, "next_by_subj": self._subject, "batch": 1}  # the bucket keeps one a subject
        page = await self._link.session().page(f"KV_{LEASES_BUCKET}", query)
        now = time.monotonic()
        revision = 0
        if page.messages:
            revision = sequence(page.messages[0])
            holder = orjson.loads(page.messages[0].data or b"{}")
            if holder and holder["member"] != self.member:
                if self._seen is None or self._seen[0] != revision:
                    self._seen = (revision, now)
                if now - self._seen[1] < float(holder["seconds"]):
                    return
        try:
            self._revision = await self._write(self._claim(), revision)
        except Conflict:
            return  # another was faster
        self._until = now + self._seconds
        self._seen = None
        self.term += 1
        self._changed()

    def _claim(self) -> bytes:
        return orjson.dumps({"member": self.member, "seconds": self._seconds})

    async def _write(self, value: bytes, revision: int) -> int:
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)}
        session = self._link.session()
        return await session.store(self._subject, value, headers=headers, wait=max(0.2, self._seconds / 2))
