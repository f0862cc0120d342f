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

    def end_connection(self, *, comes_again: bool) -> None:
        """The handles mean nothing any more. With a persistent session the broker sends those messages again."""
        if comes_again:
            kept = [index for index, handle in enumerate(self.handles) if not handle]
            self.topics = [self.topics[index] for index in kept]
            self.payloads = [self.payloads[index] for index in kept]
            self._bytes = sum(map(len, self.payloads))
        self.handles = [0] * len(self.payloads)
