"""Envelope spectra of a block in a tree of bands, and how surely equally spaced lines stand out in them. Pure numpy.

The chain (whiten, band-pass, squared envelope by Hilbert transform, its spectrum) is that of Randall and Antoni, "Rolling
element bearing diagnostics: a tutorial", Mech. Syst. Signal Process. 25 (2011) 485-520, section 5; the tree of bands is the
one of Antoni's kurtogram (MSSP 21 (2007) 108-124).

The envelope's spectrum of noise has exponentially distributed lines. So the sum of n lines over their background is
gamma distributed, and how likely noise alone makes the sum that was found is known and not fitted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TOLERANCE: Final = 0.02
"""How far a part's frequency may lie from the kinematic one: rolling elements slip."""
NEAR_BINS: Final = 24
_HARMONICS: Final = 3
_SMEAR: Final = 0.001  # of a line's frequency, on each side: the period varies from strike to strike
_LEVELS: Final = (1, 2, 4, 8)  # how many bands the spectrum is cut into
_REST: Final = math.log(1e-4)
"""Without the strongest line, the others may be noise's so likely: a lone line is a beat of two tones, not strikes."""
_MASK: Final = 0.002  # of a line's frequency, on each side, what another part's line explains
_TONE: Final = 50.0  # a line so many times its surroundings is a tone and cut down to that
_SEGMENTS: Final = 64
_LN2: Final = math.log(2.0)


