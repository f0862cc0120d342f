"""Simulated machines that run to failure, each by one known fault: minutes for anomaly models, hours for remaining life.

A machine is healthy for some days, then its fault grows slowly to part of its last severity and faster to all of it. Look-alikes happen before
and meanwhile. It fails when the fault is whole; how severe that is differs from machine to machine.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.simulator.faults import HOUR_S, start
from cloud.life.runs import Runs
from firmware_sim.episodes import Episode
from firmware_sim.machine import Machine
from firmware_sim.machines import MACHINE_TYPES
from firmware_sim.model import LookAlike, MachineType
from shared.clock import MICROSECONDS
from shared.windows import Floats, Ints

INTERVAL_S: Final = 60.0
HEALTHY_H: Final = (48.0, 120.0)
WEARS_H: Final = (24.0, 120.0)
SEVERITY: Final = (4.0, 8.0)  # sigmas at the failure
SLOW: Final = (0.6, 0.4)  # so much of the time brings so much of the severity
ALIKE_H: Final = 40.0  # of a machine's life: one look-alike in so many
ALIKE_SEVERITY: Final = (0.5, 1.0, 2.0, 4.0)
ALIKE_LASTS_H: Final = (2.0, 8.0)
RESTART_H: Final = (0.05, 0.15)


@dataclass(frozen=True, eq=False)
class Life:
    """One machine, from its first row to its failure.

    Attributes:
        times_us: int64[m], a row a minute.
        values: float64[m, S].
        begins_h: Hours from the first row to the fault's onset.
        mode: Number of the fault.
    """

    times_us: Ints
    values: Floats
    begins_h: float
    mode: int


@dataclass(frozen=True, eq=False)
class Fleet:
    """Machines of one type.

    Attributes:
        kind: The type.
        lives: Of each machine.
        runs: Means of whole hours, the last one that of the failure. A cycle is an hour.
    """

    kind: MachineType
    lives: tuple[Life, ...]
    runs: Runs

    @property
    def modes(self) -> tuple[str, ...]:
        """Faults that a machine of this type can have."""
        return tuple(str(fault) for fault in self.kind.faults)

    @property
    def degraded(self) -> Floats:
        """float64[n], 1 in hours after the fault's onset, else 0."""
        begins = np.array([life.begins_h for life in self.lives])
        return np.asarray(self.runs.cycles > begins[self.runs.of_row], dtype=np.float64)

    @property
    def mode(self) -> Floats:
        """float64[n], number of the fault after its onset; NaN before."""
        modes = np.array([float(life.mode) for life in self.lives])
        return np.where(self.degraded > 0, modes[self.runs.of_row], np.nan)


def simulate_fleet(name: str, machines: int, seed: int) -> Fleet:
    """Each fault as often as the others. The same arguments give the same rows."""
    kind = MACHINE_TYPES[name]
    draws = np.random.default_rng([seed, 29])
    modes = draws.permutation(np.arange(machines) % len(kind.faults))
    lives = tuple(_life(kind, number, int(mode), seed) for number, mode in enumerate(modes))
    hours = [_hours(life.values) for life in lives]
    starts = np.concatenate([[0], np.cumsum([len(each) for each in hours])]).astype(np.int64)
    cycles = np.concatenate([np.arange(1.0, len(each) + 1) for each in hours])
    units = tuple(f"{kind.name}-{number}" for number in range(machines))
    return Fleet(kind, lives, Runs(units, starts, cycles, np.concatenate(hours), kind.sensor_names))


def _life(kind: MachineType, number: int, mode: int, seed: int) -> Life:
    draws = np.random.default_rng([seed, 31, number])
    healthy, wears = float(draws.uniform(*HEALTHY_H)), float(draws.uniform(*WEARS_H))
    severity = float(draws.uniform(*SEVERITY))
    name = f"{kind.name}-{number}"
    hours = int(healthy + wears)
    begin_s = start(draws, name, seed, hours * HOUR_S)
    onset_s = begin_s + healthy * HOUR_S
    slow_h, slow = SLOW[0] * wears, SLOW[1] * severity
    fault = str(tuple(kind.faults)[mode])
    episodes = [
        Episode(fault, slow, _us(onset_s), None, slow_h * HOUR_S),
        Episode(fault, severity - slow, _us(onset_s + slow_h * HOUR_S), None, (wears - slow_h) * HOUR_S),
        *_look_alikes(draws, begin_s, hours),
    ]
    interval_us = _us(INTERVAL_S)
    machine = Machine(kind, name, seed=seed, interval_us=interval_us, episodes=episodes)
    first, rows = machine.index_at(_us(begin_s)), round(hours * HOUR_S / INTERVAL_S)
    return Life(machine.times_us(first, rows), machine.values(first, rows), healthy, mode)


def _look_alikes(draws: np.random.Generator, begin_s: float, hours: int) -> Iterator[Episode]:
    for _ in range(round(hours / ALIKE_H)):
        name = str(tuple(LookAlike)[int(draws.integers(len(LookAlike)))])
        lasts_h = float(draws.uniform(*(RESTART_H if name == LookAlike.RESTART else ALIKE_LASTS_H)))
        at_s = begin_s + float(draws.uniform(0, hours - lasts_h)) * HOUR_S
        severity = float(draws.choice(ALIKE_SEVERITY))
        yield Episode(name, severity, _us(at_s), _us(at_s + lasts_h * HOUR_S), 0.1 * lasts_h * HOUR_S)


def _hours(minutes: Floats) -> Floats:
    rows = round(HOUR_S / INTERVAL_S)
    return np.asarray(minutes.reshape(-1, rows, minutes.shape[1]).mean(axis=1))


def _us(seconds: float) -> int:
    return round(seconds * MICROSECONDS)
