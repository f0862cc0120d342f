"""Plain limits: what watches a machine from its first reading on, long before it has a model."""

from collections.abc import Mapping
from typing import Final

from edge.settings import Limits
from shared.events import Event, LimitCleared, LimitCrossed, at
from shared.frames import Quality, Readings

LOW: Final = "low"
HIGH: Final = "high"


class LimitWatch:
    """Which limits of a machine are crossed. `crossed` is its whole state."""

    def __init__(self, edge: str, machine: str, limits: Mapping[str, Limits]) -> None:
        self._edge, self._machine, self._limits = edge, machine, limits
        self.crossed: set[tuple[str, str]] = set()

    def take(self, readings: Readings) -> list[Event]:
        """The crossings and returns in these rows. Bad rows say nothing."""
        events: list[Event] = []
        watched = [self._limits.get(name) for name in readings.sensor_names]
        if not any(watched):
            return events
        columns = (readings.sensor, readings.time_us, readings.value, readings.quality)
        for index, time_us, value, quality in zip(*(column.tolist() for column in columns), strict=True):
            limits = watched[index]
            if limits is None or quality == Quality.BAD:
                continue
            name, unit = readings.sensor_names[index], readings.units[index]
            for side, limit, beyond in _sides(limits, value):
                event = self._judge(name, side, beyond)
                if event is not None:
                    events.append(
                        event(
                            source=f"edge/{self._edge}",
                            subject=self._machine,
                            occurred_at=at(time_us),
                            edge=self._edge,
                            sensor=name,
                            side=side,
                            value=value,
                            limit=limit,
                            unit=unit,
                        )
                    )
        return events

    def _judge(self, name: str, side: str, beyond: float) -> type[LimitCrossed | LimitCleared] | None:
        """`beyond` is how far the value is outside, negative inside."""
        key = (name, side)
        limits = self._limits[name]
        if beyond > 0 and key not in self.crossed:
            self.crossed.add(key)
            return LimitCrossed
        if key in self.crossed and beyond <= -limits.hysteresis:
            self.crossed.discard(key)
            return LimitCleared
        return None


def _sides(limits: Limits, value: float) -> list[tuple[str, float, float]]:
    sides = []
    if limits.low is not None:
        sides.append((LOW, limits.low, limits.low - value))
    if limits.high is not None:
        sides.append((HIGH, limits.high, value - limits.high))
    return sides
