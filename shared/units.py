"""The units that readings may carry, each with its dimension and its scale to that dimension's base unit.

The spelling is the wire's (ASCII, case matters). To add a unit, add a row; nothing else knows units.
"""

from dataclasses import dataclass
from typing import Final

from shared.errors import Rejected


@dataclass(frozen=True, slots=True)
class Unit:
    """`base value = value * scale + offset`, in the base unit (SI) of `dimension`."""

    dimension: str
    scale: float = 1.0
    offset: float = 0.0


UNITS: Final[dict[str, Unit]] = {
    "degC": Unit("temperature", 1.0, 273.15),
    "degF": Unit("temperature", 5 / 9, 459.67 * 5 / 9),
    "K": Unit("temperature"),
    "Pa": Unit("pressure"),
    "kPa": Unit("pressure", 1e3),
    "mbar": Unit("pressure", 1e2),
    "bar": Unit("pressure", 1e5),
    "l/min": Unit("volume flow", 1e-3 / 60),
    "l/s": Unit("volume flow", 1e-3),
    "m3/h": Unit("volume flow", 1 / 3600),
    "kg/h": Unit("mass flow", 1 / 3600),
    "t/h": Unit("mass flow", 1e3 / 3600),
    "A": Unit("current"),
    "mA": Unit("current", 1e-3),
    "V": Unit("voltage"),
    "W": Unit("power"),
    "kW": Unit("power", 1e3),
    "mm/s": Unit("velocity", 1e-3),
    "m/s2": Unit("acceleration"),
    "g": Unit("acceleration", 9.80665),  # standard gravity, as vibration sensors say it; never the gram
    "rpm": Unit("frequency", 1 / 60),
    "Hz": Unit("frequency"),
    "N": Unit("force"),
    "kN": Unit("force", 1e3),
    "Nm": Unit("torque"),
    "mm": Unit("length", 1e-3),
    "um": Unit("length", 1e-6),
    "s": Unit("time"),
    "h": Unit("time", 3600.0),
    "dB": Unit("level"),
    "%": Unit("ratio", 1e-2),
    "1": Unit("ratio"),
}

NO_UNIT: Final = "1"
SPELLINGS: Final[dict[str, str]] = {
    "°C": "degC",
    "℃": "degC",
    "Cel": "degC",
    "C": "degC",
    "°F": "degF",
    "℉": "degF",
    "F": "degF",
    "L/min": "l/min",
    "lpm": "l/min",
    "L/s": "l/s",
    "m³/h": "m3/h",
    "m^3/h": "m3/h",
    "Amps": "A",
    "Volts": "V",
    "m/s²": "m/s2",
    "m/s^2": "m/s2",
    "RPM": "rpm",
    "1/min": "rpm",
    "µm": "um",
    "μm": "um",
    "N·m": "Nm",
    "percent": "%",
    "": NO_UNIT,
}
"""Other spellings of the table's units, as plants write them."""


def spelled(text: str) -> str:
    """The unit that a plant writes as `text`, as the table spells it. Raises Rejected that names it."""
    text = text.strip()
    unit = text if text in UNITS else SPELLINGS.get(text)
    if unit is None:
        raise Rejected(f"unknown unit {text[:40]!r}")
    return unit


def check_unit(name: str) -> Unit:
    """The unit called `name`. Raises Rejected that names it."""
    unit = UNITS.get(name)
    if unit is None:
        raise Rejected(f"unknown unit {name[:40]!r}")
    return unit


def convert(value: float, source: str, target: str) -> float:
    """`value` given in `source`, in `target`. Raises Rejected for an unknown unit or another dimension."""
    if source == target:
        check_unit(source)
        return value
    old, new = check_unit(source), check_unit(target)
    if old.dimension != new.dimension:
        raise Rejected(f"{source!r} is a {old.dimension} and {target!r} a {new.dimension}")
    return (value * old.scale + old.offset - new.offset) / new.scale
