"""What arrived and was not taken yet, within bounds."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

INBOX_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class MqttMessage:
    """A message as it came. The last three fields are the handle that `ack` needs."""

    topic: str
    payload: bytes
    retain: bool
    dup: bool
    qos: int
    mid: int
    connection: int


class Inbox:
    """Messages in order of arrival. `received` counts all that ever came."""

    def __init__(self, limit: int) -> None:
        self.received = 0
        self._limit = limit
        self._messages: deque[MqttMessage] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()

    def put(self, message: MqttMessage) -> None:
        """One more. The bound is the reader's to keep: what the socket delivered is never dropped."""
        self.received += 1
        self._bytes += len(message.payload)
        self._messages.append(message)
        self._arrived.set()

    async def take(self, limit: int) -> list[MqttMessage]:
        """At least one message and at most `limit`."""
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        taken = [self._messages.popleft() for _ in range(min(limit, len(self._messages)))]
        self._bytes -= sum(len(message.payload) for message in taken)
        return taken

    def __len__(self) -> int:
        return len(self._messages)

    def is_full(self, share: float = 1.0) -> bool:
        """Whether messages or bytes reach that share of their bound."""
        return len(self._messages) >= self._limit * share or self._bytes >= INBOX_BYTES * share

    def forget_unacknowledged(self) -> None:
        """Drop what the broker will send again after a reconnect: handling it twice is waste."""
        self._messages = deque(message for message in self._messages if not message.qos)
        self._bytes = sum(len(message.payload) for message in self._messages)
