"""Figures of one waveform block: velocity RMS, acceleration's RMS, peak, crest and kurtosis, running-speed orders. Pure numpy.

Sources: the velocity band of 10 to 1,000 Hz and RMS of it are ISO 20816-1:2016's broad-band quantity; crest factor and
kurtosis are those of ISO 13373-2; velocity from acceleration by division with jω in the frequency domain.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

VELOCITY_HZ: Final = (10.0, 1000.0)
ORDERS: Final = (1, 2, 3)
ORDER_TOLERANCE: Final = 0.02
_NYQUIST: Final = 2.56
"""Sampling over bandwidth as analysers have it: what lies nearer to half the sampling rate is the anti-aliasing filter's."""
_LOBE: Final = 2  # bins on each side that a tone takes under a Hann window
_PERIODS: Final = 5
"""Periods of the lowest frequency that a block must hold, so that the Hann window's main lobe keeps off zero."""
_MM: Final = 1e3


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Power of an acceleration (n,) by frequency under a Hann window, scaled so that its sum is the signal's mean square.

    `power` (n // 2 + 1,) in (m/s²)²; bin k is k * `step_hz`.
    """

    power: Floats
    step_hz: float

    @classmethod
    def of(cls, acceleration: Floats, rate_hz: float) -> "Spectrum":
        """The spectrum of a block (n,) in m/s²."""
        count = len(acceleration)
        window = np.hanning(count + 1)[:-1]
        lines = np.fft.rfft((acceleration - acceleration.mean()) * window)
        power = (lines.real**2 + lines.imag**2) * (2.0 / (count * float(window @ window)))
        power[0] /= 2.0
        if count % 2 == 0:
            power[-1] /= 2.0
        return cls(power, rate_hz / count)

    def velocity(self, low_hz: float, high_hz: float) -> float:
        """RMS velocity in mm/s of what lies between two frequencies, both above zero."""
        first = max(1, int(np.ceil(low_hz / self.step_hz - 1e-9)))
        last = min(len(self.power) - 1, int(np.floor(high_hz / self.step_hz + 1e-9)))
        if last < first:
            return 0.0
        omega = 2.0 * np.pi * self.step_hz * np.arange(first, last + 1)
        return float(np.sqrt(np.sum(self.power[first : last + 1] / omega**2))) * _MM


@dataclass(frozen=True, slots=True)
class Features:
    """A block's figures. What the block can't tell is None; `why` says so in words.

    Units: `velocity_rms` and `orders` (1x, 2x, 3x; RMS) in mm/s, `rms` and `peak` in m/s², `crest` and `kurtosis` in 1
    (a Gaussian signal has kurtosis 3).
    """

    velocity_rms: float | None
    rms: float
    peak: float
    crest: float | None
    kurtosis: float | None
    orders: tuple[float | None, ...]
    why: tuple[str, ...] = ()


def features(acceleration: Floats, rate_hz: float, speed_hz: float | None) -> Features:
    """The figures of a block.

    Args:
        acceleration: Samples (n,) in m/s², finite.
        rate_hz: Sampling rate.
        speed_hz: Shaft speed in revolutions a second, None = not known.
    """
    why: list[str] = []
    spectrum = Spectrum.of(acceleration, rate_hz)
    centred = acceleration - acceleration.mean()
    square = centred * centred
    mean_square = float(square.mean())
    rms = float(np.sqrt(mean_square))
    peak = float(np.abs(centred).max())
    moves = rms > 1e-12 * (1.0 + float(np.abs(acceleration).max()))
    return Features(
        velocity_rms=_velocity(spectrum, rate_hz, why),
        rms=rms,
        peak=peak,
        crest=peak / rms if moves else None,
        kurtosis=float((square * square).mean()) / mean_square**2 if moves else None,
        orders=_orders(spectrum, rate_hz, speed_hz, why),
        why=tuple(why),
    )


def _velocity(spectrum: Spectrum, rate_hz: float, why: list[str]) -> float | None:
    low, high = VELOCITY_HZ
    if rate_hz < _NYQUIST * high:
        why.append(f"{rate_hz:g} Hz is too slow for velocity up to {high:g} Hz: it takes {_NYQUIST * high:g}")
        return None
    if spectrum.step_hz * _PERIODS > low:
        why.append(f"{1 / spectrum.step_hz:.2g} s are too short for velocity from {low:g} Hz on")
        return None
    return spectrum.velocity(low, high)


def _orders(
    spectrum: Spectrum, rate_hz: float, speed_hz: float | None, why: list[str]
) -> tuple[float | None, ...]:
    if not speed_hz or speed_hz <= 0:
        why.append("the speed is not known: no orders")
        return (None,) * len(ORDERS)
    if spectrum.step_hz * _PERIODS > speed_hz:
        why.append("the block is too short to tell the orders of this speed apart")
        return (None,) * len(ORDERS)
    found: list[float | None] = []
    for order in ORDERS:
        centre = order * speed_hz
        if centre * _NYQUIST > rate_hz:
            found.append(None)
            continue
        half = max(ORDER_TOLERANCE * centre, _LOBE * spectrum.step_hz)
        found.append(spectrum.velocity(centre - half, centre + half))
    return tuple(found)
