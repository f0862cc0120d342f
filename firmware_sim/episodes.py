"""Episodes: faults, sensor faults and look-alikes in time, and what each does to the signals."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from firmware_sim.model import Fault, LookAlike, MachineType, SensorFault
from firmware_sim.signals import Array, generator, pulse
from shared.errors import Rejected

Kind = Literal["fault", "sensor-fault", "look-alike"]

HOT_DAY_DEGC: Final = 1.5  # a severity
NEW_PRODUCT_SHARE: Final = 0.02  # less load a severity
FILTER_SHARE: Final = 0.25  # of a sigma a severity: maintenance, no defect
SPIKE_SIGMAS: Final = 3.0  # a spike is this many times the severity
SPIKE_PROBABILITY: Final = 0.03
DROPOUT_PROBABILITY: Final = 0.8
SKEW_S: Final = 5.0  # seconds late a severity
_DRIFT_S: Final = 1800.0  # a drift with no ramp of its own takes half an hour
_OFF_TAU_S: Final = 1.0


def kind_of(name: str) -> Kind:
    """Which kind of episode `name` is. Raises Rejected, naming those that exist."""
    if name in tuple(Fault):
        return "fault"
    if name in tuple(SensorFault):
        return "sensor-fault"
    if name in tuple(LookAlike):
        return "look-alike"
    known = ", ".join((*Fault, *SensorFault, *LookAlike))
    raise Rejected(f"no fault or look-alike {name[:60]!r}; there are {known}")


@dataclass(frozen=True, slots=True)
class Episode:
    """One thing that happens to a machine: times in µs since the epoch, severity in multiples of sigma.

    `end_us` None lasts until cleared. `sensor` is for sensor faults alone.
    """

    name: str
    severity: float
    onset_us: int
    end_us: int | None = None
    ramp_s: float = 20.0
    sensor: str | None = None

    @property
    def kind(self) -> Kind:
        """Fault, sensor fault or look-alike."""
        return kind_of(self.name)

    def check(self, kind: MachineType) -> None:
        """Raise Rejected if this can't happen on such a machine, with what can."""
        if self.kind == "fault" and Fault(self.name) not in kind.faults:
            able = ", ".join(kind.faults)
            raise Rejected(f"a {kind.name} has no fault {self.name!r}; it has {able}")
        if self.sensor is not None and self.sensor not in kind.sensor_names:
            raise Rejected(
                f"a {kind.name} has no sensor {self.sensor[:60]!r}; it has {', '.join(kind.sensor_names)}"
            )
        if not (np.isfinite(self.severity) and self.severity > 0):
            raise Rejected(f"severity {self.severity!r} is not a number above 0")
        if not (np.isfinite(self.ramp_s) and self.ramp_s >= 0):
            raise Rejected(f"ramp_s {self.ramp_s!r} is not a number of at least 0")
        if self.end_us is not None and self.end_us <= self.onset_us:
            raise Rejected("the duration is not above 0")

    def pulse(self, seconds: Array, tau_s: float) -> Array:
        """The episode's course between 0 and 1 on `seconds` since the epoch (n,)."""
        end_s = None if self.end_us is None else self.end_us / 1e6
        return pulse(seconds, self.onset_us / 1e6, end_s, self.ramp_s, tau_s)

    def active(self, seconds: Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which rows lie between onset and end."""
        inside = seconds >= self.onset_us / 1e6
        if self.end_us is not None:
            inside &= seconds < self.end_us / 1e6
        return inside

    def delay_s(self) -> float:
        """How late the sensor's clock runs during a clock skew."""
        return SKEW_S * self.severity


@dataclass(frozen=True, slots=True)
class Context:
    """Which machine and block an effect is computed for."""

    kind: MachineType
    machine: str
    seed: int
    block: int
    seconds: Array


def drive(episodes: Iterable[Episode], seconds: Array, load: Array, ambient: Array) -> tuple[Array, Array]:
    """Set-point and ambient temperature with the look-alikes that act through them (all (n,))."""
    for episode in episodes:
        match episode.name:
            case LookAlike.HOT_DAY:
                ambient = ambient + HOT_DAY_DEGC * episode.severity * episode.pulse(seconds, 600.0)
            case LookAlike.NEW_PRODUCT:
                share = min(NEW_PRODUCT_SHARE * episode.severity, 0.3)
                load = load * (1.0 - share * episode.active(seconds))
            case LookAlike.RESTART:
                load = load * (1.0 - 1.0 * episode.active(seconds))
    return load, ambient


def apply_faults(values: Array, episodes: Iterable[Episode], load: Array, where: Context) -> None:
    """Add what faults and filter changes do to the sensors (n, S), in place."""
    for episode in episodes:
        if episode.kind == "fault":
            signature = where.kind.faults[Fault(episode.name)]
            gains, strength = signature.gains, episode.severity * load**signature.load_power
            rough = signature.rough
        elif episode.name == LookAlike.FILTER_CHANGE:
            gains, strength, rough = where.kind.filter_change, FILTER_SHARE * episode.severity * load**0, 0.0
        else:
            continue
        for column, sensor in enumerate(where.kind.sensors):
            if (gain := gains.get(sensor.name)) is None:
                continue
            course = episode.pulse(where.seconds, sensor.fault_tau_s)
            if not course.any():
                continue
            if rough and sensor.fault_tau_s < 10.0:  # noqa: PLR2004 - heat does not flicker
                stream = f"rough-{sensor.name}"
                flicker = generator(where.seed, where.machine, stream, where.block).standard_normal(
                    len(course)
                )
                course = course * (1.0 + rough * flicker)
            values[:, column] += gain * sensor.sigma * strength * course


def apply_sensor_faults(
    values: Array, episodes: Iterable[Episode], held: Sequence[float | None], where: Context
) -> None:
    """Distort or empty (NaN) the columns that sensor faults hit, in place.

    `held[i]` is the value that episode i's sensor had at its onset, for those that are stuck.
    """
    for episode, last in zip(episodes, held, strict=True):
        if episode.kind != "sensor-fault":
            continue
        name = episode.sensor or where.kind.default_sensor
        column = where.kind.sensor_names.index(name)
        sigma = where.kind.sensors[column].sigma
        rows = episode.active(where.seconds)
        if not rows.any():
            continue
        random = generator(where.seed, where.machine, f"{episode.name}-{name}", where.block).random(len(rows))
        match episode.name:
            case SensorFault.STUCK:
                values[rows, column] = last
            case SensorFault.DRIFT:
                since = (where.seconds - episode.onset_us / 1e6) / max(episode.ramp_s, _DRIFT_S)
                values[rows, column] += sigma * episode.severity * np.clip(since, 0.0, 1.0)[rows]
            case SensorFault.SPIKE:
                rows &= random < SPIKE_PROBABILITY
                height = SPIKE_SIGMAS * episode.severity * sigma
                values[rows, column] += np.where(random[rows] < SPIKE_PROBABILITY / 2, -height, height)
            case SensorFault.DROPOUT:
                values[rows & (random < DROPOUT_PROBABILITY), column] = np.nan
