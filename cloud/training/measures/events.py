"""Figures that count events: stretches of anomalous rows, and alarms that begin."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cloud.training.datasets.run import Segment
from shared.persistence import episodes
from shared.windows import Floats, Ints

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Events:
    """What became of the events of a run.

    Attributes:
        events: How many there were.
        hit: In how many some row alarms, which alarming always does too.
        onset: In how many an alarm starts, which alarming always never does.
        delays_us: From an event's first row to the first alarm that starts in it.
    """

    events: int
    hit: int
    onset: int
    delays_us: tuple[int, ...]


def spans(flags: Bools) -> list[tuple[int, int]]:
    """Stretches [begin, end) of rows that are set."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(begin), int(end)) for begin, end in zip(edges[::2], edges[1::2], strict=True)]


def judge(label: Bools, alarm: Bools, times_us: Ints) -> Events:
    """Of one run."""
    starts = np.array([begin for begin, _ in spans(alarm)], dtype=np.int64)
    found = spans(label)
    hit = sum(bool(alarm[begin:end].any()) for begin, end in found)
    first = [starts[(starts >= begin) & (starts < end)][:1] for begin, end in found]
    delays = [
        int(times_us[at[0]] - times_us[begin]) for at, (begin, _) in zip(first, found, strict=True) if at.size
    ]
    return Events(len(found), hit, len(delays), tuple(delays))


def false_episodes(label: Bools, alarm: Bools, *, m: int, n: int) -> int:
    """Episodes (m of the last n rows) that begin on a normal row."""
    return sum(not label[at] for at, _ in episodes(range(len(alarm)), alarm.tolist(), m, n))


def normal_hours(label: Bools, times_us: Ints) -> float:
    """For how long the rows of a run are normal, at their usual interval."""
    return float(np.median(np.diff(times_us))) * int((~label).sum()) / 3.6e9


@dataclass(frozen=True, slots=True)
class Episodes:
    """Alarms put together by time: how many such episodes began outside of events, in how many events one began."""

    false: int
    onset: int
    events: int
    weeks: float


def merged(label: Bools, alarm: Bools, times_us: Ints, gap_us: int) -> Episodes:
    """Alarms less than `gap_us` apart are one episode; an event is found by an episode that begins in it."""
    at = np.flatnonzero(alarm)
    begins = at[np.concatenate([[True], np.diff(times_us[at]) >= gap_us])] if at.size else at
    found = spans(label)
    onset = sum(bool(((begins >= begin) & (begins < end)).any()) for begin, end in found)
    weeks = float(times_us[-1] - times_us[0]) / 3.6e9 / 168
    return Episodes(int((~label[begins]).sum()), onset, len(found), weeks)


@dataclass(frozen=True, slots=True)
class Blame:
    """Of the alarming events: how many led with a guilty sensor, and how many would have by chance."""

    events: int
    right: int
    chance: float


def blame(
    blamed: Sequence[Segment], score: Floats, contributions: Floats, alarm: Bools, leading: int = 3
) -> Blame:
    """Whether one of the `leading` sensors was blamed, at each event's highest score.

    An event in which nothing alarms says nothing about causes and is not counted.
    """
    right, by_chance, events = 0, 0.0, 0
    width = contributions.shape[1]
    for each in blamed:
        inside = np.flatnonzero(alarm[each.begin : each.end]) + each.begin
        if not inside.size:
            continue
        top = inside[int(np.argmax(score[inside]))]
        order = np.argsort(-contributions[top], kind="stable")[:leading]
        guilty = set(each.sensors)
        right += bool(guilty & set(order.tolist()))
        drawn = np.arange(leading, dtype=np.float64)
        by_chance += 1 - float(np.prod((width - len(guilty) - drawn).clip(min=0) / (width - drawn)))
        events += 1
    return Blame(events, right, by_chance)
