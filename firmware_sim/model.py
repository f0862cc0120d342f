"""What a machine type is: sensors, duty cycle, physics, the faults it can have and how they show."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from firmware_sim.signals import Array


class Fault(StrEnum):
    """Faults of the machine."""

    CAVITATION = "cavitation"
    BEARING_WEAR = "bearing-wear"
    IMBALANCE = "imbalance"
    OVERHEATING = "overheating"
    LEAKAGE = "leakage"
    BLOCKAGE = "blockage"


class SensorFault(StrEnum):
    """Faults of one sensor or its transmitter; the machine is healthy."""

    STUCK = "stuck"
    DRIFT = "drift"
    SPIKE = "spike"
    DROPOUT = "dropout"
    CLOCK_SKEW = "clock-skew"


class LookAlike(StrEnum):
    """Healthy changes that look like faults at first sight."""

    HOT_DAY = "hot-day"
    NEW_PRODUCT = "new-product"
    FILTER_CHANGE = "filter-change"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Sensor:
    """One measured quantity. `sigma` is its noise's standard deviation, the yardstick of severities."""

    name: str
    unit: str
    sigma: float
    floor: float | None = None
    noise_tau_s: float = 2.0
    fault_tau_s: float = 4.0  # how fast a fault shows here: slow for temperatures


@dataclass(frozen=True, slots=True)
class Duty:
    """A set-point's repeating staircase, the actuator's time constant and the process's own wander."""

    levels: tuple[float, ...]
    dwells_s: tuple[float, ...]
    tau_s: float
    wander: float = 0.006
    wander_tau_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Inputs:
    """What drives the physics, on the grid of one block (n,). `load` and `feed` follow their set-points.

    `load` 1 is the rated operating point, 0 is off; `feed` is the second degree of freedom (demand,
    resistance, material); `ambient` in degC; `wear` goes from 0 to 1 between two overhauls.
    """

    dt_s: float
    load: Array
    feed: Array
    ambient: Array
    wear: Array


@dataclass(frozen=True, slots=True)
class Signature:
    """How a fault shows: gains in multiples of each sensor's sigma at severity 1, sign included.

    `first` names the sensors accepted as the leading one. The effect scales with load ** `load_power`,
    and `rough` is the share of it that fluctuates from sample to sample.
    """

    gains: Mapping[str, float]
    first: tuple[str, ...]
    load_power: float = 0.0
    rough: float = 0.0


@dataclass(frozen=True, slots=True)
class MachineType:
    """One type of machine. `physics` returns a clean signal (n,) for every sensor, by name."""

    name: str
    title: str
    sensors: tuple[Sensor, ...]
    load: Duty
    feed: Duty
    physics: Callable[[Inputs], dict[str, Array]]
    faults: Mapping[Fault, Signature]
    filter_change: Mapping[str, float]
    operating_sensor: str
    default_sensor: str  # the one a sensor fault hits when none is named

    @property
    def sensor_names(self) -> tuple[str, ...]:
        """Names in the order of every array's columns."""
        return tuple(sensor.name for sensor in self.sensors)

    def first_sensors(self, name: str, sensor: str | None) -> tuple[str, ...]:
        """Sensors accepted as leading for the fault, sensor fault or look-alike `name`."""
        if name in tuple(SensorFault):
            return (sensor or self.default_sensor,)
        if name in tuple(Fault):
            return self.faults[Fault(name)].first
        return ()
