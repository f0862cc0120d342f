"""Which part of a rolling bearing strikes, told from one block by its envelope, or why that can't be told. Pure numpy.

The kinematic frequencies are those of Randall and Antoni, "Rolling element bearing diagnostics: a tutorial", Mech. Syst.
Signal Process. 25 (2011) 485-520, equations 1 to 4. A part is named if noise alone would show as much with a probability below
`FALSE_CALL`, all places looked at (deviations, bands, parts) included, and if no other part explains its lines.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.envelope import NEAR_BINS, TOLERANCE, Comb, Envelopes, Floats, smooth_length

FALSE_CALL: Final = 1e-6
"""Most that noise alone may name a part, a block."""
_REVOLUTIONS: Final = 12
"""What a block has to hold: with fewer, the lines of parts, cage and shaft fall together."""
_HINT: Final = math.log(1e-2)
_SIDEBANDS: Final = 4
_SLIP: Final = 0.005  # usual slip of rolling elements
_MODULATION: Final = 4.0
"""A part so many times as strong as the cage's line is modulated by the cage, and not made by it."""
_SURE: Final = 2.0  # times as many decades as the next part, to be named before it


class Part(StrEnum):
    """A part of a bearing."""

    OUTER = "outer-race"
    INNER = "inner-race"
    BALL = "ball"
    CAGE = "cage"


@dataclass(frozen=True, slots=True)
class Bearing:
    """A bearing's geometry: rolling elements, their diameter, the pitch diameter (same unit), contact angle in degrees."""

    elements: int
    element_mm: float
    pitch_mm: float
    angle_deg: float = 0.0

    def orders(self) -> Mapping[Part, float]:
        """Frequency of each part's strikes over the shaft's, outer ring at rest (BPFO, BPFI, BSF, FTF)."""
        ratio = self.element_mm / self.pitch_mm * math.cos(math.radians(self.angle_deg))
        return {
            Part.OUTER: self.elements / 2.0 * (1.0 - ratio),
            Part.INNER: self.elements / 2.0 * (1.0 + ratio),
            Part.BALL: self.pitch_mm / (2.0 * self.element_mm) * (1.0 - ratio * ratio),
            Part.CAGE: (1.0 - ratio) / 2.0,
        }


@dataclass(frozen=True, slots=True)
class Found:
    """What speaks for a part: `log10_p` of noise alone doing so, `strength` of its first line over the background."""

    part: Part
    frequency_hz: float
    log10_p: float
    strength: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """`part` None with no `reason`: nothing speaks for a fault. A `reason` says why it can't be told."""

    part: Part | None = None
    reason: str = ""
    found: tuple[Found, ...] = ()

    @property
    def can_tell(self) -> bool:
        """Whether there is an answer."""
        return not self.reason


def energies(
    acceleration: Floats,
    rate_hz: float,
    speed_hz: float,
    bearing: Bearing,
    band_hz: tuple[float, float] | None = None,
) -> Mapping[Part, float]:
    """RMS of the envelope, in m/s², within ± 2 % of each part's frequency (BPFO, BPFI, BSF, FTF).

    The envelope (not squared) is that of the band `band_hz`, from 10 to 40 % of the sampling rate if None is given. A part
    whose frequency the block can't resolve is left out.
    """
    count = smooth_length(len(acceleration))
    step_hz = rate_hz / count
    low, high = band_hz or (0.1 * rate_hz, 0.4 * rate_hz)
    lines = np.fft.rfft(acceleration[:count] - acceleration[:count].mean())
    first, last = max(1, int(low / step_hz)), min(len(lines) - 1, int(high / step_hz))
    if last - first < NEAR_BINS:
        return {}
    width = smooth_length(last - first)
    envelope = np.abs(np.fft.ifft(lines[first : first + width])) * (2.0 * width / count)
    spectrum = np.fft.rfft(envelope - envelope.mean())
    power = (spectrum.real**2 + spectrum.imag**2) * (2.0 / width**2)
    found = {}
    for part, order in bearing.orders().items():
        centre = order * speed_hz / step_hz
        reach = max(1.0, TOLERANCE * centre)
        if centre * (1 + TOLERANCE) < len(power) - 1 and centre > _SIDEBANDS:
            a, b = math.ceil(centre - reach), math.floor(centre + reach)
            found[part] = math.sqrt(float(power[a : b + 1].sum()))
    return found


