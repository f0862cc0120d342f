"""Readings of a machine gathered one by one, and turned into columns once."""

from dataclasses import dataclass, field

import numpy as np

from shared.frames import Quality, Readings


@dataclass(slots=True)
class Rows:
    """Columns in the making, in order of arrival."""

    index: dict[tuple[str, str], int] = field(default_factory=dict)
    sensor: list[int] = field(default_factory=list)
    time_us: list[int] = field(default_factory=list)
    arrival_us: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    quality: list[int] = field(default_factory=list)

    def add(
        self, sensor: str, unit: str, time_us: int, value: float, quality: Quality, arrival_us: int
    ) -> None:
        """One reading more."""
        self.sensor.append(self.index.setdefault((sensor, unit), len(self.index)))
        self.time_us.append(time_us)
        self.arrival_us.append(arrival_us)
        self.value.append(value)
        self.quality.append(quality)

    def readings(self) -> Readings:
        """The columns."""
        return Readings(
            tuple(name for name, _ in self.index),
            tuple(unit for _, unit in self.index),
            np.array(self.sensor, np.int64),
            np.array(self.time_us, np.int64),
            np.array(self.arrival_us, np.int64),
            np.array(self.value, np.float64),
            np.array(self.quality, np.uint8),
        )
