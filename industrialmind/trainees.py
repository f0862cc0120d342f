"""Whom the trainer trains for: machines of the plant or of the settings, and the edges that get their models."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from industrialmind.plant import Machine
from shared.errors import NotFound
from shared.names import INFERENCE

UNTOLD_TYPE: Final = "machine"


def described(text: str) -> Machine:
    """Of the settings' ID:TYPE[:SENSOR], which they have checked."""
    machine, kind, *sensor = text.split(":")
    return Machine(machine, kind, sensor[0] if sensor else "")


@dataclass(frozen=True, slots=True)
class Trainee:
    """A machine that is trained for, and the edge that gets its model: `inference` where it has none."""

    id: str
    type: str
    operating_sensor: str
    edge: str


def trainees(machines: Sequence[Machine], assigned: Mapping[str, tuple[str, str]]) -> list[Trainee]:
    """The machines with the edges that they are assigned to."""
    return [
        Trainee(each.id, each.type, each.operating_sensor, assigned.get(each.id, ("", INFERENCE))[1])
        for each in machines
    ]


def choose(machines: Sequence[Machine], wanted: Sequence[str], stored: Collection[str] = ()) -> list[Machine]:
    """The machines with these ids, all that have an edge if none is given. Raises NotFound.

    `stored`: machines that the store has readings of. Those with no edge are of a type that nobody told.
    """
    known = {machine.id: machine for machine in machines}
    known |= {name: Machine(name, UNTOLD_TYPE) for name in sorted(stored) if name not in known}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise NotFound(f"no machine {', '.join(missing)}: this plant has {', '.join(known)}")
    return [known[name] for name in wanted] if wanted else list(machines)
