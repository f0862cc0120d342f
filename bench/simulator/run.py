"""Runs every method over the set, machine by machine, seed by seed."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.judge.run import Spread
from bench.simulator.faults import Spec, simulate
from bench.simulator.matching import Tally, match
from bench.simulator.matching import figures as figures_of
from bench.simulator.methods import DELIVERED, answers
from bench.simulator.wear import Worn, wear_all
from firmware_sim.machines import MACHINE_TYPES

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Judged:
    """The set's outcome.

    Attributes:
        spec: The set.
        seeds: One a machine of each type.
        tallies: A tally a machine, by method: floors, models, what is delivered.
        delivered: Which model is delivered, a machine each.
        worn: Courses of slow wear under the retraining loop.
        seconds: That it took.
    """

    spec: Spec
    seeds: Sequence[int]
    tallies: Mapping[str, Sequence[Tally]]
    delivered: Sequence[str]
    worn: Sequence[Worn]
    seconds: float

    def figures(self, method: str) -> dict[str, float]:
        """Pooled over all machines."""
        return figures_of(self.tallies[method])

    def spread(self, method: str, figure: str) -> Spread:
        """Over the seeds: one machine of each type each."""
        return Spread.of(
            [
                figures_of([each for each in self.tallies[method] if each.machine.endswith(f"-{seed}")])[
                    figure
                ]
                for seed in self.seeds
            ]
        )


def judge(spec: Spec, seeds: Sequence[int], say: Say = lambda _: None) -> Judged:
    """Judge everything on `len(seeds)` machines of each type."""
    begun = time.monotonic()
    tallies: dict[str, list[Tally]] = {}
    delivered: list[str] = []
    for seed in seeds:
        for kind in MACHINE_TYPES.values():
            machine = simulate(spec, kind, seed)
            for answer in answers(machine, seed):
                tallies.setdefault(answer.method, []).append(match(spec, machine, answer))
                if answer.method == DELIVERED:
                    delivered.append(answer.about)
            say(f"SIMULATOR: {machine.name}")
    worn = wear_all(seeds)
    say("SIMULATOR: slow wear")
    return Judged(spec, seeds, tallies, delivered, worn, time.monotonic() - begun)
