"""What arrived and was not taken yet, as parallel lists, and within bounds."""

import asyncio
from typing import Final

from gateway.port import Arrivals

INBOX_BYTES: Final = 8 * 1024 * 1024
TAKEN_BYTES: Final = 2 * 1024 * 1024
"""Most bytes taken at once: a batch of large messages has fewer of them."""


class Inbox:
    """Messages in order of arrival. The stream's parser appends to the three lists itself and then calls `put`.

    The bounds are the connection's to keep: it stops reading. What it read is never dropped.
    """

    def __init__(self, limit: int) -> None:
        self.topics: list[str] = []
        self.payloads: list[bytes] = []
        self.handles: list[int] = []
        self.received = 0
        self._limit = limit
        self._bytes = 0
        self._aside: list[tuple[str, bytes]] = []
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self.payloads)

    def put(self, before: int) -> None:
        """Count what was appended since the lists were `before` long, and wake the taker."""
        added = self.payloads[before:]
        if added:
            self.received += len(added)
            self._bytes += sum(map(len, added))
            self._arrived.set()

    async def take(self, limit: int) -> Arrivals:
        """One message, then more up to `limit` and 2 MiB; their connection is the caller's to fill in."""
        while not self.payloads:
            self._arrived.clear()
            await self._arrived.wait()
        if self._bytes > TAKEN_BYTES:
            limit = min(limit, self._fitting())
        if len(self.payloads) <= limit:
            taken = Arrivals(self.topics, self.payloads, self.handles, 0)
            self._bytes = 0
            self.topics, self.payloads, self.handles = [], [], []
            return taken
        taken = Arrivals(self.topics[:limit], self.payloads[:limit], self.handles[:limit], 0)
        self._bytes -= sum(map(len, taken.payloads))
        del self.topics[:limit], self.payloads[:limit], self.handles[:limit]
        return taken

    def _fitting(self) -> int:
        """How many messages fit what is taken at once."""
        total = 0
        for count, payload in enumerate(self.payloads):
            total += len(payload)
            if total > TAKEN_BYTES:
                return max(1, count)
        return len(self.payloads)

    def is_full(self, share: float = 1.0) -> bool:
        """Whether messages or bytes reach that share of their bound."""
        return len(self.payloads) >= self._limit * share or self._bytes >= INBOX_BYTES * share

    def end_connection(self, *, persistent: bool) -> None:
        """The handles mean nothing any more. Of a persistent session the messages are set aside: they may come again."""
        if persistent:
            rows = list(zip(self.topics, self.payloads, self.handles, strict=True))
            self._aside += [(topic, payload) for topic, payload, handle in rows if handle]
            self.topics = [topic for topic, _, handle in rows if not handle]
            self.payloads = [payload for _, payload, handle in rows if not handle]
            self._bytes = sum(map(len, self.payloads))
        self.handles = [0] * len(self.payloads)

    def resume(self, *, comes_again: bool) -> None:
        """A new connection stands. What was set aside comes again from the session, or is taken back from aside.

        Called while a chunk is parsed, whose end counts what was added here (see `put`).
        """
        if not comes_again:
            self.topics += [topic for topic, _ in self._aside]
            self.payloads += [payload for _, payload in self._aside]
            self.handles += [0] * len(self._aside)
        self._aside = []
