"""Vibration as a waveform: a shaft's orders, broad-band noise, and a damaged bearing's strikes ringing a resonance.

The model is the usual one (Randall and Antoni, MSSP 25 (2011) 485-520, section 2): strikes at the damaged part's rate,
each period a little off since rolling elements slip, each ringing a resonance of the structure; a damage that turns
through the load zone strikes hardest there, so inner race and ball are modulated by shaft and cage.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from firmware_sim.signals import Array

_RING: Final = 8.0  # time constants after which a strike is over


class Damage(StrEnum):
    """The damaged part of a bearing; NONE is a healthy one."""

    NONE = "none"
    OUTER = "outer-race"
    INNER = "inner-race"
    BALL = "ball"
    CAGE = "cage"


@dataclass(frozen=True, slots=True)
class Geometry:
    """A bearing: rolling elements, their diameter and the pitch diameter in mm, contact angle in degrees."""

    elements: int
    element_mm: float
    pitch_mm: float
    angle_deg: float = 0.0

    def strikes(self, damage: Damage) -> float:
        """Strikes a revolution of the shaft; the outer ring stands still."""
        ratio = self.element_mm / self.pitch_mm * math.cos(math.radians(self.angle_deg))
        match damage:
            case Damage.OUTER:
                return self.elements * (1.0 - ratio) / 2.0
            case Damage.INNER:
                return self.elements * (1.0 + ratio) / 2.0
            case Damage.BALL:  # twice its own turns: it strikes both races
                return self.pitch_mm / self.element_mm * (1.0 - ratio * ratio)
            case Damage.CAGE:
                return (1.0 - ratio) / 2.0
            case Damage.NONE:
                return 0.0


@dataclass(frozen=True, slots=True)
class Vibration:
    """What a block is made of.

    `speed_hz` revolutions a second; `noise` RMS of the white noise and `orders` amplitudes at 1x, 2x, 3x in m/s²;
    `snr_db` mean square of the strikes over that of the noise, both over the whole band; `slip` share by which the
    strikes' rate is off, `jitter` standard deviation of a period over the period; `resonance` over the sampling
    rate, `damping` its ratio; `tones` as (Hz, amplitude in m/s²).
    """

    speed_hz: float
    geometry: Geometry
    damage: Damage = Damage.NONE
    snr_db: float = -6.0
    noise: float = 1.0
    orders: tuple[float, ...] = (0.5, 0.2, 0.1)
    slip: float = 0.0
    jitter: float = 0.01
    resonance: float = 0.25
    damping: float = 0.04
    tones: tuple[tuple[float, float], ...] = ()


def waveform(what: Vibration, rng: np.random.Generator, *, count: int, rate_hz: float) -> Array:
    """A block (count,) of acceleration in m/s²."""
    seconds = np.arange(count) / rate_hz
    made: Array = what.noise * rng.standard_normal(count)
    for order, amplitude in enumerate(what.orders, start=1):
        phase = rng.uniform(0.0, 2.0 * np.pi)
        made += amplitude * np.sin(2.0 * np.pi * order * what.speed_hz * seconds + phase)
    for frequency, amplitude in what.tones:
        made += amplitude * np.sin(2.0 * np.pi * frequency * seconds + rng.uniform(0.0, 2.0 * np.pi))
    if what.damage is not Damage.NONE:
        strikes = _strikes(what, rng, count, rate_hz)
        power = float(np.mean(strikes**2))
        if power:
            made += strikes * (what.noise * math.sqrt(10.0 ** (what.snr_db / 10.0) / power))
    return made


def _strikes(what: Vibration, rng: np.random.Generator, count: int, rate_hz: float) -> Array:
    """The strikes' ringing (count,), not scaled."""
    rate = what.geometry.strikes(what.damage) * what.speed_hz * (1.0 + what.slip)
    periods = (1.0 + what.jitter * rng.standard_normal(int(1.2 * count / rate_hz * rate) + 8)) / rate
    times = np.cumsum(periods) - rng.uniform(0.0, 2.0) / rate
    times = times[(times > 0.0) & (times < count / rate_hz)]
    sizes = (1.0 + 0.1 * rng.standard_normal(len(times))) * _load(what, times, rng)
    decay = what.damping * 2.0 * np.pi * what.resonance * rate_hz
    length = min(count, int(_RING / decay * rate_hz) + 1)
    starts = np.ceil(times * rate_hz).astype(np.int64)
    since = (starts - times * rate_hz)[:, None] + np.arange(length)
    rings = np.exp(-decay * since / rate_hz) * np.sin(2.0 * np.pi * what.resonance * since)
    made: Array = np.zeros(count + length)
    np.add.at(made, starts[:, None] + np.arange(length), sizes[:, None] * rings)
    return made[:count]


def _load(what: Vibration, times: Array, rng: np.random.Generator) -> Array:
    """How hard each strike is (strikes,): the damage's way through the load zone."""
    turns = {Damage.INNER: 1.0, Damage.BALL: what.geometry.strikes(Damage.CAGE)}.get(what.damage)
    if turns is None:
        return np.ones(len(times))
    angle = 2.0 * np.pi * turns * what.speed_hz * times + rng.uniform(0.0, 2.0 * np.pi)
    loaded: Array = 0.1 + 0.9 * np.maximum(0.0, np.cos(angle))
    return loaded
