"""Matches episodes with what happened, one to one, and makes figures of that."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bench.simulator.faults import Simulated, Spec
from bench.simulator.methods import Answer, Onset
from firmware_sim.readings import Label
from shared.clock import MICROSECONDS

WEEK_US: Final = 168 * 3_600 * MICROSECONDS
DUPLICATE: Final = "second episode of a fault"
NOTHING: Final = "nothing"


@dataclass(frozen=True, slots=True)
class Found:
    """A fault, and the first episode of it if there is one."""

    label: Label
    onset: Onset | None
    sensors: int  # how many the machine has

    @property
    def right(self) -> bool:
        """Whether the leading sensor is accepted."""
        return self.onset is not None and self.onset.leading in self.label.sensors

    @property
    def chance(self) -> float:
        """How often a sensor drawn by chance would be."""
        return len(self.label.sensors) / self.sensors


@dataclass(frozen=True)
class Tally:
    """What a method did on one machine.

    Attributes:
        machine: Its id.
        strong: Faults that have to be found.
        weak: Those that may be.
        false: Causes of the false episodes in weeks with faults.
        healthy_false: The same in healthy weeks.
        healthy_weeks: How many of these there were.
    """

    machine: str
    strong: tuple[Found, ...]
    weak: tuple[Found, ...]
    false: Counter[str] = field(default_factory=Counter)
    healthy_false: Counter[str] = field(default_factory=Counter)
    healthy_weeks: float = 0.0


def match(spec: Spec, machine: Simulated, answer: Answer) -> Tally:
    """The first episode that begins while a fault lasts, or in its tail, is its own. Every other episode is false."""
    faults = [label for label in machine.labels if label.kind == "fault"]
    owned: dict[int, Onset] = {}
    strong: list[Found] = []
    weak: list[Found] = []
    for label in faults:
        first = next((each for each in answer.onsets if _during(spec, label, each)), None)
        if first is not None:
            owned[first.time_us] = first
        found = Found(label, first, len(machine.kind.sensors))
        (strong if label.severity >= spec.events["strong"] else weak).append(found)
    tally = Tally(
        machine.name,
        tuple(strong),
        tuple(weak),
        healthy_weeks=sum(to - begin for begin, to, faulty in machine.weeks if not faulty) / WEEK_US,
    )
    for onset in answer.onsets:
        if onset.time_us not in owned:
            # The last row of a week ends it; what comes later counts for the last week.
            faulty = next((f for _, to, f in machine.weeks if onset.time_us < to), machine.weeks[-1][2])
            (tally.false if faulty else tally.healthy_false)[_cause(spec, machine, onset)] += 1
    return tally


def _during(spec: Spec, label: Label, onset: Onset) -> bool:
    return label.onset_us <= onset.time_us <= label.end_us + spec.tail_us


def _cause(spec: Spec, machine: Simulated, onset: Onset) -> str:
    during = [label for label in machine.labels if _during(spec, label, onset)]
    if not during:
        return NOTHING
    return during[0].name if during[0].kind == "look-alike" else DUPLICATE


def f1(tallies: Sequence[Tally]) -> float:
    """Of events, over the weeks with faults."""
    hits = sum(each.onset is not None for tally in tallies for each in tally.strong)
    missed = sum(len(tally.strong) for tally in tallies) - hits
    false = sum(tally.false.total() for tally in tallies)
    return 2 * hits / max(2 * hits + missed + false, 1)


def false_week(tallies: Sequence[Tally]) -> float:
    """False episodes a healthy machine-week."""
    return sum(tally.healthy_false.total() for tally in tallies) / sum(
        tally.healthy_weeks for tally in tallies
    )


def top1(tallies: Sequence[Tally]) -> float:
    """How often the leading sensor of a fault that had to be found, and was, is accepted."""
    hits = [
        each.right
        for tally in tallies
        for each in tally.strong
        if each.onset is not None and each.onset.leading  # "": the method names none
    ]
    return float(np.mean(hits)) if hits else float("nan")


def figures(tallies: Sequence[Tally]) -> dict[str, float]:
    """All of them, by name."""
    found = [each for tally in tallies for each in tally.strong if each.onset is not None]
    delays = [each.onset.time_us - each.label.onset_us for each in found if each.onset is not None]
    strong = sum(len(tally.strong) for tally in tallies)
    weak = [each.onset is not None for tally in tallies for each in tally.weak]
    false = sum(tally.false.total() for tally in tallies)
    return {
        "f1": f1(tallies),
        "recall": len(found) / max(strong, 1),
        "precision": len(found) / max(len(found) + false, 1),
        "weak found": float(np.mean(weak)) if weak else float("nan"),
        "top1": top1(tallies),
        "top1 by chance": float(np.mean([each.chance for each in found])) if found else float("nan"),
        "delay_s": float(np.median(delays)) / MICROSECONDS if delays else float("nan"),
        "false_week": false_week(tallies),
        "healthy_weeks": sum(tally.healthy_weeks for tally in tallies),
    }


def causes(tallies: Sequence[Tally]) -> Counter[str]:
    """Of the false episodes, wherever."""
    whole: Counter[str] = Counter()
    for tally in tallies:
        whole.update(tally.false)
        whole.update(tally.healthy_false)
    return whole


def missed(tallies: Sequence[Tally]) -> Counter[str]:
    """Faults that had to be found and were not, as machine type, fault and severity."""
    return Counter(
        f"{tally.machine.rpartition('-')[0]} {each.label.name} {each.label.severity:g}"
        for tally in tallies
        for each in tally.strong
        if each.onset is None
    )
