"""Up to where in the log an answer from the store must count: which hours of which machine the log touched last.

The live stream sees each record of the log; here it leaves machine, hours and offset. An answer that was made when the
store stood at position P holds as long as the log brought nothing of its machine and hours after P. Where this knows
less (before the stream began, machines and hours beyond the bounds), it names a later position, never an earlier one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cloud.telemetry.port import HOUR_US
from shared.eventlog import Position

HOURS: Final = 48
"""Hours known of a machine one by one; of others only the last offset of all is known."""
MACHINES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Reads:
    """What an answer is made of: a topic's rows of a machine (None: of all) in [from, to)."""

    topic: str
    machine: str | None
    from_us: int
    to_us: int


@dataclass(slots=True)
class _Machine:
    rest: dict[str, int] = field(default_factory=dict)
    hours: dict[int, tuple[str, int]] = field(default_factory=dict)

    def touch(self, first: int, last: int, partition: str, offset: int) -> None:
        if last - first >= HOURS:
            self.rest[partition] = offset
            return
        for hour in range(first, last + 1):
            # The hour's last touch is newer than the one before in the same partition, which a key never leaves.
            self.hours.pop(hour, None)
            self.hours[hour] = partition, offset
        while len(self.hours) > HOURS:
            oldest = next(iter(self.hours))
            known, at = self.hours.pop(oldest)
            self.rest[known] = max(at, self.rest.get(known, 0))

    def needs(self, first: int, last: int) -> dict[str, int]:
        found = dict(self.rest)
        for hour, (partition, offset) in self.hours.items():
            if first <= hour <= last:
                found[partition] = max(offset, found.get(partition, 0))
        return found


@dataclass(slots=True)
class _Topic:
    start: dict[str, int]
    seen: dict[str, int] = field(default_factory=dict)
    rest: dict[str, int] = field(default_factory=dict)
    machines: dict[str, _Machine] = field(default_factory=dict)


class Touched:
    """Fed by who follows the log, asked by who keeps answers."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}

    def begin(self, topic: str, start: Position) -> None:
        """The topic is followed from here on; what was before is not known."""
        self._topics[topic] = _Topic(dict(start))

    def lost(self, topic: str) -> None:
        """It is not followed now."""
        self._topics.pop(topic, None)

    def touch(
        self, topic: str, partition: str, offset: int, machine: str, span_us: tuple[int, int] | None
    ) -> None:
        """A record came: rows of the machine from the first to the last time; None: any time."""
        known = self._topics.get(topic)
        if known is None:
            return
        known.seen[partition] = offset
        part = known.machines.get(machine)
        if part is None:
            if len(known.machines) >= MACHINES:
                known.rest[partition] = offset
                return
            part = known.machines[machine] = _Machine()
        if span_us is None:
            part.rest[partition] = offset
        else:
            part.touch(span_us[0] // HOUR_US, span_us[1] // HOUR_US, partition, offset)

    def needs(self, what: Reads) -> dict[str, int] | None:
        """The position that an answer must count to; None: not known while the topic is not followed."""
        known = self._topics.get(what.topic)
        if known is None:
            return None
        if what.machine is None:
            return known.start | known.seen
        part = known.machines.get(what.machine)
        own = part.needs(what.from_us // HOUR_US, (what.to_us - 1) // HOUR_US) if part is not None else {}
        found = dict(known.start)
        for partition, offset in (*known.rest.items(), *own.items()):
            found[partition] = max(offset, found.get(partition, 0))
        return found


def covers(position: Mapping[str, int], needed: Mapping[str, int]) -> bool:
    """Whether a position counts at least to another one."""
    return all(position.get(partition, 0) >= offset for partition, offset in needed.items())
