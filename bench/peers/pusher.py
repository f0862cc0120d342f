"""Sends a scenario's packets over one connection, as many unacknowledged at a time as the receiver allows."""

import time
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.peers.scenario import IDS

_CHUNK: Final = 2048
_SAMPLE_S: Final = 0.02
_HEADS: Final = b"\x40" * 262_144
_SIZES: Final = b"\x02" * 262_144


class Sink(Protocol):
    """What is written to: a transport."""

    def write(self, data: memoryview, /) -> None:
        """Send it, sooner or later."""


class Pusher:
    """Cuts `packets` at `offsets` into large writes, and takes the acknowledgements.

    No more than `limit` are sent, all unless somebody sets it.
    `acked` counts those of ids that were in flight, `strange` all others. `samples` are (time, acked) pairs, one at
    most every 20 ms. Times are seconds since 1970.
    """

    def __init__(self, sink: Sink, packets: memoryview, offsets: NDArray[np.int64], window: int) -> None:
        self._sink = sink
        self._packets = packets
        self._offsets = offsets
        self._window = min(window, IDS)
        self._least = min(_CHUNK // 2, max(1, self._window // 4))
        self._in_flight = np.zeros(IDS + 1, np.bool_)
        self.count = len(offsets) - 1
        self.limit = self.count
        self.sent = 0
        self.acked = 0
        self.strange = 0
        self.started = 0.0
        self.ended = 0.0
        self.samples: list[tuple[float, int]] = []
        self.blocked = False

    @property
    def done(self) -> bool:
        """Whether all are acknowledged."""
        return self.acked == self.count

    def push(self) -> None:
        """Send what the window allows, in large writes; wait for more room rather than send a handful."""
        if not self.sent:
            self.started = time.time()
        while not self.blocked:
            left = self.limit - self.sent
            room = min(self._window - (self.sent - self.acked), left)
            if room < min(self._least, left) or not room:
                return
            end = self.sent + min(room, _CHUNK)
            ids = np.arange(self.sent, end) % IDS + 1
            if self._in_flight[ids].any():
                return  # an old message is still unacknowledged; its id may not be used again
            self._in_flight[ids] = True
            self._sink.write(self._packets[self._offsets[self.sent] : self._offsets[end]])
            self.sent = end

    def pubacks(self, data: bytes) -> int:
        """Take the PUBACKs of four bytes that `data` is made of; 0 if it holds anything else, else the bytes used."""
        whole = len(data) & ~3
        if data[:whole:4] != _HEADS[: whole // 4] or data[1:whole:4] != _SIZES[: whole // 4]:
            return 0
        self._acknowledged(np.frombuffer(data, ">u2", whole // 2)[1::2])
        return whole

    def puback(self, packet_id: int) -> None:
        """Take one acknowledgement."""
        self._acknowledged(np.array([packet_id]))

    def _acknowledged(self, ids: NDArray[np.integer]) -> None:
        known = int(np.count_nonzero(self._in_flight[ids]))
        self._in_flight[ids] = False
        self.acked += known
        self.strange += len(ids) - known
        now = time.time()
        if self.done:
            self.ended = now
        if self.done or not self.samples or now - self.samples[-1][0] >= _SAMPLE_S:
            self.samples.append((now, self.acked))
