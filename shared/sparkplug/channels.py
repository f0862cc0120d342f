"""Which sensor and unit a Sparkplug metric is."""

import re
from dataclasses import dataclass
from typing import Final

from shared.errors import Rejected
from shared.names import fitted
from shared.sparkplug.births import BD_SEQ, CONTROL, Fault, Table
from shared.sparkplug.payload import Properties
from shared.units import NO_UNIT, spelled

_UNIT_PROPERTIES: Final = frozenset(
    {"engunit", "engunits", "engineeringunit", "engineeringunits", "unit", "units"}
)


@dataclass(frozen=True, slots=True)
class Channel:
    """What a metric is called here."""

    sensor: str
    unit: str


def is_control(name: str) -> bool:
    """Whether a metric is there to run the protocol, and so is neither reading nor event."""
    return name == BD_SEQ or name.startswith(CONTROL)


def channels(table: Table) -> tuple[dict[str, Channel], tuple[Fault, ...]]:
    """The channel of each metric of a birth, and why some have none.

    Of two metrics that come to one sensor id the first by name has it, whatever the birth's order.
    """
    made: dict[str, Channel] = {}
    owners: dict[str, str] = {}
    faults = []
    for name in sorted(table.by_name):
        if is_control(name):
            continue
        sensor = fitted(name)
        if sensor in owners:
            faults.append(Fault(name, f"would be sensor {sensor}, which is {owners[sensor][:80]!r}"))
            continue
        try:
            made[name] = Channel(sensor, unit_of(table.by_name[name].properties))
        except Rejected as error:
            faults.append(Fault(name, error.reason))
            continue
        owners[sensor] = name
    return made, tuple(faults)


def unit_of(properties: Properties) -> str:
    """The unit that a metric's properties name, as the table spells it; "1" if they name none. Raises Rejected."""
    for key, each in properties.items():
        if re.sub(r"[ _-]", "", key.casefold()) in _UNIT_PROPERTIES and isinstance(each.value, str):
            return spelled(each.value)
    return NO_UNIT
