"""Who is which sensor: names of a source to ids of ours, each id for one source only."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from edge.input_limits import InputLimits
from edge.mapping.schema import Limits, SensorRow
from shared.errors import Rejected
from shared.names import fitted

MAX_CHANNELS: Final = 100_000
Source = tuple[object, ...]


@dataclass(slots=True)
class Channel:
    """A sensor that a source's values go to. `last_us` is the last arrival that stood for an event's time."""

    machine: str
    sensor: str
    row: SensorRow
    last_us: int = 0

    def arrived(self, now_us: int) -> int:
        """`now_us` as an event's time, later than any before: a sensor must not use one time twice."""
        self.last_us = max(now_us, self.last_us + 1)
        return self.last_us


class Channels:
    """All sensors that a mapping made. The first source of a sensor keeps it; another that comes to the same is refused."""

    def __init__(self, machines: Collection[str], limits: InputLimits) -> None:
        self._machines, self._limits = machines, limits
        self._owners: dict[tuple[str, str], Source] = {}

    def machine(self, text: str, renamed: str | None) -> str:
        """The id of the machine that a source calls `text`. Raises Rejected if it is not one of this edge."""
        machine = fitted(text) if renamed is None else renamed
        if machine not in self._machines:
            raise Rejected(f"machine {machine!r} ({text[:60]!r}) is not one of this edge's")
        return machine

    def claim(self, machine: str, sensor: str, source: Source, limits: Limits) -> None:
        """Give the sensor to `source`. Raises Rejected if it is another's."""
        owner = self._owners.get((machine, sensor))
        if owner is None:
            if len(self._owners) >= MAX_CHANNELS:
                raise Rejected(
                    f"{machine}/{sensor} is one more than the {MAX_CHANNELS} sensors that fit an agent"
                )
            self._owners[machine, sensor] = source
            if limits.limited:
                self._limits.set(machine, sensor, limits)
        elif owner != source:
            raise Rejected(
                f"sensor {sensor!r} of {machine!r} comes from {_said(owner)} already: give {_said(source)} another name"
            )


def _said(source: Source) -> str:
    return " ".join(str(part) for part in source if part != "")[:160]
