"""What a run found, as Markdown."""

from collections.abc import Mapping

from bench.judge.figures import over_limits
from bench.judge.gates import GATES
from bench.judge.run import Judged, Spread

COLUMNS = ("f1", "far", "mar", "pr_auc", "hit", "onset", "delay_s", "false_hour", "worst_f1", "scored")


def shown(value: float) -> str:
    """Three places, and a dash for what is not there."""
    return "-" if value != value else f"{value:.3f}"  # noqa: PLR0124 - NaN alone differs from itself


def report(judged: Judged) -> str:
    """A set's tables."""
    lines = [f"## {judged.name}", "", _table(judged), "", _gates(judged), ""]
    for key, (low, high) in judged.intervals.items():
        lines.append(
            f"- {key}, 90 % interval over {len(judged.answers.runs)} runs: {shown(low)} to {shown(high)}."
        )
    rest = {key: value for key, value in judged.ours.items() if key not in COLUMNS}
    lines.append("- " + "; ".join(f"{key} {shown(value.mean)}" for key, value in rest.items()) + ".")
    limits = ", ".join(
        f"{times:g}x {shown(f1)} / {shown(far)}" for times, f1, far in over_limits(judged.answers.runs)
    )
    lines.append(f"- F1 / FAR had the limit been higher or lower: {limits}.")
    about = sorted({each.about for each in judged.answers.runs})
    lines.append(f"- {judged.seconds:.1f} s a seed; {', '.join(about)}.")
    return "\n".join(lines)


def _table(judged: Judged) -> str:
    rows = ["| method | " + " | ".join(COLUMNS) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    rows.append(_row("**shipped**", judged.ours))
    rows += [_row(name, figures) for name, figures in judged.floors.items()]
    return "\n".join(rows)


def _row(name: str, figures: Mapping[str, Spread]) -> str:
    return f"| {name} | " + " | ".join(shown(figures[key].mean) for key in COLUMNS) + " |"


def _gates(judged: Judged) -> str:
    rows = [
        "| figure | gate | mean | least | most | holds | goal | short of the goal by |",
        "| --- |" + " ---: |" * 7,
    ]
    for gate in GATES[judged.name]:
        found = judged.ours[gate.figure]
        distance = gate.distance(found.mean)
        goal = "" if gate.goal is None else f"{gate.sense} {gate.goal:g}"
        rows.append(
            f"| {gate.figure} | {gate.sense} {gate.gate:g} | {shown(found.mean)} | {shown(found.least)} | {shown(found.most)} | "
            f"{'yes' if gate.holds(found.mean) else '**no**'} | {goal} | {'' if distance is None else shown(distance)} |"
        )
    return "\n".join(rows)
