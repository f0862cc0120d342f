"""Which frame goes out next: at most 64 in flight, overdue ones again, urgent ones first, live before history. No I/O.

Only an acknowledged range ends a frame's flight. The broker's PUBACK means nothing here: a publish that the broker
denied gets one as well.
"""

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from edge.outbox_frames import FrameRef
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


class _Drain:
    """How much history may leave now: `rate` rows a second, saved up for a second at most; 0 sets no bound."""

    def __init__(self, clock: Clock, rate: int) -> None:
        self._clock, self._rate = clock, rate
        self._saved, self._at = float(rate), clock.monotonic()

    def wait(self) -> float:
        """Seconds until a frame of history may leave."""
        if not self._rate:
            return 0.0
        now = self._clock.monotonic()
        self._saved = min(self._rate, self._saved + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, -self._saved / self._rate)

    def take(self, rows: int) -> None:
        """A frame of history leaves, whatever is saved; what it takes too much has to come in first."""
        self._saved -= rows


class Flight:
    """The frames of one outbox on their way to the log.

    History is what was there when the link came up, and aggregates; `drain_rows` a second bounds it (0: nothing does).
    """

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        *,
        limit: int = MAX_IN_FLIGHT,
        urgent_reserve: int = URGENT_RESERVE,
        drain_rows: int = 0,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._limit = limit
        self._ordinary_limit = limit - urgent_reserve
        self._known: set[int] = set()
        self._urgent: deque[FrameRef] = deque()
        self._ordinary: deque[FrameRef] = deque()
        self._old: deque[FrameRef] = deque()
        self._drain = _Drain(clock, drain_rows)
        self._newest_row = self._history_until = 0
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

    def add(self, frames: Iterable[FrameRef], *, old: bool = False) -> None:
        """Frames that were cut, or found in the outbox at start, in order of rows; `old`: what thinning left of others."""
        for ref in frames:
            if ref.first in self._known:
                continue
            self._known.add(ref.first)
            if ref.urgent:
                self._urgent.append(ref)
            elif old or ref.history:
                self._old.append(ref)
            else:
                self._ordinary.append(ref)
                self._newest_row = max(self._newest_row, ref.last)

    def free(self, firsts: Iterable[int]) -> None:
        """Frames that the outbox dropped because the log has them."""
        for first in firsts:
            self._known.discard(first)
            self._flying.pop(first, None)

    def link_up(self) -> None:
        """The connection is new: whatever is in flight may have died with the old one, and is due at once."""
        now = self._clock.monotonic()
        self._history_until = self._newest_row
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
        chosen: list[FrameRef] = []
        while self._urgent and self.in_flight < self._limit:
            self._launch(self._urgent.popleft(), now, chosen)
        chosen += sorted((flying.ref for flying in overdue), key=lambda ref: (not ref.urgent, ref.first))
        while self.in_flight < self._ordinary_limit and (ref := self._next()) is not None:
            self._launch(ref, now, chosen)
        return chosen

    def _next(self) -> FrameRef | None:
        """The ordinary frame whose turn it is, taken from its queue; None if there is none, or history has to wait."""
        for queue in (self._ordinary, self._old):
            while queue and queue[-1].first not in self._known:
                queue.pop()
            while queue and queue[0].first not in self._known:
                queue.popleft()
        held_back = self._drain.wait() > 0
        if self._newest_next and self._ordinary and not (held_back and self._is_old(self._ordinary[-1])):
            ref = self._ordinary.pop()
        elif not held_back and (self._old or self._ordinary):
            ref = (self._old or self._ordinary).popleft()
        elif self._ordinary and not self._is_old(self._ordinary[-1]):
            ref = self._ordinary.pop()
        else:
            return None
        self._newest_next = not self._newest_next
        if self._is_old(ref):
            self._drain.take(ref.rows)
        return ref

    def _is_old(self, ref: FrameRef) -> bool:
        return ref.history or ref.last <= self._history_until

    def _launch(self, ref: FrameRef, now: float, chosen: list[FrameRef]) -> None:
        if ref.first in self._known:
            delay = RESEND_AFTER_SECONDS
            self._flying[ref.first] = _Flying(ref, now + self._jittered(delay), delay)
            chosen.append(ref)

    def next_due(self) -> float | None:
        """Seconds until a frame in flight is overdue or more history may leave; None if there is nothing to wait for."""
        waits = [flying.due - self._clock.monotonic() for flying in self._flying.values()]
        held = self._drain.wait()
        if held and self.unsent and self.in_flight < self._ordinary_limit:
            waits.append(held)
        return max(0.0, min(waits)) if waits else None

    def _jittered(self, delay: float) -> float:
        return min(delay * self._rng.uniform(1.0, 1.0 + _JITTER), RESEND_CAP_SECONDS)
