"""A small fleet that wears: made here, by a seed."""

import numpy as np

from cloud.life.runs import Runs, make_runs

COLUMNS = ("load", "flow", "heat", "still", "noise", "steps")


def fleet(units: int = 24, *, seed: int = 1, cut: bool = False, worn: float = 1.0) -> Runs:
    """Units of 60 to 110 cycles at two loads; wear shows in flow and heat over the last half.

    Args:
        units: How many.
        seed: Draws all.
        cut: Leave each unit somewhere before its end.
        worn: Times the usual size of what wear does.
    """
    draws = np.random.default_rng(seed)
    names: list[str] = []
    cycles, rows = [], []
    for unit in range(units):
        life = int(draws.integers(60, 111))
        until = int(draws.integers(20, life)) if cut else life
        for cycle in range(1, until + 1):
            high = draws.random() < 0.5
            wear = worn * max(0.0, 1 - (life - cycle) / 50) ** 1.5
            names.append(f"unit {unit}")
            cycles.append(cycle)
            rows.append(
                [
                    40.0 + 0.01 * draws.standard_normal() if high else 10.0,
                    (9.0 if high else 3.0) - wear + 0.1 * draws.standard_normal(),
                    (80.0 if high else 50.0) + 20 * wear + 2 * draws.standard_normal(),
                    7.0,
                    draws.standard_normal(),
                    float(draws.integers(0, 3)),
                ]
            )
    return make_runs(names, np.array(cycles, float), np.array(rows), COLUMNS)


def lives(units: int = 24, *, seed: int = 1) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """How long the units of `fleet(units, seed=seed, cut=True)` lived."""
    draws = np.random.default_rng(seed)
    found = []
    for _ in range(units):
        life = int(draws.integers(60, 111))
        until = int(draws.integers(20, life))
        for _ in range(until):
            if draws.random() < 0.5:
                draws.standard_normal()
            draws.standard_normal(3)
            draws.integers(0, 3)
        found.append(life)
    return np.array(found, float)
