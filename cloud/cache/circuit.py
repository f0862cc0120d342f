"""A circuit breaker: after some failures in a row a server is left alone for a while, then tried by one call."""

from typing import Final

from shared.clock import Clock

FAILURES: Final = 5
PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 15.0


class Circuit:
    """Closed: everybody may call. Open: nobody, for a pause that doubles with each trial that fails."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._pause = PAUSE_SECONDS
        self._until: float | None = None

    @property
    def open(self) -> bool:
        """Whether the server is being left alone."""
        return self._until is not None

    def admits(self) -> bool:
        """Whether a call may be made. While the circuit is open one caller a pause is let through, as a trial."""
        if self._until is None:
            return True
        if self._clock.monotonic() < self._until:
            return False
        self._until = self._clock.monotonic() + self._pause
        return True

    def succeeded(self) -> None:
        """The server answered."""
        self._failures = 0
        self._pause = PAUSE_SECONDS
        self._until = None

    def failed(self) -> None:
        """It did not."""
        self._failures += 1
        if self._until is not None:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            self._until = self._clock.monotonic() + self._pause
        elif self._failures >= FAILURES:
            self._until = self._clock.monotonic() + self._pause
