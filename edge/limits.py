"""Plain limits: what watches a machine from its first reading on, long before it has a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edge.settings import Limits
from shared.event import Event, at
from shared.frames import Quality, Readings
from shared.machine_events import LimitCleared, LimitCrossed, alarm_id, limit_rule

SIDES: Final = ("low-low", "low", "high", "high-high")
URGENT_SIDES: Final = frozenset({"low-low", "high-high"})

Key = tuple[str, str]  # sensor, side


@dataclass(frozen=True, slots=True)
class Crossed:
    """A limit that is crossed: since when, and with which value it was raised."""

    onset_us: int
    value: float
    limit: float
    unit: str


class LimitWatch:
    """Which limits of a machine are crossed. `crossed` is what must survive a restart.

    A limit is crossed when every reading was outside it for its delay, by event time; the first of them is the onset. It
    is cleared by the first reading that is further inside than its hysteresis. A delay that runs begins anew after a restart.
    """

    def __init__(self, edge: str, machine: str, limits: Mapping[str, Limits]) -> None:
        self._edge, self._machine, self._limits = edge, machine, limits
        self.crossed: dict[Key, Crossed] = {}
        self._outside: dict[Key, int] = {}

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
                event = self._judge(
                    limits, (name, side), time_us, beyond, Crossed(time_us, value, limit, unit)
                )
                if event is not None:
                    events.append(event)
        return events

    def _judge(self, limits: Limits, key: Key, time_us: int, beyond: float, now: Crossed) -> Event | None:
        """`beyond` is how far the value is outside, negative inside."""
        if beyond <= 0:
            self._outside.pop(key, None)
        crossed = self.crossed.get(key)
        if crossed is not None:
            if beyond > 0 or beyond > -limits.hysteresis:
                return None
            del self.crossed[key]
            return self._event(LimitCleared, key, time_us, crossed.onset_us, now)
        if beyond <= 0:
            return None
        onset = min(self._outside.setdefault(key, time_us), time_us)
        if time_us - onset < limits.delay_seconds * 1e6:
            return None
        self.crossed[key] = Crossed(onset, now.value, now.limit, now.unit)
        self._outside.pop(key)
        return self._event(LimitCrossed, key, time_us, onset, now)

    def _event(
        self,
        kind: type[LimitCrossed | LimitCleared],
        key: Key,
        time_us: int,
        onset_us: int,
        now: Crossed,
    ) -> Event:
        sensor, side = key
        rule, onset = limit_rule(sensor, side), at(onset_us)
        return kind(
            source=f"edge/{self._edge}",
            subject=self._machine,
            occurred_at=at(time_us),
            correlation_id=alarm_id(rule, self._machine, onset),
            edge=self._edge,
            sensor=sensor,
            side=side,
            value=now.value,
            limit=now.limit,
            unit=now.unit,
            rule=rule,
            onset=onset,
        )


def _sides(limits: Limits, value: float) -> list[tuple[str, float, float]]:
    """(side, limit, how far the value is beyond it) of each limit that there is."""
    told = zip(SIDES, (limits.low_low, limits.low, limits.high, limits.high_high), strict=True)
    return [
        (side, limit, limit - value if side.startswith("low") else value - limit)
        for side, limit in told
        if limit is not None
    ]
