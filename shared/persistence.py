"""m-of-n persistence with hysteresis: when a run of alarms becomes an anomaly, and when it is over.

An anomaly begins when m of the last n scored windows alarm, and is over when n scored windows in a row do not.
An unscored window is no evidence either way and is not counted.
"""

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shared.errors import Misconfigured, Rejected

_STATE_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Onset:
    """An anomaly began: `time_us` is the right edge of the window that made it m of n, `first_us` of the first of the m."""

    time_us: int
    first_us: int


@dataclass(frozen=True, slots=True)
class Clear:
    """The anomaly that began at `onset_us` is over."""

    time_us: int
    onset_us: int


class Persistence:
    """The state of one machine. Its memory is n windows; `to_json` and `from_json` carry it over a restart."""

    def __init__(self, m: int, n: int) -> None:
        if not 1 <= m <= n:
            raise Misconfigured(f"persistence {m} of {n}", hint="m must be at least 1 and at most n")
        self.m = m
        self.n = n
        self._recent: deque[tuple[int, bool]] = deque(maxlen=n)
        self._onset: Onset | None = None

    @property
    def active(self) -> Onset | None:
        """The anomaly that is on, or None."""
        return self._onset

    def update(self, time_us: int, alarm: bool | None) -> Onset | Clear | None:  # noqa: FBT001 - the datum itself
        """Take the next window's decision, None = unscored. A window not after the last one seen changes nothing."""
        if alarm is None or (self._recent and time_us <= self._recent[-1][0]):
            return None
        self._recent.append((time_us, alarm))
        alarms = [at for at, on in self._recent if on]
        if self._onset is None and len(alarms) >= self.m:
            self._onset = Onset(time_us, alarms[-self.m])
            return self._onset
        if self._onset is not None and not alarms and len(self._recent) == self.n:
            over = Clear(time_us, self._onset.time_us)
            self._onset = None
            return over
        return None

    def to_json(self) -> str:
        """The state as text."""
        onset = None if self._onset is None else [self._onset.time_us, self._onset.first_us]
        state = {
            "version": _STATE_VERSION,
            "m": self.m,
            "n": self.n,
            "recent": list(self._recent),
            "onset": onset,
        }
        return json.dumps(state)

    @classmethod
    def from_json(cls, text: str) -> "Persistence":
        """The state from text. Raises Rejected for text that `to_json` did not write."""
        try:
            state = json.loads(text)
            if state["version"] != _STATE_VERSION:
                raise Rejected(f"persistence state of version {state['version']!r}")
            made = cls(int(state["m"]), int(state["n"]))
            made._recent.extend((int(at), bool(on)) for at, on in state["recent"])
            onset = state["onset"]
            made._onset = None if onset is None else Onset(int(onset[0]), int(onset[1]))
        except (ValueError, TypeError, KeyError, IndexError, Misconfigured) as error:
            raise Rejected(f"this is not a persistence state: {error}") from error
        return made


def episodes(
    times_us: Iterable[int], alarms: Iterable[bool | None], m: int, n: int
) -> list[tuple[int, int | None]]:
    """The (onset, clear) pairs that `Persistence` makes of a recorded run; clear is None where it still lasts."""
    state = Persistence(m, n)
    found: list[tuple[int, int | None]] = []
    for time_us, alarm in zip(times_us, alarms, strict=True):
        match state.update(time_us, alarm):
            case Onset(at, _):
                found.append((at, None))
            case Clear(at, onset):
                found[-1] = (onset, at)
    return found