def diagnose(acceleration: Floats, rate_hz: float, speed_hz: float, bearing: Bearing) -> Verdict:
    """Which part of a bearing strikes, if any.

    Args:
        acceleration: Samples (n,) in m/s², finite.
        rate_hz: Sampling rate, true to some parts in a thousand: whether the clock is says `Wave.sync`.
        speed_hz: Shaft speed in revolutions a second while the block was taken, true to 1 %.
        bearing: Its geometry; the outer ring stands still.
    """
    orders = bearing.orders()
    revolutions = len(acceleration) / rate_hz * speed_hz
    if revolutions < _REVOLUTIONS:
        return Verdict(reason=f"the block holds {revolutions:.1f} revolutions: it takes {_REVOLUTIONS}")
    # A ball strikes both races in one turn of its own: twice its spin.
    strikes = {p: o * speed_hz * (2.0 if p is Part.BALL else 1.0) for p, o in orders.items()}
    envelopes = Envelopes(acceleration, rate_hz, max(strikes.values()))
    if not envelopes.bands:
        return Verdict(
            reason=f"{rate_hz:g} Hz is too slow for a bearing at {speed_hz:.3g} revolutions a second"
        )
    nothing = unmasked = envelopes.mask(())
    shaft = envelopes.best(speed_hz, nothing, len(Part))
    significant = math.log(FALSE_CALL)
    if shaft.log_p <= significant:
        nothing = envelopes.mask([k * shaft.frequency_hz for k in range(1, 61)])
    combs = {part: envelopes.best(strikes[part], nothing, len(Part)) for part in Part}
    speak = {part: each for part, each in combs.items() if each.log_p <= significant}
    found = tuple(
        Found(part, each.frequency_hz, each.log_p / math.log(10), each.strength)
        for part, each in sorted(speak.items(), key=lambda pair: pair[1].log_p)
    )
    if not speak:
        hidden = [p for p in Part if _hidden(envelopes, strikes[p], shaft.frequency_hz, nothing, unmasked)]
        if hidden:
            return Verdict(
                reason=f"{hidden[0].value} strikes at a multiple of the shaft's speed, which has lines too"
            )
    # The cage carries balls through the load, the shaft its race: strikes that do not swell at their pace are others'.
    for part, carrier in ((Part.BALL, combs[Part.CAGE]), (Part.INNER, shaft)):
        rest = [each.log_p for other, each in speak.items() if other is not part]
        if part in speak and rest and carrier.log_p > _HINT and min(rest) <= speak[part].log_p / _SURE:
            del speak[part]
    if len(speak) < 2:  # noqa: PLR2004 - one or none
        return Verdict(next(iter(speak), None), found=found)
    return _between(envelopes, speak, nothing, speed_hz, found)


def _hidden(
    envelopes: Envelopes,
    frequency_hz: float,
    shaft_hz: float,
    masked: NDArray[np.bool_],
    unmasked: NDArray[np.bool_],
) -> bool:
    """Whether a part would show at the shaft's lines, and can't be told from them."""
    if masked is unmasked:
        return False
    off = abs(frequency_hz - round(frequency_hz / shaft_hz) * shaft_hz)
    if off > envelopes.reach(frequency_hz) + _SLIP * frequency_hz:
        return False
    return envelopes.best(frequency_hz, unmasked, len(Part)).log_p <= math.log(FALSE_CALL)


def _between(
    envelopes: Envelopes,
    speak: Mapping[Part, Comb],
    masked: NDArray[np.bool_],
    speed_hz: float,
    found: tuple[Found, ...],
) -> Verdict:
    """The part that is left when the lines of each other one are taken away; none if they can't be told apart."""
    cage_hz = speak[Part.CAGE].frequency_hz if Part.CAGE in speak else 0.0
    left: dict[Part, float] = {}
    for part, each in speak.items():
        worst = each.log_p
        for other, its in speak.items():
            if other is part or (other is Part.CAGE and each.strength > _MODULATION * its.strength):
                continue
            lines = _lines_of(other, its.frequency_hz, speed_hz, cage_hz)
            # The outer race's strikes are a high multiple of the cage's turns, which are known less well than that.
            multiple = (part, other) == (Part.OUTER, Part.CAGE)
            unsure = envelopes.unsure(its.frequency_hz) if multiple else 0.0
            explained = envelopes.mask(lines, unsure)
            base = each.frequency_hz
            if (part, other) == (Part.CAGE, Part.BALL):
                base *= 3.0  # a ball's swelling has the cage's first lines and no long comb of them
            again = envelopes.best(base, masked | explained, len(Part))
            worst = max(worst, again.log_p)
        left[part] = worst
    ranked = sorted(left, key=lambda part: left[part])
    first, second = ranked[0], ranked[1]
    if left[first] > math.log(FALSE_CALL) or left[first] > _SURE * left[second]:
        names = " and ".join(each.part.value for each in found)
        return Verdict(reason=f"{names} can't be told apart here", found=found)
    return Verdict(first, found=found)


def _lines_of(part: Part, frequency_hz: float, speed_hz: float, cage_hz: float) -> list[float]:
    """Where a part's fault has lines in the envelope: multiples, and sidebands by what carries it around."""
    if part is Part.OUTER:
        return [k * frequency_hz for k in range(1, 13)]
    if part is Part.CAGE:
        return [k * frequency_hz for k in range(1, 61)]
    around = speed_hz if part is Part.INNER else cage_hz
    base = frequency_hz if part is Part.INNER else frequency_hz / 2.0
    if not around:
        return [k * base for k in range(1, 13)]
    sides = range(-_SIDEBANDS, _SIDEBANDS + 1)
    first = 1 if part is Part.BALL else 0
    return [line for k in range(first, 7) for m in sides if (line := k * base + m * around) > 0]
