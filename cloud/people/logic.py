"""Login links: a code that logs a person in once, soon after it was made. Pure."""

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import Final

from shared.clock import MICROSECONDS

LIFE_US: Final = 600 * MICROSECONDS
CODE_BYTES: Final = 32
MAX_OPEN: Final = 100
"""Links that wait to be used; another one ends the oldest."""
ATTEMPTS: Final = 10
ATTEMPTS_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class LoginLink:
    """A link as its maker gets it, once: only the code's hash is kept."""

    code: str
    expires_us: int


def digest(code: str) -> bytes:
    """SHA-256 of a code. It is random and long, so a slow hash would add nothing."""
    return hashlib.sha256(code.encode()).digest()


class Attempts:
    """At most so many failed attempts in any minute."""

    def __init__(self, most: int = ATTEMPTS, seconds: float = ATTEMPTS_SECONDS) -> None:
        self._most = most
        self._seconds = seconds
        self._failed: deque[float] = deque(maxlen=most)

    def wait(self, now: float) -> float:
        """Seconds until another attempt is allowed, 0 if it is; `now` is monotonic."""
        while self._failed and self._failed[0] <= now - self._seconds:
            self._failed.popleft()
        return self._failed[0] + self._seconds - now if len(self._failed) == self._most else 0.0

    def fail(self, now: float) -> None:
        """Count an attempt that failed."""
        self._failed.append(now)
