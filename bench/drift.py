"""What the triage says of simulated machines that change, and how long it stays silent on healthy ones (ARL0).

python -m bench.drift --seeds 4 --days 127
"""

import argparse
from collections import Counter
from dataclasses import dataclass

from cloud.training.drift import Kind
from firmware_sim.machines import MACHINE_TYPES
from tests.changing_machines import BASELINE_DAYS, Change, Changing

CHANGES: dict[str, tuple[tuple[Change, ...], tuple[tuple[float, float], ...], int]] = {
    "stuck sensor": ((Change("stuck", 4.0, 17),), (), 24),
    "drifting sensor": ((Change("drift", 4.0, 17, 5),), (), 30),
    "new product": ((Change("new-product", 4.0, 17),), (), 24),
    "maintenance": ((Change("filter-change", 16.0, 17),), ((16.8, 16.95),), 27),
    "slow wear": ((Change("bearing-wear", 4.0, 17, 30),), (), 60),
    "hot season": ((Change("hot-day", 4.0, 17, 5),), (), 30),
    "another filter, untold": ((Change("filter-change", 16.0, 17),), (), 27),
}


@dataclass
class Silence:
    """Healthy machine-days until the first word, and how many words there were."""

    days: int = 0
    words: int = 0

    def watch(self, machine: Changing, last: int) -> None:
        """One machine, to its first word or its last day."""
        for day, found in machine.days(last):
            if found.kind is not Kind.NONE:
                self.words += 1
                print(f"  {machine.kind} {machine.seed}: day {day}: {found.kind} {found.reason}")
                self.days += day - BASELINE_DAYS
                return
        self.days += last - BASELINE_DAYS


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=11)
    parser.add_argument("--days", type=int, default=BASELINE_DAYS + 100)
    seeds = range((given := parser.parse_args()).first, given.first + given.seeds)
    for name, (changes, maintenance, last) in CHANGES.items():
        said: Counter[str] = Counter()
        for kind in MACHINE_TYPES:
            for seed in seeds:
                words = [found.kind for _, found in Changing(kind, seed, changes, maintenance).days(last)]
                course = dict.fromkeys(word.value for word in words if word is not Kind.NONE)
                said[" then ".join(course) or "nothing"] += 1
        print(f"{name}: " + "; ".join(f"{count}x {course}" for course, count in said.most_common()))
    silence = Silence()
    for kind in MACHINE_TYPES:
        for seed in seeds:
            silence.watch(Changing(kind, seed), given.days)
    per = silence.days / max(silence.words, 1)
    print(f"ARL0: {silence.days} healthy machine-days, {silence.words} words: {per:.0f} days and more a word")


if __name__ == "__main__":
    main()
