"""One vibration sensor: from a block to readings of derived sensors, events, and a verdict on its bearing. No I/O.

Derived sensors are named after the sensor: `{sensor}-velocity-rms` and so on (`shared.names.derived`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import orjson

from edge.vibration_bearing import Part, Verdict, diagnose, energies
from edge.vibration_features import ORDERS, Floats, features
from edge.vibration_settings import Point
from edge.vibration_speed import Speed
from edge.vibration_zones import MIN_RPM, Boundaries, Severity
from shared.event import Event, at
from shared.frames import Quality, Readings
from shared.names import derived
from shared.vibration_events import BearingCleared, BearingSuspected, VibrationStepped, ZoneChanged
from shared.wave import Sync, Wave

CLEAN_BLOCKS: Final = 3
MAX_AHEAD_US: Final = 2_000_000
_DAY_US: Final = 86_400_000_000
_SHORT: Final[Mapping[Part, str]] = {
    Part.OUTER: "bpfo",
    Part.INNER: "bpfi",
    Part.BALL: "bsf",
    Part.CAGE: "ftf",
}


@dataclass(frozen=True, slots=True)
class Told:
    """What a block told: readings and events to commit, and whether any of the events wants the raw block kept."""

    readings: Readings
    events: tuple[Event, ...]
    verdict: Verdict
    alarm: bool


@dataclass(slots=True)
class PointState:
    """What is remembered of a sensor from block to block."""

    last_us: int = 0
    part: str = ""
    clean: int = 0
    severity: Severity = field(default_factory=Severity)

    def encode(self) -> bytes:
        """For the outbox to keep."""
        kept = {"last_us": self.last_us, "part": self.part, "clean": self.clean}
        return orjson.dumps(kept | {"severity": self.severity.to_json()})

    @classmethod
    def decode(cls, data: bytes | None) -> "PointState":
        """As kept; a fresh one for None or what can't be read, which costs a baseline."""
        try:
            raw = orjson.loads(data or b"")
            return cls(int(raw["last_us"]), str(raw["part"]), int(raw["clean"]), Severity.of(raw["severity"]))
        except (KeyError, TypeError, ValueError):
            return cls()


