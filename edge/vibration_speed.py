"""How fast a shaft turned while a block was taken: by the machine's own speed readings, or as a person entered it."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from edge.vibration_settings import Point
from shared.errors import Rejected
from shared.frames import Quality, Readings
from shared.units import convert
from shared.wave import Wave

REACH_US: Final = 5_000_000
"""How far before and after a block a speed reading still speaks for it."""
MAX_CHANGE: Final = 0.02
"""A speed that changes more than this during a block smears lines beyond what is looked for."""
_KEPT: Final = 3600


@dataclass(frozen=True, slots=True)
class Speed:
    """Revolutions a second, or None and why not. `entered`: by a person."""

    hz: float | None
    reason: str = ""
    entered: bool = False


class Speeds:
    """One machine's newest speed readings, by sensor."""

    def __init__(self, sensors: frozenset[str]) -> None:
        self._seen = {sensor: deque[tuple[int, float]](maxlen=_KEPT) for sensor in sensors}

    def take(self, readings: Readings) -> None:
        """Rows in order of arrival; bad ones and other units than a frequency's say nothing."""
        for index, name in enumerate(readings.sensor_names):
            kept = self._seen.get(name)
            if kept is None:
                continue
            try:
                factor = convert(1.0, readings.units[index], "Hz")
            except Rejected:
                continue
            mine = (readings.sensor == index) & (readings.quality != Quality.BAD)
            times, values = readings.time_us[mine].tolist(), readings.value[mine].tolist()
            kept.extend((time_us, value * factor) for time_us, value in zip(times, values, strict=True))

    def during(self, wave: Wave, point: Point) -> Speed:
        """The speed while `wave` was taken."""
        if point.speed_rpm is not None:
            return Speed(point.speed_rpm / 60.0, entered=True)
        if not point.speed_sensor:
            return Speed(None, "neither a speed nor a speed sensor was entered")
        low, high = wave.time_us - REACH_US, wave.end_us + REACH_US
        near = [hz for time_us, hz in self._seen[point.speed_sensor] if low <= time_us <= high]
        if not near:
            return Speed(None, f"no reading of {point.speed_sensor} within 5 s of the block")
        mean = sum(near) / len(near)
        if mean <= 0.0:
            return Speed(None, "the machine stands")
        if max(near) - min(near) > MAX_CHANGE * mean:
            return Speed(None, f"the speed changed by {(max(near) - min(near)) / mean:.0%} around the block")
        return Speed(mean)
