"""Simulated machines that change over weeks, at a coarse step, and what the triage says of them day by day."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from cloud.training.drift import DAY_US, Span, Triage, triage
from cloud.training.expected import History, Reference
from cloud.training.operation import Scope, scope_of
from firmware_sim.episodes import Episode
from firmware_sim.machine import OVERHAUL_S, Machine
from firmware_sim.machines import machine_type
from firmware_sim.signals import unit_interval

ROW_US = 60_000_000
MEAN = 5  # rows a cell
STEP_US = MEAN * ROW_US
BASELINE_DAYS = 7
RECENT_DAYS = 7
_YEARS = 115  # overhauls after the epoch


@dataclass(frozen=True)
class Change:
    """An episode that begins on day `day` of a machine's history."""

    name: str
    severity: float
    day: float
    ramp_days: float = 0.0
    sensor: str | None = None
    until: float | None = None


@dataclass(frozen=True)
class Changing:
    """A machine from an hour after an overhaul on, so that what wears in health wears the longest time."""

    kind: str
    seed: int
    changes: Sequence[Change] = ()
    maintenance: Sequence[tuple[float, float]] = ()

    @cached_property
    def machine(self) -> Machine:
        kind = machine_type(self.kind)
        made = Machine(kind, f"{self.kind}-{self.seed}", seed=self.seed, interval_us=ROW_US)
        for change in self.changes:
            until = None if change.until is None else self.at(change.until)
            made.inject(
                Episode(
                    change.name,
                    change.severity,
                    self.at(change.day),
                    until,
                    change.ramp_days * 86_400,
                    change.sensor,
                )
            )
        return made

    @property
    def names(self) -> tuple[str, ...]:
        return machine_type(self.kind).sensor_names

    def at(self, day: float) -> int:
        """Time of a day of its history."""
        phase = unit_interval(self.seed, f"{self.kind}-{self.seed}", "overhaul") * OVERHAUL_S
        begin = int(OVERHAUL_S * _YEARS - phase + 3600) * 1_000_000 // STEP_US * STEP_US
        return begin + int(day * DAY_US)

    def history(self, from_day: float, to_day: float, scope: Scope | None = None) -> tuple[History, Scope]:
        """Its cells, with their states."""
        first = self.machine.index_at(self.at(from_day)) + 1
        count = int((to_day - from_day) * DAY_US / STEP_US)
        rows = self.machine.values(first, MEAN * count)
        times = self.machine.times_us(first, MEAN * count)[MEAN - 1 :: MEAN]
        cells = rows.reshape(count, MEAN, -1).mean(axis=1)
        point = self.machine.kind.operating_sensor
        scope = scope or scope_of(self.names, point, cells)
        return History(times, cells, scope.states(times, cells)), scope

    def days(self, last: int, *, every: int = 1) -> Iterator[tuple[int, Triage]]:
        """What the triage says on each day, as a plant asks it once a day."""
        baseline, scope = self.history(0, BASELINE_DAYS)
        reference = Reference(baseline, self.names.index(self.machine.kind.operating_sensor))
        since, _ = self.history(BASELINE_DAYS, last, scope)
        worked = [Span(self.at(begin), self.at(end)) for begin, end in self.maintenance]
        for day in range(BASELINE_DAYS + 3, last + 1, every):
            now = self.at(day)
            yield (
                day,
                triage(
                    reference,
                    since.part(since.times_us <= now),
                    now - RECENT_DAYS * DAY_US,
                    names=self.names,
                    maintenance=[span for span in worked if span.from_us <= now],
                ),
            )

    def sensors(self, found: Triage) -> tuple[str, ...]:
        return tuple(self.names[one] for one in found.sensors)
