"""Deadband and rate limits of single sensors: what is left out before the commit, and how much of it.

A reading that one of these leaves out was received and is acknowledged to the device: nothing is wrong with it. It is
counted under its policy, and the report says so for each machine and sensor.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from shared.clock import MICROSECONDS
from shared.frames import Readings

DEADBAND: Final = "deadband"
RATE: Final = "rate"
POLICIES: Final = (DEADBAND, RATE)


class Limits(Protocol):
    """A sensor's limits.

    `deadband`: a value no further than that from the last one kept is left out, but for one in `silence_seconds`.
    `per_second`: so many readings are kept in a second of event time.
    """

    @property
    def deadband(self) -> float | None:
        """In the sensor's unit."""

    @property
    def silence_seconds(self) -> float:
        """Event time after which a reading is kept whatever its value."""

    @property
    def per_second(self) -> float | None:
        """Readings a second of event time."""


@dataclass(slots=True)
class _Kept:
    """The last reading of a sensor that was kept, and when the rate allows the next."""

    time_us: int
    value: float
    quality: int
    free_us: float


@dataclass(frozen=True, slots=True)
class Held:
    """The first reading of a sensor that its deadband left out since the agent's start."""

    machine: str
    sensor: str
    unit: str
    time_us: int
    interval_us: int
    """Since the one before it, which was kept: how often the sensor is measured."""
    deadband: float
    silence_seconds: float


class InputLimits:
    """The limits of an agent's sensors. What is not limited passes at no cost."""

    def __init__(self) -> None:
        self._limits: dict[str, dict[str, Limits]] = {}
        self._kept: dict[tuple[str, str], _Kept] = {}
        self.left_out: dict[str, dict[str, Counter[str]]] = {}
        """Machine to sensor to policy to readings, since the agent's start."""
        self._told: set[tuple[str, str]] = set()
        self._held: list[Held] = []

    def set(self, machine: str, sensor: str, limits: Limits) -> None:
        """Limit a sensor."""
        self._limits.setdefault(machine, {})[sensor] = limits

    def take(self, machine: str, readings: Readings) -> tuple[Readings, Mapping[str, int]]:
        """The rows that are kept, in order, and how many each policy left out."""
        limited = self._limits.get(machine)
        watched = [None if limited is None else limited.get(name) for name in readings.sensor_names]
        if not any(watched):
            return readings, {}
        keep = np.ones(len(readings), np.bool_)
        left: Counter[str] = Counter()
        columns = (readings.sensor, readings.time_us, readings.value, readings.quality)
        for at, (index, time_us, value, quality) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            limits = watched[index]
            if limits is None:
                continue
            name = readings.sensor_names[index]
            policy = self._judge((machine, name), limits, time_us, value, quality)
            if policy:
                keep[at] = False
                left[policy] += 1
                self.left_out.setdefault(machine, {}).setdefault(name, Counter())[policy] += 1
                if policy == DEADBAND:
                    self._note(machine, name, readings.units[index], time_us, limits)
        return (readings if keep.all() else _chosen(readings, keep)), left

    def held(self) -> list[Held]:
        """Sensors that a deadband began to leave readings out of since this was asked last."""
        found, self._held = self._held, []
        return found

    def _note(self, machine: str, sensor: str, unit: str, time_us: int, limits: Limits) -> None:
        """Remember the first reading that is left out; one that was sent twice tells no interval."""
        interval_us = time_us - self._kept[machine, sensor].time_us
        if interval_us > 0 and (machine, sensor) not in self._told:
            self._told.add((machine, sensor))
            deadband = limits.deadband or 0.0
            self._held.append(
                Held(machine, sensor, unit, time_us, interval_us, deadband, limits.silence_seconds)
            )

    def _judge(self, key: tuple[str, str], limits: Limits, time_us: int, value: float, quality: int) -> str:
        """The policy that leaves a reading out; empty if it is kept.

        Readings older than the last one kept are a history that fills a gap: they pass, and change nothing.
        """
        kept = self._kept.get(key)
        if kept is not None:
            if time_us < kept.time_us:
                return ""
            still = quality == kept.quality and time_us - kept.time_us < limits.silence_seconds * MICROSECONDS
            if limits.deadband is not None and still and abs(value - kept.value) <= limits.deadband:
                return DEADBAND
        free_us = float(time_us) if kept is None else max(kept.free_us, time_us)
        if limits.per_second is not None:
            # A bucket that holds one second's readings (at least one): a burst within it passes, more does not.
            if free_us - time_us > max(0.0, MICROSECONDS * (1 - 1 / limits.per_second)) + 1:
                return RATE
            free_us += MICROSECONDS / limits.per_second
        self._kept[key] = _Kept(time_us, value, quality, free_us)
        return ""


def _chosen(readings: Readings, keep: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> Readings:
    return Readings(
        readings.sensor_names,
        readings.units,
        readings.sensor[keep],
        readings.time_us[keep],
        readings.arrival_us[keep],
        readings.value[keep],
        readings.quality[keep],
    )
