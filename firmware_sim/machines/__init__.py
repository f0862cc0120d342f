"""The machine types, one file each."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from firmware_sim.machines.compressor import COMPRESSOR
from firmware_sim.machines.fan import FAN
from firmware_sim.machines.gearbox import GEARBOX
from firmware_sim.machines.pump import PUMP
from firmware_sim.machines.spindle import SPINDLE
from firmware_sim.model import MachineType
from shared.errors import Misconfigured

MACHINE_TYPES: Final[Mapping[str, MachineType]] = MappingProxyType(
    {kind.name: kind for kind in (PUMP, COMPRESSOR, SPINDLE, GEARBOX, FAN)}
)


def machine_type(name: str) -> MachineType:
    """The machine type called `name`, or by its last word: `pump`. Raises Misconfigured, naming those that exist."""
    for kind in MACHINE_TYPES.values():
        if name in {kind.name, kind.name.rpartition("-")[2]}:
            return kind
    raise Misconfigured(f"no machine type {name!r}", hint=f"use one of {', '.join(MACHINE_TYPES)}")
