"""What is known of a machine from its readings: sensors, units, rates, newest values, the clock's skew."""

import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import orjson

from shared.frames import Readings

_INTERVALS: Final = 15
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
        return round(statistics.median(self.intervals)) if len(self.intervals) >= 3 else None  # noqa: PLR2004


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
        for index, name in enumerate(readings.sensor_names):
            mine = readings.sensor == index
            if not mine.any():
                continue
            times, values = readings.time_us[mine], readings.value[mine]
            at = int(times.argmax())
            self._update(name, readings.units[index], times, int(times[at]), float(values[at]))

    def _update(self, name: str, unit: str, times: "np.ndarray[Any, Any]", newest: int, value: float) -> None:
        seen = self.sensors.get(name)
        if seen is None:
            if len(self.sensors) >= MAX_SENSORS:
                return
            seen = self.sensors[name] = Seen(unit, value, newest)
            steps = np.diff(np.sort(times))
        else:
            steps = np.diff(np.sort(np.append(times[times > seen.time_us], seen.time_us)))
        seen.intervals.extend(steps[steps > 0][-_INTERVALS:].tolist())
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
            (name, seen.unit, seen.interval_us is not None) for name, seen in self.sensors.items()
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
