"""m-of-n persistence with hysteresis: when a run of alarms becomes an anomaly, and when it is over.

An anomaly begins when m of the last n scored windows alarm, and is over when enough scored windows in a row are calm: so
that one fault is one anomaly, models that training makes today ask for a whole window's length and at least 64 of them
(`calm_windows`), with scores clearly below the limit (`CALM_LEVEL`, a deadband). A fault near the limit would else come
and go with each change of load. An unscored window is no evidence either way and is not counted.
"""

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Final

from shared.errors import Misconfigured, Rejected

CALM_LEVEL: Final = 0.8
"""Of the limit: a score up to here is calm. What lies between it and the limit neither begins an anomaly nor lets it end."""
CALM_WINDOWS: Final = 64
"""That end an anomaly at least, however short a model's windows are: a fault comes and goes with load, not with the method."""
_STATE_VERSION: Final = 2
_READS: Final = (1, _STATE_VERSION)


def calm_windows(window: int, n: int) -> int:
    """How many calm windows in a row end an anomaly: no cell of the last one that alarmed is in the newest of them."""
    return max(window, n, CALM_WINDOWS)


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
    """The state of one machine. Its memory is n windows; `to_json` and `from_json` carry it over a restart.

    `clear` calm windows in a row end an anomaly, n of them if it is None.
    """

    def __init__(self, m: int, n: int, clear: int | None = None) -> None:
        if not 1 <= m <= n:
            raise Misconfigured(f"persistence {m} of {n}", hint="m must be at least 1 and at most n")
        if clear is not None and clear < 1:
            raise Misconfigured(f"{clear} windows end an anomaly", hint="ask for at least 1")
        self.m = m
        self.n = n
        self.clear = n if clear is None else clear
        self._calm = 0
        self._recent: deque[tuple[int, bool]] = deque(maxlen=n)
        self._onset: Onset | None = None

    @property
    def active(self) -> Onset | None:
        """The anomaly that is on, or None."""
        return self._onset

    def update(
        self,
        time_us: int,
        alarm: bool | None,  # noqa: FBT001 - the datum itself
        calm: bool | None = None,  # noqa: FBT001
    ) -> Onset | Clear | None:
        """Take the next window's decision, None = unscored. A window not after the last one seen changes nothing.

        `calm` says whether it counts towards the end; None: every window without an alarm does.
        """
        if alarm is None or (self._recent and time_us <= self._recent[-1][0]):
            return None
        self._recent.append((time_us, alarm))
        self._calm = self._calm + 1 if (not alarm if calm is None else calm) else 0
        alarms = [at for at, on in self._recent if on]
        if self._onset is None and len(alarms) >= self.m:
            self._onset = Onset(time_us, alarms[-self.m])
            self._calm = 0
            return self._onset
        if self._onset is not None and self._calm >= self.clear:
            over = Clear(time_us, self._onset.time_us)
            self._onset = None
            return over
        return None

    def _quiet(self) -> int:
        """How many of the newest windows did not alarm, for a state of version 1."""
        alarms = [on for _, on in self._recent]
        return alarms[::-1].index(True) if True in alarms else len(alarms)

    def to_json(self) -> str:
        """The state as text."""
        onset = None if self._onset is None else [self._onset.time_us, self._onset.first_us]
        state = {
            "version": _STATE_VERSION,
            "m": self.m,
            "n": self.n,
            "clear": self.clear,
            "calm": self._calm,
            "recent": list(self._recent),
            "onset": onset,
        }
        return json.dumps(state)

    @classmethod
    def from_json(cls, text: str) -> "Persistence":
        """The state from text. Raises Rejected for text that `to_json` did not write."""
        try:
            state = json.loads(text)
            if state["version"] not in _READS:
                raise Rejected(f"persistence state of version {state['version']!r}")
            clear = state.get("clear")  # of version 2 on
            made = cls(int(state["m"]), int(state["n"]), None if clear is None else int(clear))
            made._recent.extend((int(at), bool(on)) for at, on in state["recent"])
            made._calm = int(state["calm"]) if "calm" in state else made._quiet()
            onset = state["onset"]
            made._onset = None if onset is None else Onset(int(onset[0]), int(onset[1]))
        except (ValueError, TypeError, KeyError, IndexError, Misconfigured) as error:
            raise Rejected(f"this is not a persistence state: {error}") from error
        return made


def episodes(
    times_us: Iterable[int],
    alarms: Iterable[bool | None],
    m: int,
    n: int,
    *,
    clear: int | None = None,
    calm: Iterable[bool | None] | None = None,
) -> list[tuple[int, int | None]]:
    """The (onset, clear) pairs that `Persistence` makes of a recorded run; clear is None where it still lasts."""
    state = Persistence(m, n, clear)
    found: list[tuple[int, int | None]] = []
    for time_us, alarm, quiet in zip(times_us, alarms, calm or repeat(None)):  # noqa: B905 - the last one is endless
        match state.update(time_us, alarm, quiet):
            case Onset(at, _):
                found.append((at, None))
            case Clear(at, onset):
                found[-1] = (onset, at)
    return found
