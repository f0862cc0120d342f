"""What is known of a machine from its readings: sensors, units, rates, newest values, the clock's skew."""

import statistics
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Self

import orjson

from shared.frames import Readings

_INTERVALS: Final = 15
_RATE_KNOWN: Final = 3  # intervals, from which on a rate is told
_SKEWS: Final = 31
MAX_SENSORS: Final = 1000


@dataclass(slots=True)
class Seen:
    """A sensor as its rows show it."""

    unit: str
    value: float
    time_us: int
    intervals: deque[int] = field(default_factory=lambda: deque(maxlen=_INTERVALS))

    @property
    def interval_us(self) -> int | None:
        """The usual event time between two rows, None until there were a few."""
        return round(statistics.median(self.intervals)) if len(self.intervals) >= _RATE_KNOWN else None


class MachineView:
    """One machine's sensors. Bounded: a machine has at most 1,000 sensors here, later ones are not shown."""

    def __init__(self) -> None:
        self.sensors: dict[str, Seen] = {}
        self.arrival_us: int | None = None
        self._skews: deque[int] = deque(maxlen=_SKEWS)

    def take(self, readings: Readings) -> None:
        """Rows in order of arrival."""
        if not len(readings):
            return
        self.arrival_us = int(readings.arrival_us[-1])
        rows: dict[int, list[tuple[int, float]]] = {}
        for index, time_us, value in zip(
            readings.sensor.tolist(), readings.time_us.tolist(), readings.value.tolist(), strict=True
        ):
            rows.setdefault(index, []).append((time_us, value))
        for index, mine in sorted(rows.items()):
            self._update(readings.sensor_names[index], readings.units[index], mine)

    def _update(self, name: str, unit: str, rows: list[tuple[int, float]]) -> None:
        newest, value = max(rows, key=lambda row: row[0])
        seen = self.sensors.get(name)
        times = sorted({time_us for time_us, _ in rows if seen is None or time_us >= seen.time_us})
        if seen is None:
            if len(self.sensors) >= MAX_SENSORS:
                return
            seen = self.sensors[name] = Seen(unit, value, newest)
        elif times and times[0] > seen.time_us:
            times.insert(0, seen.time_us)
        seen.intervals.extend([later - earlier for earlier, later in pairwise(times)][-_INTERVALS:])
        if newest >= seen.time_us:
            seen.unit, seen.value, seen.time_us = unit, value, newest

    def take_live(self, event_us: int, arrival_us: int) -> None:
        """A single live message: only those say how the device's clock stands, batches never do."""
        self._skews.append(event_us - arrival_us)

    @property
    def skew_us(self) -> int | None:
        """How far the device's clock is ahead of ours (median; the way here counts as behind)."""
        return round(statistics.median(self._skews)) if self._skews else None

    def units(self) -> dict[str, str]:
        """Unit of each sensor."""
        return {name: seen.unit for name, seen in self.sensors.items()}

    @property
    def shape(self) -> frozenset[tuple[str, str, bool]]:
        """Which sensors there are, their units, and whether their rate is known: what a model is checked against."""
        return frozenset(
            (name, seen.unit, len(seen.intervals) >= _RATE_KNOWN) for name, seen in self.sensors.items()
        )

    def to_json(self) -> bytes:
        """All but the clock's skew, for the outbox to keep over a restart."""
        sensors = {
            name: [seen.unit, seen.value, seen.time_us, list(seen.intervals)]
            for name, seen in self.sensors.items()
        }
        return orjson.dumps({"arrival_us": self.arrival_us, "sensors": sensors})

    @classmethod
    def from_json(cls, data: bytes | None) -> Self:
        """A view as kept; an empty one for None or what can't be read, which costs only a wait for new readings."""
        view = cls()
        try:
            kept = orjson.loads(data or b"{}")
            for name, (unit, value, time_us, intervals) in kept.get("sensors", {}).items():
                view.sensors[name] = Seen(unit, value, time_us, deque(intervals, maxlen=_INTERVALS))
            view.arrival_us = kept.get("arrival_us")
        except (orjson.JSONDecodeError, ValueError, TypeError, AttributeError):
            return cls()
        return view

    def last(self) -> dict[str, dict[str, Any]]:
        """The newest value of each sensor, for the report."""
        return {
            name: {"value": seen.value, "unit": seen.unit, "ts": seen.time_us}
            for name, seen in self.sensors.items()
        }
