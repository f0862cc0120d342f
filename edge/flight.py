"""Which frame goes out next: at most 64 in flight, overdue ones again, urgent ones first. No I/O.

Only an acknowledged range ends a frame's flight. The broker's PUBACK means nothing here: a publish that the broker
denied gets one as well.
"""

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from edge.outbox_file import FrameRef
from shared.clock import Clock
from shared.uplink import MAX_IN_FLIGHT, RESEND_AFTER_SECONDS, RESEND_CAP_SECONDS

URGENT_RESERVE: Final = 8
"""Places in flight that only urgent frames may take, so that a full window never holds an event back."""

_JITTER: Final = 0.25


@dataclass(slots=True)
class _Flying:
    ref: FrameRef
    due: float
    delay: float


class Flight:
    """The frames of one outbox on their way to the log."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        *,
        limit: int = MAX_IN_FLIGHT,
        urgent_reserve: int = URGENT_RESERVE,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._limit = limit
        self._ordinary_limit = limit - urgent_reserve
        self._known: set[int] = set()
        self._urgent: deque[FrameRef] = deque()
        self._ordinary: deque[FrameRef] = deque()
        self._flying: dict[int, _Flying] = {}
        self._newest_next = True
        self.resent = 0

    @property
    def in_flight(self) -> int:
        """Frames that were sent and not acknowledged."""
        return len(self._flying)

    @property
    def has_room(self) -> bool:
        """Whether another ordinary frame could be sent now."""
        return self.in_flight < self._ordinary_limit

    @property
    def unsent(self) -> int:
        """Frames that wait for their first publish in this process."""
        return len(self._known) - len(self._flying)

    def add(self, frames: Iterable[FrameRef]) -> None:
        """Frames that were cut, or found in the outbox at start, in order of rows."""
        for ref in frames:
            if ref.first not in self._known:
                self._known.add(ref.first)
                (self._urgent if ref.urgent else self._ordinary).append(ref)

    def free(self, firsts: Iterable[int]) -> None:
        """Frames that the outbox dropped because the log has them."""
        for first in firsts:
            self._known.discard(first)
            self._flying.pop(first, None)

    def link_up(self) -> None:
        """The connection is new: whatever is in flight may have died with the old one, and is due at once."""
        now = self._clock.monotonic()
        for flying in self._flying.values():
            flying.due, flying.delay = now, RESEND_AFTER_SECONDS

    def take(self) -> list[FrameRef]:
        """What to publish now. Urgent first, then what is overdue, then newest and oldest by turns.

        By turns, so that after an outage the screens are live at once while history drains beside it.
        """
        now = self._clock.monotonic()
        overdue = [flying for flying in self._flying.values() if flying.due <= now]
        for flying in overdue:
            flying.delay = min(2 * flying.delay, RESEND_CAP_SECONDS)
            flying.due = now + self._jittered(flying.delay)
        self.resent += len(overdue)
        chosen = self._launch(self._urgent, self._limit, now)
        chosen += sorted((flying.ref for flying in overdue), key=lambda ref: (not ref.urgent, ref.first))
        return chosen + self._launch(self._ordinary, self._ordinary_limit, now)

    def _launch(self, queue: deque[FrameRef], limit: int, now: float) -> list[FrameRef]:
        chosen = []
        while queue and self.in_flight < limit:
            newest = self._newest_next and not queue[0].urgent
            ref = queue.pop() if newest else queue.popleft()
            if ref.first not in self._known:
                continue
            self._newest_next = not self._newest_next
            delay = RESEND_AFTER_SECONDS
            self._flying[ref.first] = _Flying(ref, now + self._jittered(delay), delay)
            chosen.append(ref)
        return chosen

    def next_due(self) -> float | None:
        """Seconds until a frame in flight is overdue, None if none is in flight."""
        if not self._flying:
            return None
        return max(0.0, min(flying.due for flying in self._flying.values()) - self._clock.monotonic())

    def _jittered(self, delay: float) -> float:
        return min(delay * self._rng.uniform(1.0, 1.0 + _JITTER), RESEND_CAP_SECONDS)
