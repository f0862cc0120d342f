"""The points of the benchmark: one list, cut into records, as frames, as line protocol and as JSON.

A record holds readings of one machine, as an edge's frame does: its sensors take turns, all at one time, ten times a
second. Record after record the machines take turns.

A point is what this project's store keeps of a reading (cloud/telemetry/influx/points.py): the value, and packed in two
integers the arrival, the quality, the unit, and whose row of which edge it is. So all contestants write the same points.
`bare` points are the value alone, the least that anybody could write.
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

MEASUREMENT: Final = "reading"
_ARRIVAL_US: Final = 2_000
_ROW_BITS: Final = 40
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
    bare: bool = False

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


def points(count: int, machines: int, sensors: int, rows: int, *, bare: bool = False) -> Points:
    """Points that end before now."""
    return Points(count, machines, sensors, rows, int(time.time() - _BEHIND_S) * 1_000_000, bare)


def machine_name(number: int) -> str:
    """Of a machine."""
    return f"press-{number:03d}"


def sensor_name(number: int) -> str:
    """Of a sensor."""
    return f"c-{number:02d}"


Form = Callable[[Points, Record], bytes]
"""A record's bytes."""


def frame(points: Points, record: Record) -> bytes:
    """As an edge makes it."""
    rows = len(record.value)
    body = Readings(
        tuple(sensor_name(n) for n in range(points.sensors)),
        (_UNIT,) * points.sensors,
        record.sensor,
        record.time_us,
        record.time_us + _ARRIVAL_US,
        record.value,
        np.zeros(rows, np.uint8),
    )
    edge, epoch = f"edge-{record.machine}", bytes([record.machine]) * 16
    machine = machine_name(record.machine)
    return encode(Header("s1", edge, machine, Kind.READINGS, epoch, record.first, rows), body)


def lines(points: Points, record: Record) -> bytes:
    """InfluxDB's line protocol, times in ns."""
    start = f"{MEASUREMENT},machine={machine_name(record.machine)},sensor="
    if points.bare:
        return "\n".join(
            f"{start}{sensor_name(sensor)} value={value} {at}000" for sensor, at, value, _ in _columns(record)
        ).encode()
    return "\n".join(
        f"{start}{sensor_name(sensor)} value={value},a={_ARRIVAL_US}i,o={o}i {at}000"
        for sensor, at, value, o in _columns(record)
    ).encode()


def json_rows(points: Points, record: Record) -> bytes:
    """A JSON list of readings, times in ns."""
    machine = machine_name(record.machine)
    return orjson.dumps(
        [
            {"machine": machine, "sensor": sensor_name(sensor), "time": at * 1000, "value": value}
            | ({} if points.bare else {"a": _ARRIVAL_US, "o": o})
            for sensor, at, value, o in _columns(record)
        ]
    )


def _columns(record: Record) -> Iterator[tuple[int, int, float, int]]:
    """Sensor, time in µs, value, and whose row it is."""
    o = (record.machine + 1 << _ROW_BITS) | np.arange(record.first, record.first + len(record.value))
    return zip(
        record.sensor.tolist(), record.time_us.tolist(), record.value.tolist(), o.tolist(), strict=True
    )
