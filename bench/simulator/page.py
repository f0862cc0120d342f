"""What a run found: as Markdown between the marks of `docs/benchmarks.md`, and as plain figures for a metrics file."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from bench.judge.gates import Gate
from bench.judge.page import host, shown
from bench.simulator.faults import FAULTS
from bench.simulator.matching import Tally, causes, f1, false_week, missed, top1
from bench.simulator.methods import DELIVERED
from bench.simulator.run import Judged
from cloud.training.measures.bootstrap import interval

COLUMNS: Final = (
    "f1",
    "recall",
    "precision",
    "weak found",
    "top1",
    "top1 by chance",
    "delay_s",
    "false_week",
)
HEADS: Final = ("F1", "recall", "precision", "weak found", "top-1", "by chance", "delay, s", "false/week")
GATES: Final = (
    Gate("f1", "≥", 0.90),
    Gate("top1", "≥", 0.80),
    Gate("false_week", "≤", 1.0),
    Gate("healthy_weeks", "≥", 50.0),
)
PCA_FIGURE: Final = "PCA's f1"
PCA_MOST: Final = 0.80
WEAR_FIGURE: Final = "slow wear that became normal"
INTERVALS: Final[dict[str, Callable[[Sequence[Tally]], float]]] = {
    "f1": f1,
    "top1": top1,
    "false_week": false_week,
}


def intervals(judged: Judged) -> dict[str, tuple[float, float]]:
    """90 % of each figure of what is delivered, over machines."""
    tallies = judged.tallies[DELIVERED]
    return {name: interval(tallies, figure) for name, figure in INTERVALS.items()}


def held(judged: Judged) -> dict[str, bool]:
    """Every line of the specification, and whether it holds. F1 is to be above its gate, PCA below its own."""
    ours = judged.figures(DELIVERED)
    found = {gate.figure: gate.holds(ours[gate.figure]) for gate in GATES}
    found["f1"] = ours["f1"] > GATES[0].gate
    found[PCA_FIGURE] = judged.figures("PCA")["f1"] < PCA_MOST
    found[WEAR_FIGURE] = not any(each.normal for each in judged.worn)
    return found


def section(judged: Judged, configuration: str) -> str:
    """The tables."""
    strong = sum(len(each.strong) for each in judged.tallies[DELIVERED])
    lines = [
        f"Faults `{FAULTS.name}`, sha256 `{judged.spec.sha256}`; configuration `{configuration[:12]}`; {host()}.",
        "",
        (
            f"Seeds {', '.join(map(str, judged.seeds))}, one machine of each type each: {len(judged.delivered)} machines, "
            f"{strong} faults that have to be found."
        ),
        "",
        "| method | " + " | ".join(HEADS) + " |",
        "| --- |" + " ---: |" * len(HEADS),
        *(_row(name, judged.figures(name)) for name in judged.tallies),
        "",
        _gates(judged),
        "",
        *_notes(judged),
    ]
    return "\n".join(lines)


def _row(name: str, figures: dict[str, float]) -> str:
    return f"| {name} | " + " | ".join(shown(figures[key]) for key in COLUMNS) + " |"


def _gates(judged: Judged) -> str:
    ours, holds, between = judged.figures(DELIVERED), held(judged), intervals(judged)
    rows = [
        "| figure | gate | pooled | least seed | most | 90 % over machines | holds |",
        "| --- |" + " ---: |" * 6,
    ]
    for gate in GATES:
        over = judged.spread(DELIVERED, gate.figure)
        low, high = between.get(gate.figure, (float("nan"), float("nan")))
        spread = f"{shown(low)} to {shown(high)}" if gate.figure in between else ""
        sense = ">" if gate.figure == "f1" else gate.sense
        each = (
            (shown(over.least), shown(over.most))
            if gate.figure in between
            else (f"{over.least:g}", f"{over.most:g}")
        )
        rows.append(
            f"| {gate.figure} | {sense} {gate.gate:g} | {shown(ours[gate.figure])} | {each[0]} | {each[1]} | "
            f"{spread} | {_word(holds[gate.figure])} |"
        )
    pca = judged.spread("PCA", "f1")
    rows.append(
        f"| {PCA_FIGURE} | < {PCA_MOST:g} | {shown(judged.figures('PCA')['f1'])} | {shown(pca.least)} | {shown(pca.most)} "
        f"|  | {_word(holds[PCA_FIGURE])} |"
    )
    rows.append(
        f"| {WEAR_FIGURE} | 0 of {len(judged.worn)} | {sum(each.normal for each in judged.worn)} |  |  |  | "
        f"{_word(holds[WEAR_FIGURE])} |"
    )
    return "\n".join(rows)


def _word(holds: bool) -> str:  # noqa: FBT001 - the datum itself
    return "yes" if holds else "**no**"


def _notes(judged: Judged) -> list[str]:
    tallies = judged.tallies[DELIVERED]
    named = [each.named for each in judged.worn if each.named is not None]
    learnt = max((each.learnt for each in judged.worn), default=0.0)
    chosen = ", ".join(f"{name} {count}" for name, count in Counter(judged.delivered).most_common())
    return [
        f"- Delivered: {chosen}.",
        f"- Its false episodes, of all weeks: {_counts(causes(tallies))}.",
        f"- What it missed: {_counts(missed(tallies))}.",
        "- By machine type, F1 and false episodes a healthy week: " + _by_type(tallies) + ".",
        (
            f"- Slow wear is called degradation {shown_days(named)} after it began; by then schedules had trained over at most "
            f"{learnt:.2g} of its 4 sigma. Trainings after that: {sum(each.trained_after for each in judged.worn)}."
        ),
        f"- {judged.seconds / 60:.0f} min for all of it.",
    ]


def shown_days(named: Sequence[float]) -> str:
    """The median and the most."""
    return f"{np.median(named):g} days (at most {max(named):g})" if named else "never"


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in found.most_common()) or "none"


def _by_type(tallies: Sequence[Tally]) -> str:
    kinds = dict.fromkeys(each.machine.rpartition("-")[0] for each in tallies)
    parts = []
    for kind in kinds:
        own = [each for each in tallies if each.machine.rpartition("-")[0] == kind]
        parts.append(f"{kind} {shown(f1(own))} / {shown(false_week(own))}")
    return ", ".join(parts)


def plain(judged: Judged, configuration: str) -> dict[str, Any]:
    """The same for a metrics file."""
    return {
        "set": "SIMULATOR",
        "faults": {"file": FAULTS.name, "sha256": judged.spec.sha256},
        "configuration": configuration,
        "seeds": list(judged.seeds),
        "methods": {
            name: {
                key: None if np.isnan(value) else round(value, 6)
                for key, value in judged.figures(name).items()
            }
            for name in judged.tallies
        },
        "intervals": {
            name: [round(low, 6), round(high, 6)] for name, (low, high) in intervals(judged).items()
        },
        "delivered": dict(Counter(judged.delivered)),
        "missed": dict(missed(judged.tallies[DELIVERED])),
        "false": dict(causes(judged.tallies[DELIVERED])),
        "gates": held(judged),
    }
