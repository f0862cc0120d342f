"""The frozen file of faults, and the machines that are drawn by it."""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from firmware_sim.episodes import Episode
from firmware_sim.machine import OVERHAUL_S, Machine
from firmware_sim.machines import MACHINE_TYPES
from firmware_sim.model import Fault, LookAlike, MachineType
from firmware_sim.readings import Label
from firmware_sim.signals import unit_interval
from shared.clock import MICROSECONDS
from shared.errors import Misconfigured
from shared.windows import Floats, Ints

T = TypeVar("T")

FAULTS: Final = Path(__file__).with_name("faults-1.toml")
HOUR_S: Final = 3_600.0
WEEK_S: Final = 168 * HOUR_S
FIRST_S: Final = 1_704_067_200.0  # 2024-01-01
START_DAYS: Final = 365


@dataclass(frozen=True)
class Spec:
    """The file's content, its tables as they are there."""

    version: int
    sha256: str
    machines: dict[str, Any]
    events: dict[str, Any]
    faults: dict[str, dict[str, dict[str, Any]]]

    @property
    def weeks(self) -> tuple[bool, ...]:
        """The weeks after FIT, in order: whether faults happen in it."""
        return (False,) * int(self.machines["healthy_weeks"]) + (True,) * int(self.machines["fault_weeks"])

    @property
    def fit_rows(self) -> int:
        """How many rows FIT has."""
        return round(float(self.machines["fit_hours"] * HOUR_S / self.machines["interval_s"]))

    @property
    def week_rows(self) -> int:
        """How many rows a week has."""
        return round(WEEK_S / float(self.machines["interval_s"]))

    @property
    def tail_us(self) -> int:
        """For how long after its end an event still has episodes of its own."""
        return round(float(self.events["tail_s"]) * MICROSECONDS)


def load(path: Path = FAULTS) -> Spec:
    """Read the file. Raises Misconfigured: the simulator's faults are not those of the file."""
    data = path.read_bytes()
    told = tomllib.loads(data.decode())
    for name, kind in MACHINE_TYPES.items():
        own = {
            str(fault): {
                "first": list(each.first),
                "gains": dict(each.gains),
                "load_power": each.load_power,
                "rough": each.rough,
            }
            for fault, each in kind.faults.items()
        }
        if own != told["faults"].get(name):
            raise Misconfigured(
                f"the faults of {name} are not those that {path.name} froze",
                hint="write a file with another version",
            )
    return Spec(
        told["version"], hashlib.sha256(data).hexdigest(), told["machines"], told["events"], told["faults"]
    )


@dataclass(frozen=True, eq=False)
class Simulated:
    """One machine's recording: FIT at the front, then the weeks of `Spec.weeks`.

    Attributes:
        kind: Its type.
        seed: Of its noise, weather and events.
        times_us: int64[n].
        values: float64[n, S].
        fit_rows: Rows of FIT.
        labels: Faults and look-alikes, in order of time.
        weeks: (from_us, to_us, whether faults happen in it), one after the other.
    """

    kind: MachineType
    seed: int
    times_us: Ints
    values: Floats
    fit_rows: int
    labels: tuple[Label, ...]
    weeks: tuple[tuple[int, int, bool], ...]

    @property
    def name(self) -> str:
        """Id of the machine."""
        return f"{self.kind.name}-{self.seed}"


def simulate(spec: Spec, kind: MachineType, seed: int) -> Simulated:
    """One machine. The same arguments give the same rows."""
    random = np.random.default_rng([seed, sorted(MACHINE_TYPES).index(kind.name), spec.events["seed_stream"]])
    name = f"{kind.name}-{seed}"
    interval_us = round(spec.machines["interval_s"] * MICROSECONDS)
    rows = spec.fit_rows + len(spec.weeks) * spec.week_rows
    first = start(random, name, seed, rows * spec.machines["interval_s"]) * MICROSECONDS // interval_us
    weeks = []
    episodes: list[Episode] = []
    for number, faulty in enumerate(spec.weeks):
        begin = (first + spec.fit_rows + number * spec.week_rows) * interval_us
        weeks.append((begin, begin + spec.week_rows * interval_us, faulty))
        episodes += _events(spec, kind, random, begin, faulty=faulty)
    machine = Machine(kind, name, seed=seed, interval_us=interval_us, episodes=episodes)
    labels = tuple(
        Label(
            name,
            each.kind,
            each.name,
            each.severity,
            each.onset_us,
            each.end_us or each.onset_us,
            tuple(spec.faults[kind.name][each.name]["first"]) if each.kind == "fault" else (),
        )
        for each in episodes
    )
    values = machine.values(first, rows)
    return Simulated(kind, seed, machine.times_us(first, rows), values, spec.fit_rows, labels, tuple(weeks))


def start(random: np.random.Generator, name: str, seed: int, lasts_s: float) -> int:
    """A moment of a year, in seconds, that no overhaul follows within the recording."""
    phase = unit_interval(seed, name, "overhaul") * OVERHAUL_S
    while True:
        start = FIRST_S + int(random.integers(START_DAYS * 24)) * HOUR_S
        if (start + phase) // OVERHAUL_S == (start + phase + lasts_s) // OVERHAUL_S:
            return int(start)


def _events(
    spec: Spec, kind: MachineType, random: np.random.Generator, begin_us: int, *, faulty: bool
) -> list[Episode]:
    events = spec.events
    alike = events["look_alikes_a_fault_week" if faulty else "look_alikes_a_healthy_week"]
    named = _drawn(random, [str(LookAlike(each)) for each in events["look_alikes"]], alike)
    severe = _drawn(random, events["severities"], alike)
    if faulty:
        faults = events["faults_a_fault_week"]
        named += _drawn(random, [str(Fault(each)) for each in kind.faults], faults)
        severe += _drawn(random, events["severities"], faults)
    slot_s = WEEK_S / len(named)
    made = []
    for slot, index in enumerate(random.permutation(len(named)).tolist()):
        length_s = float(random.uniform(*events["length_h"])) * HOUR_S
        if named[index] == LookAlike.RESTART:
            length_s = float(random.uniform(*events["restart_s"]))
        room_s = slot_s - length_s - events["quiet_h"] * HOUR_S
        onset_us = begin_us + round((slot * slot_s + float(random.uniform(0, room_s))) * MICROSECONDS)
        ramp_s = float(random.uniform(*events["ramp_share"])) * length_s
        end_us = onset_us + round(length_s * MICROSECONDS)
        made.append(Episode(named[index], severe[index], onset_us, end_us, ramp_s))
    return made


def _drawn(random: np.random.Generator, of: Sequence[T], count: int) -> list[T]:
    """Each as often as the others: whole shuffles one after the other."""
    found: list[T] = []
    while len(found) < count:
        found += [of[index] for index in random.permutation(len(of)).tolist()]
    return found[:count]
