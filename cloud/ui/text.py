"""Numbers, units and times as people read them."""

import math
from datetime import UTC, datetime
from typing import Final

SHOWN_UNITS: Final = {"degC": "°C", "degF": "°F", "m3/h": "m³/h", "m/s2": "m/s²", "um": "µm", "1": ""}
NOTHING: Final = "\u2013"
_DIGITS: Final = 4


def number(value: float | None) -> str:
    """Four significant digits (fewer below 1), never an exponent for what plants measure; a dash for nothing."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size >= 9 or size < -_DIGITS:  # noqa: PLR2004 - beyond what fits a tile
        return f"{value:.2e}"
    return f"{value:.{max(0, _DIGITS - 1 - max(0, size)) if size >= -1 else _DIGITS - 2 - size}f}"


def lasting(value: float) -> str:
    """Hours or days that are left: no digits that nobody can know."""
    if value == 0:
        return "0"
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}".replace(",", "\u202f")  # noqa: PLR2004 - two digits


def unit(name: str) -> str:
    """A unit in print."""
    return SHOWN_UNITS.get(name, name)


def quantity(value: float | None, name: str) -> str:
    """Number and unit."""
    return f"{number(value)}\u202f{unit(name)}".rstrip("\u202f ") if value is not None else NOTHING


def utc(seconds: float) -> str:
    """A UTC time, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(seconds: float) -> str:
    """The same for machines."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
