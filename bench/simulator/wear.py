"""Slow wear under the retraining loop: whether any course of it is learnt away, on machines that train by drift and by schedule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cloud.training.drift import DAY_US, Kind, triage
from cloud.training.expected import Reference
from cloud.training.triggers import Action, Policy, Seen, decide
from firmware_sim.machines import MACHINE_TYPES
from tests.changing_machines import BASELINE_DAYS, RECENT_DAYS, Change, Changing

BEGINS: Final = 17.0
LASTS_DAYS: Final = 30.0
SEVERITY: Final = 4.0
LAST: Final = 60
FIRST_WORD: Final = 3  # days after a training before anything is asked


@dataclass(frozen=True, slots=True)
class Worn:
    """One machine's course.

    Attributes:
        machine: Its id.
        named: The day after the wear's begin on which it was first called degradation, None = never.
        last: What it was called on the last day.
        learnt: Sigmas of wear that were there at the last training after it began, 0 = none trained then.
        trained_after: Trainings after it was named.
    """

    machine: str
    named: float | None
    last: Kind
    learnt: float
    trained_after: int

    @property
    def normal(self) -> bool:
        """Whether it became normal: never named, trained over, or no longer named at the end."""
        return self.named is None or self.trained_after > 0 or self.last is not Kind.DEGRADATION


def wear(kind: str, seed: int) -> Worn:
    """Bearing wear that grows to 4 sigma in 30 days and stays, looked at once a day for six weeks from its begin on."""
    machine = Changing(kind, seed, (Change("bearing-wear", SEVERITY, BEGINS, LASTS_DAYS),))
    trained, named, learnt, after = BASELINE_DAYS, None, 0.0, 0
    found = Kind.NONE
    reference, since, scope = None, None, None
    for day in range(BASELINE_DAYS + FIRST_WORD, LAST + 1):
        if day < trained + FIRST_WORD:
            continue
        if reference is None or since is None:
            baseline, scope = machine.history(trained - BASELINE_DAYS, trained)
            reference = Reference(baseline, machine.names.index(machine.machine.kind.operating_sensor))
            since, _ = machine.history(trained, LAST, scope)
        now = machine.at(day)
        seen = triage(
            reference, since.part(since.times_us <= now), now - RECENT_DAYS * DAY_US, names=machine.names
        )
        found, age = seen.kind, (day - trained) * DAY_US
        if found is Kind.DEGRADATION and day > BEGINS and named is None:
            named = day - BEGINS
        if decide(Seen(seen, age, 0, age), Policy()).action is Action.TRAIN:
            trained, reference = day, None
            learnt = SEVERITY * min(max(day - BEGINS, 0.0) / LASTS_DAYS, 1.0)
            after += named is not None
    return Worn(f"{kind}-{seed}", named, found, learnt, after)


def wear_all(seeds: Sequence[int]) -> list[Worn]:
    """One machine of each type a seed."""
    return [wear(kind, seed) for seed in seeds for kind in MACHINE_TYPES]
