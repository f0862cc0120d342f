"""One connection: asyncio hands the chunks in, the stream parses them, and reading stops when the inbox is full."""

import asyncio
from typing import Final, cast

from gateway.mqtt.inbox import Inbox
from gateway.mqtt.packets import Level, Malformed
from gateway.mqtt.stream import OnPacket, Stream

COALESCE_SECONDS: Final = 0.004
BUSY_RATE: Final = 5000.0
_SMALL_CHUNK: Final = 16 * 1024
_WINDOW_SECONDS: Final = 0.02


class Connection(asyncio.Protocol):
    """A socket to a broker. `lost` is set when it is gone, `problem` then says why if the reason is ours to tell.

    Brokers that write message by message wake a reader for each: above `BUSY_RATE` messages a second such small
    chunks are let gather for 4 ms. Below it each message is read as it comes.
    """

    def __init__(self, inbox: Inbox, on_packet: OnPacket, level: Level) -> None:
        self.level = level
        self.lost = asyncio.Event()
        self.problem = ""
        self.full = False
        self.heard = 0.0
        self._inbox = inbox
        self._stream = Stream(inbox, on_packet, level)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._gathering: asyncio.TimerHandle | None = None
        self._since = self._loop.time()
        self._counted = 0
        self._rate = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        self._writable.set()
        self.heard = self._loop.time()

    def data_received(self, data: bytes) -> None:
        """From asyncio."""
        before = self._inbox.received
        try:
            self._stream.feed(data)
        except Malformed as error:
            self.end(f"sent what is no MQTT: {error}")
            return
        now = self.heard = self._loop.time()
        self._count(self._inbox.received - before, now)
        if self._inbox.is_full():
            self.full = True
            self._read(on=False)
        elif len(data) < _SMALL_CHUNK and self._rate > BUSY_RATE:
            self._read(on=False)
            self._gathering = self._loop.call_later(COALESCE_SECONDS, self._gathered)

    def pause_writing(self) -> None:
        """From asyncio."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """From asyncio."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """From asyncio."""
        if exc is not None and not self.problem:
            self.problem = str(exc)
        self._transport = None
        if self._gathering is not None:
            self._gathering.cancel()
        self._writable.set()
        self.lost.set()

    def make_room(self) -> None:
        """Messages were taken: read on once half of the inbox is free."""
        if self.full and not self._inbox.is_full(0.5):
            self.full = False
            self.heard = self._loop.time()  # silence while nobody listened is no silence
            self._read(on=True)

    def write(self, data: bytes) -> None:
        """Send; what a lost connection does not take is the caller's to send again."""
        if self._transport is not None:
            self._transport.write(data)

    async def drained(self) -> None:
        """Return once the socket has taken about all that was written, or is lost."""
        await self._writable.wait()

    def end(self, problem: str = "") -> None:
        """Close. What was written before a good-bye is still sent."""
        self.problem = self.problem or problem
        if self._transport is not None:
            if problem:
                self._transport.abort()
            else:
                self._transport.close()

    def _gathered(self) -> None:
        self._gathering = None
        if not self.full:
            self._read(on=True)

    def _read(self, *, on: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _count(self, messages: int, now: float) -> None:
        self._counted += messages
        passed = now - self._since
        if passed >= _WINDOW_SECONDS:
            self._rate = self._counted / passed
            self._counted, self._since = 0, now
