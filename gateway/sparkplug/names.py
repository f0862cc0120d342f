"""Which machine and sensor a Sparkplug node, device and metric are: ids, units, and who may have which."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shared.errors import Rejected
from shared.names import ID_PATTERN, slug
from shared.sparkplug.births import BD_SEQ, CONTROL, Fault, Table
from shared.sparkplug.payload import Properties
from shared.sparkplug.topics import NodeId
from shared.units import UNITS

MAX_HOMES: Final = 10_000
NO_UNIT: Final = "1"
_HEAD: Final = 31
_UNIT_PROPERTIES: Final = frozenset(
    {"engunit", "engunits", "engineeringunit", "engineeringunits", "unit", "units"}
)
_SPELLINGS: Final = {
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


@dataclass(frozen=True, slots=True)
class Home:
    """Where a node's or device's readings go."""

    site: str
    machine: str


@dataclass(frozen=True, slots=True)
class Channel:
    """What a metric is called here."""

    sensor: str
    unit: str


class Homes:
    """Who has which machine id. The first of two that come to one id keeps it while it is known."""

    def __init__(self) -> None:
        self._owners: dict[str, tuple[NodeId, str]] = {}

    def claim(self, node: NodeId, device: str, edges: Mapping[str, tuple[str, str]]) -> Home:
        """The home of a node (`device` empty) or device. `edges`: machines that an edge watches. Raises Rejected."""
        home = Home(fitted(node.group), fitted(f"{node.node}-{device}" if device else node.node))
        owner = self._owners.get(home.machine)
        if owner is None and len(self._owners) >= MAX_HOMES:
            raise Rejected(f"machine {home.machine} is one more than the {MAX_HOMES} that fit a host")
        if owner is not None and owner != (node, device):
            raise Rejected(
                f"{_called(node, device)} would be machine {home.machine}, which is {_called(*owner)}: rename one"
            )
        if home.machine in edges:
            site, edge = edges[home.machine]
            raise Rejected(
                f"{_called(node, device)} would be machine {home.machine}, which edge {site}/{edge} watches"
            )
        self._owners[home.machine] = (node, device)
        return home

    def forget(self, node: NodeId) -> None:
        """Free what a node and its devices have."""
        self._owners = {machine: owner for machine, owner in self._owners.items() if owner[0] != node}


def fitted(text: str) -> str:
    """The slug of a name. One that a slug can't hold (too long, or nothing left) ends in a hash of the whole name."""
    if re.fullmatch(ID_PATTERN, text):
        return text
    short = slug(text)
    whole = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if short == whole:
        return short
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).hexdigest()
    return f"{short[:_HEAD].strip('-')}-{digest}"


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
            text = each.value.strip()
            unit = text if text in UNITS else _SPELLINGS.get(text)
            if unit is None:
                raise Rejected(f"unknown unit {text[:40]!r}")
            return unit
    return NO_UNIT


def _called(node: NodeId, device: str) -> str:
    return f"{node}/{device}" if device else str(node)