class VibrationPoint:
    """Follows one sensor block by block. Blocks older than the newest one give readings and are not judged."""

    def __init__(
        self,
        edge: str,
        machine: str,
        sensor: str,
        point: Point,
        limits: Boundaries | None,
        state: PointState | None = None,
    ) -> None:
        self._edge, self._machine, self._sensor = edge, machine, sensor
        self._point, self._limits = point, limits
        self.state = state or PointState()
        self.verdict = Verdict(reason="no block yet")
        self.why: tuple[str, ...] = ()

    def first_of_day(self, wave: Wave) -> bool:
        """Whether no block of that UTC day came before; asked before `take`."""
        return wave.time_us // _DAY_US > self.state.last_us // _DAY_US

    def take(self, wave: Wave, speed: Speed, condition: str, now_us: int) -> Told:
        """What a block tells. `condition` names the steady state that the machine is in, empty = it is in none."""
        acceleration = wave.acceleration()
        clock = _clock_problem(wave, now_us)
        speed_hz = speed.hz if not clock or speed.entered else None
        found = features(acceleration, wave.rate_hz, speed_hz)
        values: dict[str, tuple[float | None, str]] = {
            "velocity-rms": (found.velocity_rms, "mm/s"),
            "acc-rms": (found.rms, "m/s2"),
            "acc-peak": (found.peak, "m/s2"),
            "crest": (found.crest, "1"),
            "kurtosis": (found.kurtosis, "1"),
        }
        values |= {f"{k}x": (value, "mm/s") for k, value in zip(ORDERS, found.orders, strict=True)}
        verdict = self._diagnose(acceleration, wave, speed, clock)
        if self._point.bearing is not None and speed_hz:
            told = energies(
                acceleration, wave.rate_hz, speed_hz, self._point.bearing.bearing(), self._point.band_hz
            )
            values |= {_SHORT[part]: (value, "m/s2") for part, value in told.items()}
        events: list[Event] = []
        if wave.time_us > self.state.last_us:
            self.state.last_us, self.verdict, self.why = wave.time_us, verdict, found.why
            events = [
                *self._severity(wave, found.velocity_rms, speed, condition),
                *self._named(wave, verdict, speed),
            ]
        alarm = any(_is_alarm(event) for event in events)
        return Told(self._readings(wave, values, now_us), tuple(events), verdict, alarm)

    def _diagnose(self, acceleration: Floats, wave: Wave, speed: Speed, clock: str) -> Verdict:
        if self._point.bearing is None:
            return Verdict(reason="no bearing was entered")
        if clock:
            return Verdict(reason=clock)
        if speed.hz is None:
            return Verdict(reason=speed.reason)
        return diagnose(acceleration, wave.rate_hz, speed.hz, self._point.bearing.bearing())

    def _severity(
        self, wave: Wave, velocity: float | None, speed: Speed, condition: str
    ) -> Iterator[ZoneChanged | VibrationStepped]:
        if self._limits is None or velocity is None or not condition:
            return
        if speed.hz is None or speed.hz * 60.0 < MIN_RPM:
            return
        before = self.state.severity.zone
        changed, step = self.state.severity.take(velocity, self._limits, condition)
        if changed:
            yield ZoneChanged(
                **self._who(wave),
                zone=self.state.severity.zone,
                before=before,
                velocity=velocity,
                machine_class=self._point.machine_class,
            )
        if step is not None:
            yield VibrationStepped(
                **self._who(wave),
                velocity=velocity,
                baseline=step.baseline,
                allowed=step.allowed,
                condition=condition,
            )

    def _named(
        self, wave: Wave, verdict: Verdict, speed: Speed
    ) -> Iterator[BearingSuspected | BearingCleared]:
        if not verdict.can_tell:
            return
        before = self.state.part
        if verdict.part is None:
            self.state.clean += 1
            if before and self.state.clean >= CLEAN_BLOCKS:
                self.state.part = ""
                yield BearingCleared(**self._who(wave), part=before)
            return
        self.state.clean = 0
        if verdict.part.value == before:
            return
        self.state.part = verdict.part.value
        strongest = next(each for each in verdict.found if each.part is verdict.part)
        yield BearingSuspected(
            **self._who(wave),
            part=verdict.part.value,
            frequency_hz=strongest.frequency_hz,
            speed_hz=speed.hz or 0.0,
            log10_p=strongest.log10_p,
        )

    def _who(self, wave: Wave) -> dict[str, Any]:
        return {
            "source": f"edge/{self._edge}",
            "subject": self._machine,
            "occurred_at": at(wave.time_us),
            "edge": self._edge,
            "sensor": self._sensor,
        }

    def _readings(self, wave: Wave, values: Mapping[str, tuple[float | None, str]], now_us: int) -> Readings:
        known = [(name, value, unit) for name, (value, unit) in values.items() if value is not None]
        count = len(known)
        return Readings(
            tuple(derived(self._sensor, name) for name, _, _ in known),
            tuple(unit for _, _, unit in known),
            np.arange(count, dtype=np.int64),
            np.full(count, wave.time_us, np.int64),
            np.full(count, now_us, np.int64),
            np.array([value for _, value, _ in known], np.float64),
            np.full(count, Quality.GOOD, np.uint8),
        )

    def report(self) -> dict[str, Any]:
        """For the edge's state report."""
        return {
            "time_us": self.state.last_us,
            "zone": self.state.severity.zone,
            "part": self.state.part,
            "verdict": self.verdict.part or ("none" if self.verdict.can_tell else "can't tell"),
            "reason": self.verdict.reason,
            "missing": list(self.why),
        }


def _clock_problem(wave: Wave, now_us: int) -> str:
    """Why the block's clock can't be trusted: then neither its lines nor the speed at its time are where they seem."""
    if wave.sync is Sync.FREE:
        return "the sensor's clock runs free"
    if wave.sync is Sync.UNKNOWN:
        return "the sensor's clock is not known to be synchronised"
    ahead_us = wave.end_us - now_us
    return f"the sensor's clock is {ahead_us / 1e6:.1f} s ahead" if ahead_us > MAX_AHEAD_US else ""


def _is_alarm(event: Event) -> bool:
    """Whether somebody will want to see the waveform behind it."""
    match event:
        case ZoneChanged(zone=zone, before=before):
            return zone > before and zone >= "C"
        case VibrationStepped() | BearingSuspected():
            return True
    return False