def smooth_length(count: int) -> int:
    """The largest number up to `count` that is 16 times a product of 2, 3 and 5: it transforms fast, its bands too."""
    best = 1
    limit = count // 16
    for fives in (5**k for k in range(12)):
        for threes in (3**k for k in range(18)):
            odd = fives * threes
            if odd > limit:
                break
            best = max(best, odd << ((limit // odd).bit_length() - 1))
    return 16 * best


def whitened(acceleration: Floats) -> NDArray[np.complex128]:
    """Spectrum (n // 2 + 1,) of a block with its surroundings' level at one everywhere, and tones cut down.

    Machine tones, and the resonances of the way to the sensor, then don't decide which band looks loud.
    """
    lines = np.fft.rfft(acceleration - acceleration.mean())
    power = lines.real**2 + lines.imag**2
    edges = np.linspace(0, len(power), min(_SEGMENTS, len(power) // 16) + 1).astype(int)
    middles = (edges[1:] + edges[:-1]) / 2.0
    medians = np.array([np.median(power[a:b]) for a, b in pairwise(edges)]) / _LN2
    floor = float(medians.max()) * 1e-12
    level = np.interp(np.arange(len(power)), middles, np.maximum(medians, floor))
    if floor == 0.0:
        return np.zeros_like(lines)
    scaled = lines / np.sqrt(level)
    size = np.abs(scaled)
    most = math.sqrt(_TONE)
    scaled[size > most] *= most / size[size > most]
    return scaled


def envelope_spectrum(lines: NDArray[np.complex128], first: int, last: int) -> Floats:
    """Spectrum of the squared envelope of bins `first` to `last` of a block's spectrum; same spacing of lines.

    The band alone, moved to zero and transformed back, is the analytic signal that a Hilbert transform gives,
    at the band's own rate.
    """
    band = np.fft.ifft(lines[first:last])
    square = band.real**2 + band.imag**2
    found = np.fft.rfft(square - square.mean())
    spectrum: Floats = found.real**2 + found.imag**2
    return spectrum


def log_gamma_tail(shape: int, total: float) -> float:
    """Ln of the probability that `shape` exponential variables of mean 1 sum to more than `total`."""
    steps = np.arange(shape)
    logs = steps * math.log(max(total, 1e-300)) - np.array([math.lgamma(k + 1.0) for k in steps])
    most = float(logs.max())
    return min(0.0, most + math.log(float(np.exp(logs - most).sum())) - total)


@dataclass(frozen=True, slots=True)
class Comb:
    """Best fit of equally spaced lines in one envelope spectrum. `log_p` 0: no evidence."""

    log_p: float
    frequency_hz: float
    strength: float


def comb(spectrum: Floats, step_hz: float, frequency_hz: float, masked: NDArray[np.bool_]) -> Comb:
    """How much lines at multiples of a frequency ± 2 % stand out; bins in `masked` count as background."""
    usable = min(_HARMONICS, int((len(spectrum) - 2) * step_hz / (frequency_hz * (1 + TOLERANCE))))
    if usable < 2:  # noqa: PLR2004 - a lone line names nothing
        return Comb(0.0, frequency_hz, 0.0)
    places = 1 + math.ceil(2 * TOLERANCE * usable * frequency_hz / step_hz)
    deviations = np.linspace(1 - TOLERANCE, 1 + TOLERANCE, 2 * places + 1)
    sums = np.empty((usable, len(deviations)))
    sizes = np.empty(usable, np.int64)
    for harmonic in range(1, usable + 1):
        width = round(_SMEAR * harmonic * frequency_hz / step_hz)
        lines, first = _lifted(spectrum, masked, harmonic * frequency_hz / step_hz, width)
        middle = np.rint(harmonic * frequency_hz * deviations / step_hz).astype(np.int64) - first
        sums[harmonic - 1] = lines[middle + width + 1] - lines[middle - width]
        sizes[harmonic - 1] = 2 * width + 1
    totals = sums.sum(axis=0)
    best = int(totals.argmax())
    strongest = int((sums[:, best] / sizes).argmax())
    rest = log_gamma_tail(int(sizes.sum() - sizes[strongest]), float(totals[best] - sums[strongest, best]))
    found = frequency_hz * float(deviations[best])
    strength = float(sums[0, best] / sizes[0])
    if rest > _REST:
        return Comb(0.0, found, strength)
    log_p = log_gamma_tail(int(sizes.sum()), float(totals[best])) + math.log(places)
    return Comb(min(0.0, log_p), found, strength)


def _lifted(spectrum: Floats, masked: NDArray[np.bool_], centre: float, width: int) -> tuple[Floats, int]:
    """Cumulated lines around bin `centre` over their background, and the bin that the first stands for."""
    half = max(NEAR_BINS, int(0.1 * centre))
    low = max(1, int(centre) - half)
    around = spectrum[low : max(int(centre) + half, low + 2 * NEAR_BINS)]
    background = float(np.median(around)) / _LN2
    reach = math.ceil(centre * TOLERANCE) + width + 2
    first, last = int(centre) - reach, int(centre) + reach + 2
    window = np.ones(last - first)  # what lies outside the spectrum is as good as background
    a, b = max(first, 1), min(last, len(spectrum))
    inside = np.where(masked[a:b], 1.0, spectrum[a:b] / max(background, 1e-300))
    window[a - first : b - first] = inside
    return np.concatenate([[0.0], np.cumsum(window)]), first


class Envelopes:
    """The envelope spectra of a block in every band that can show a frequency's second harmonic."""

    def __init__(self, acceleration: Floats, rate_hz: float, top_hz: float) -> None:
        count = smooth_length(len(acceleration))
        self.step_hz = rate_hz / count
        lines = whitened(acceleration[:count])[:-1]
        self._spectra: list[Floats] = []
        for bands in _LEVELS:
            width = len(lines) // bands
            if width * self.step_hz / 2 < 2 * top_hz * (1 + TOLERANCE):
                break
            self._spectra += [
                envelope_spectrum(lines, at, at + width) for at in range(0, bands * width, width)
            ]
        self._length = max((len(each) for each in self._spectra), default=0)

    @property
    def bands(self) -> int:
        """How many bands there are."""
        return len(self._spectra)

    def reach(self, frequency_hz: float) -> float:
        """How far, in Hz, a line's surroundings are the line's."""
        return max(1.5 * self.step_hz, _MASK * frequency_hz)

    def unsure(self, frequency_hz: float) -> float:
        """The share by which a comb's frequency may be off, as its highest line lies between two bins."""
        return self.step_hz / (2 * _HARMONICS * frequency_hz)

    def mask(self, frequencies_hz: Sequence[float], unsure: float = 0.0) -> NDArray[np.bool_]:
        """The bins that lines at these frequencies explain, each known but for a share of `unsure`."""
        masked = np.zeros(self._length, np.bool_)
        for frequency in frequencies_hz:
            reach = max(self.reach(frequency), unsure * frequency)
            low, high = (frequency - reach) / self.step_hz, (frequency + reach) / self.step_hz
            masked[max(0, math.ceil(low)) : max(0, math.floor(high) + 1)] = True
        return masked

    def best(self, frequency_hz: float, masked: NDArray[np.bool_], looks: int) -> Comb:
        """The band in which a frequency stands out most, its probability times the bands and `looks`."""
        found = [comb(each, self.step_hz, frequency_hz, masked[: len(each)]) for each in self._spectra]
        least = min(found, key=lambda each: each.log_p)
        return Comb(min(0.0, least.log_p + math.log(looks * self.bands)), least.frequency_hz, least.strength)
