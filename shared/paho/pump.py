"""The event loop drives paho's socket itself: no thread, no hand-over a message."""

import asyncio
import socket
import ssl
from typing import Final

import paho.mqtt.client as mqtt

from shared.paho.inbox import Inbox

_READS_A_TURN: Final = 200


class Pump:
    """Reads and writes paho's socket when it is ready, and stops reading while the inbox is full.

    `flushing`: paho is writing just now. `paused`: the socket is not read.
    """

    def __init__(self, paho: mqtt.Client, inbox: Inbox) -> None:
        self.flushing = False
        self.paused = False
        self._paho = paho
        self._inbox = inbox
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._flushed = asyncio.Event()
        paho.on_socket_close = lambda *_: self.release()
        paho.on_socket_register_write = lambda *_: self._write_soon()

    def attach(self, opened: socket.socket) -> None:
        """Drive this connected socket from now on."""
        self._socket = opened
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small packets wait for nobody
        self._loop.add_reader(opened, self._read)
        self._loop.call_soon(self._read_pending)
        self._write_soon()

    def release(self) -> None:
        """Let go of the socket: it is lost or about to be closed."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket = None

    def end(self) -> None:
        """The connection is over: nothing waits for its socket any more."""
        self.paused = False
        self._flushed.set()

    async def flushed(self) -> None:
        """Return once the socket took what paho had to write by now, or the connection ended."""
        self._flushed.clear()
        await self._flushed.wait()

    def make_room(self) -> None:
        """Messages were taken: read on once half of the inbox is free."""
        if self.paused and not self._inbox.is_full(0.5):
            self.paused = False
            if self._socket is not None:
                self._loop.add_reader(self._socket, self._read)
                self._loop.call_soon(self._read_pending)

    def _read_pending(self) -> None:
        """Read what TLS has decrypted already: the socket itself tells nobody of that."""
        opened = self._socket
        if isinstance(opened, ssl.SSLSocket) and not self.paused and opened.pending():
            self._read()

    def _read(self) -> None:
        for _ in range(_READS_A_TURN):
            before = self._inbox.received
            self._paho.loop_read()
            if self._inbox.is_full() and self._socket is not None:
                self.paused = True
                self._loop.remove_reader(self._socket)
                return
            if self._inbox.received == before or self._socket is None:
                break
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            self._loop.call_soon(self._read_pending)

    def _write_soon(self) -> None:
        # Called by paho in the connecting thread too: there is no socket of ours yet, and `attach` flushes.
        if self._socket is not None:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._socket is None:
            return
        self.flushing = True
        self._paho.loop_write()
        self.flushing = False
        self._watch_writable()

    def _watch_writable(self) -> None:
        if self._socket is None:  # lost while writing
            return
        if self._paho.want_write():
            self._loop.add_writer(self._socket, self._flush)
        else:
            self._loop.remove_writer(self._socket)
            self._flushed.set()
