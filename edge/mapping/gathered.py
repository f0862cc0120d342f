"""What a batch of mapped messages comes to: rows and events by machine, dead letters, requests for births."""

from collections import Counter
from dataclasses import dataclass, field

from edge.rows import Rows
from shared.events import Event


@dataclass(frozen=True, slots=True)
class Letter:
    """What can't be read, whole or in part. `machine` is empty where the message tells none of ours."""

    machine: str
    reason: str
    topic: str
    payload: bytes
    arrival_us: int


@dataclass(slots=True)
class Gathered:
    """A batch's work. `live`: (machine, event time, arrival) of single live messages, which tell a clock's skew.

    `fates` counts messages: `readings`, `refused`, `ignored`, `state` (Sparkplug's births and deaths), `waiting`.
    """

    rows: dict[str, Rows] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    live: list[tuple[str, int, int]] = field(default_factory=list)
    commands: list[tuple[str, bytes]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    fates: Counter[str] = field(default_factory=Counter)

    def of(self, machine: str) -> Rows:
        """The machine's rows."""
        rows = self.rows.get(machine)
        if rows is None:
            rows = self.rows[machine] = Rows()
        return rows
