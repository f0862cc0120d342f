"""The points of the benchmark: one list, cut into records, as frames, as line protocol and as JSON.

A record holds readings of one machine, as an edge's frame does: its sensors take turns, all at one time, ten times a
second. Record after record the machines take turns.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.frame_codec import encode
from shared.frames import Header, Kind, Readings

MEASUREMENT: Final = "bench"
_STEP_US: Final = 100_000
_UNIT: Final = "mm/s"
# Times lie in the last hours: a store may refuse what is older than it keeps.
_BEHIND_S: Final = 6 * 3600

Series = tuple[str, str]
"""Machine and sensor."""


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One Kafka record's readings: n rows of `machine`, `first` counting the machine's rows from 1."""

    machine: int
    first: int
    sensor: NDArray[np.int64]
    time_us: NDArray[np.int64]
    value: NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """`count` readings of `machines` with `sensors` each, `rows` a record; the same arguments give the same values."""

    count: int
    machines: int
    sensors: int
    rows: int
    start_us: int

    @cached_property
    def records(self) -> list[Record]:
        """All of them, in the order in which they are sent."""
        return list(self._records())

    @property
    def series(self) -> int:
        """How many there are."""
        return self.machines * self.sensors

    def sums(self) -> dict[Series, tuple[int, int]]:
        """Each series' count and the sum of its values in thousandths."""
        counts = np.zeros((self.machines, self.sensors), np.int64)
        totals = np.zeros((self.machines, self.sensors), np.int64)
        for record in self.records:
            np.add.at(counts[record.machine], record.sensor, 1)
            np.add.at(totals[record.machine], record.sensor, np.rint(record.value * 1000).astype(np.int64))
        return {
            (machine_name(m), sensor_name(s)): (int(counts[m, s]), int(totals[m, s]))
            for m in range(self.machines)
            for s in range(self.sensors)
            if counts[m, s]
        }

    def _records(self) -> Iterator[Record]:
        rng = np.random.default_rng(1)
        for number in range(self.count // self.rows):
            machine, turn = number % self.machines, number // self.machines
            index = np.arange(self.rows) + turn * self.rows
            yield Record(
                machine,
                turn * self.rows + 1,
                index % self.sensors,
                self.start_us + index // self.sensors * _STEP_US,
                rng.integers(20_000, 90_000, self.rows) / 1000,
            )


def points(count: int, machines: int, sensors: int, rows: int) -> Points:
    """Points that end before now."""
    return Points(count, machines, sensors, rows, int(time.time() - _BEHIND_S) * 1_000_000)


def machine_name(number: int) -> str:
    """Of a machine."""
    return f"press-{number:03d}"


def sensor_name(number: int) -> str:
    """Of a sensor."""
    return f"c-{number:02d}"


Form = Callable[[Record, int], bytes]
"""The record's bytes, given how many sensors its machine has."""


def frame(record: Record, sensors: int) -> bytes:
    """As an edge makes it; readings arrived 2 ms after their time."""
    rows = len(record.value)
    body = Readings(
        tuple(sensor_name(n) for n in range(sensors)),
        (_UNIT,) * sensors,
        record.sensor,
        record.time_us,
        record.time_us + 2_000,
        record.value,
        np.zeros(rows, np.uint8),
    )
    edge = f"edge-{record.machine}"
    epoch = bytes([record.machine]) * 16
    header = Header("s1", edge, machine_name(record.machine), Kind.READINGS, epoch, record.first, rows)
    return encode(header, body)


def lines(record: Record, _: int) -> bytes:
    """InfluxDB's line protocol, times in ns: two tags and one field, the least that keeps identity and value."""
    machine = machine_name(record.machine)
    columns = zip(record.sensor.tolist(), record.value.tolist(), record.time_us.tolist(), strict=True)
    return "\n".join(
        f"{MEASUREMENT},machine={machine},sensor={sensor_name(sensor)} value={value} {at}000"
        for sensor, value, at in columns
    ).encode()


def json_rows(record: Record, _: int) -> bytes:
    """A JSON list of readings."""
    machine = machine_name(record.machine)
    columns = zip(record.sensor.tolist(), record.value.tolist(), record.time_us.tolist(), strict=True)
    return orjson.dumps(
        [
            {"machine": machine, "sensor": sensor_name(sensor), "time": at * 1000, "value": value}
            for sensor, value, at in columns
        ]
    )
