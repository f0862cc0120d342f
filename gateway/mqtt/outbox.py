"""Messages of QoS 1 that a broker has not confirmed, and the packet ids that they share with subscriptions."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from gateway.mqtt import packets
from gateway.mqtt.packets import Level
from shared.errors import Rejected, Unavailable

IN_FLIGHT: Final = 16
_LAST_ID: Final = 0xFFFF


class Held:
    """One message on its way. `done` ends when the broker confirmed or refused it."""

    def __init__(self, topic: str, payload: bytes, *, retain: bool) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.packet_id = 0
        self._topic, self._payload, self._retain = topic, payload, retain

    def packet(self, level: Level, *, dup: bool = False) -> bytes:
        """The PUBLISH."""
        return packets.publish(
            self._topic, self._payload, level, packet_id=self.packet_id, retain=self._retain, dup=dup
        )


class Outbox:
    """At most 16 messages at once: the gateway sends few, and no broker's Receive Maximum is much lower."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._held: dict[int, Held] = {}
        self._last = 0

    def next_id(self) -> int:
        """A packet id that none of these has. An id comes back late, so that a late PUBACK meets nobody."""
        while True:
            self._last = self._last % _LAST_ID + 1
            if self._last not in self._held:
                return self._last

    @asynccontextmanager
    async def sending(self, topic: str, payload: bytes, *, retain: bool) -> AsyncIterator[Held]:
        """A place in flight for one message; who leaves gives it up."""
        async with self._slots:
            held = Held(topic, payload, retain=retain)
            try:
                yield held
            finally:
                self._held.pop(held.packet_id, None)

    def number(self, held: Held) -> None:
        """The message goes out: from now on it is sent again after each reconnect."""
        held.packet_id = self.next_id()
        self._held[held.packet_id] = held

    def settle(self, packet_id: int, refused: str) -> None:
        """The broker's word on a message."""
        held = self._held.pop(packet_id, None)
        if held is None or held.done.done():
            return
        if refused:
            held.done.set_exception(
                Rejected(f"the MQTT broker at {self._where} refuses the message: {refused}")
            )
        else:
            held.done.set_result(None)

    def again(self, level: Level) -> Iterator[bytes]:
        """What to send after a reconnect."""
        for held in self._held.values():
            yield held.packet(level, dup=True)

    def close(self) -> None:
        """Nobody will confirm what still waits."""
        for held in self._held.values():
            if not held.done.done():
                held.done.set_exception(Unavailable(f"the MQTT client of {self._where} was closed"))
                held.done.exception()  # whoever awaits it sees it; nobody else needs a warning
