"""What a query for readings asks, with its parts checked against each other. Pure."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cloud.api.cursors import place
from cloud.api.series import Aggregate, Downsample, Name, every, whole_stretches
from cloud.api.times import moment
from cloud.api.touched import Reads
from shared.clock import MICROSECONDS, Clock
from shared.errors import Rejected
from shared.names import SENSOR_READINGS, is_id

MAX_POINTS: Final = 4000
_ABSOLUTE: Final = re.compile(r"[0-9]+|[0-9]{4}-.*T.*")

MAX_SERIES: Final = 50
MAX_CELLS: Final = 100_000
"""Points of all series of one answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, with its defaults filled in. Exactly one of `most`, `every_us` and `starts_us` is given."""

    names: tuple[Name, ...]
    from_us: int
    to_us: int
    limit: int = MAX_POINTS
    most: int | None = None
    way: Downsample = "lttb"
    every_us: int | None = None
    how: Aggregate = "mean"
    starts_us: tuple[int, ...] = ()

    def reads(self) -> list[Reads]:
        """What of the log the answer is made of."""
        machines = dict.fromkeys(name.machine for name in self.names)
        return [Reads(SENSOR_READINGS, machine, self.from_us, self.to_us) for machine in machines]


def question(
    clock: Clock,
    names: Sequence[str],
    start: str,
    end: str,
    limit: int,
    most: int | None,
    way: Downsample | None,
    how: Aggregate | None,
    stretch: str | None,
    following: str | None,
) -> Question:
    """The question behind a query. Raises Rejected (parts that don't go together)."""
    found = series_names(names)
    from_us, to_us = settled(start, end, clock)
    if (way is not None and most is None) or (how is not None and stretch is None):
        raise Rejected("downsample goes with max_points, and aggregate with every")
    if sum(given is not None for given in (most, stretch, following)) > 1:
        raise Rejected("max_points, every and cursor: give one of them")
    if most is not None:
        asked = Question(found, from_us, to_us, most=most, way=way or "lttb")
    elif stretch is not None:
        every_us = every(stretch)
        from_us, to_us = whole_stretches(from_us, to_us, every_us, MAX_POINTS)
        asked = Question(found, from_us, to_us, every_us=every_us, how=how or "mean")
    elif following is not None:
        to_us, starts = place(following, "readings", (int, list))
        if len(starts) != len(found) or not all(type(at) is int and 0 <= at <= to_us for at in starts):
            raise Rejected("cursor: it belongs to other series")
        asked = Question(found, min(starts), to_us, limit, starts_us=tuple(starts))
    else:
        asked = Question(found, from_us, to_us, limit, starts_us=(from_us,) * len(found))
    cells = len(found) * (
        asked.most or (to_us - from_us) // (asked.every_us or 1) if not asked.starts_us else limit
    )
    if cells > MAX_CELLS:
        raise Rejected(
            f"series: {MAX_CELLS} points of all series together are the most: ask for fewer of each"
        )
    return asked


def series_names(texts: Sequence[str]) -> tuple[Name, ...]:
    """`machine/sensor` texts. Raises Rejected."""
    found = []
    for text in dict.fromkeys(texts):
        machine, _, sensor = text.partition("/")
        if not (is_id(machine) and is_id(sensor)):
            raise Rejected(f"series: {text[:90]!r} is no MACHINE/SENSOR")
        found.append(Name(machine, sensor))
    return tuple(found)


def until(clock: Clock, start: str, end: str | None) -> int | None:
    """Up to when these texts mean the same times: for ever, or to the end of this second."""
    if all(text is None or _ABSOLUTE.fullmatch(text) for text in (start, end)):
        return None
    return math.ceil(clock.now_us() / MICROSECONDS) * MICROSECONDS


def settled(start: str, end: str, clock: Clock) -> tuple[int, int]:
    """The range [from, to). Relative times count from the end of this second, so that all who ask in it ask the same.

    Raises Rejected.
    """
    now_us = math.ceil(clock.now_us() / MICROSECONDS) * MICROSECONDS
    from_us, to_us = moment(start, now_us, "from"), moment(end, now_us, "to")
    if to_us < from_us:
        raise Rejected("to: it is before from")
    return from_us, to_us
