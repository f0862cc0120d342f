"""Waveform blocks of a simulated machine: its bearing's acceleration, as its readings of speed and vibration stand."""

import math
from typing import Final

import numpy as np

from firmware_sim.machine import Machine
from firmware_sim.model import Fault
from firmware_sim.signals import generator
from firmware_sim.units import MILLIMETRE_PER_SECOND, RPM
from firmware_sim.waves import Damage, Geometry, Vibration, waveform
from shared.clock import MICROSECONDS
from shared.wave import Sync, Wave, encode_wave

SENSOR: Final = "bearing"
BEARING: Final = Geometry(elements=9, element_mm=7.94, pitch_mm=39.04)
"""Every simulated machine's: the size of a common deep-groove ball bearing of 25 mm bore."""
NOMINAL_RPM: Final = 1480.0
"""Speed of a machine that does not tell its own."""
SNR_DB: Final = -6.0
"""Strikes over noise at severity 1; twice the severity is 6 dB more."""
_NOISE: Final = 0.4  # m/s² RMS
_FULL_SCALE: Final = 100.0  # m/s²


def block(machine: Machine, time_us: int, *, count: int, rate_hz: float) -> bytes:
    """The block that begins at `time_us`; the same one at every call. int16, by a clock that is synchronised."""
    row = dict(
        zip(machine.kind.sensors, machine.values(machine.index_at(time_us), 1)[0].tolist(), strict=True)
    )
    speed = next((v for s, v in row.items() if s.name == "speed" and s.unit == RPM), NOMINAL_RPM)
    velocity = next((v for s, v in row.items() if s.unit == MILLIMETRE_PER_SECOND), 1.0)
    rng = generator(machine.seed, machine.id, "waveform", time_us)
    turns = speed / 60.0 if speed == speed and speed > 1.0 else 0.0  # noqa: PLR0124 - NaN: no reading
    if turns:
        severity = _severity(machine, time_us)
        first = (velocity if velocity == velocity else 1.0) / 1e3 * math.sqrt(2.0) * 2.0 * math.pi * turns  # noqa: PLR0124
        made = Vibration(
            turns,
            BEARING,
            Damage.OUTER if severity else Damage.NONE,
            snr_db=SNR_DB + 20.0 * math.log10(severity or 1.0),
            noise=_NOISE,
            orders=(first, 0.3 * first, 0.15 * first),
        )
        signal = waveform(made, rng, count=count, rate_hz=rate_hz)
    else:
        signal = 0.02 * _NOISE * rng.standard_normal(count)
    scale = _FULL_SCALE / np.iinfo(np.int16).max
    samples = np.clip(np.rint(signal / scale), -32768, 32767).astype(np.int16)
    return encode_wave(Wave(samples, rate_hz, scale, "m/s2", time_us, Sync.SYNCHRONISED))


def _severity(machine: Machine, time_us: int) -> float:
    """How bad the bearing is: the sum of the wear that is under way, ramps left out."""
    seconds = np.array([time_us / MICROSECONDS])
    worn = (each for each in machine.episodes if each.name == Fault.BEARING_WEAR)
    return sum(each.severity for each in worn if each.active(seconds).any())
