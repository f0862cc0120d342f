"""What a run found: as Markdown between the marks of `docs/benchmarks.md`, and as plain figures for a metrics file."""

import math
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.judge.controls import Control
from bench.judge.figures import over_limits
from bench.judge.gates import GATES
from bench.judge.run import Judged, Spread

PAGE: Final = Path(__file__).parents[2] / "docs" / "benchmarks.md"
COLUMNS: Final = (
    "f1",
    "far",
    "mar",
    "pr_auc",
    "hit",
    "onset",
    "delay_s",
    "false_hour",
    "worst_f1",
    "scored",
)
HEADS: Final = ("F1", "FAR", "MAR", "PR-AUC", "hit", "onset", "delay, s", "false/h", "worst F1", "scored")


def shown(value: float) -> str:
    """Three places, and a dash for what is not there."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def host() -> str:
    """Of which commit, when and where."""
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.split(":")[1].strip() for line in cpu if line.startswith("model name")), "?")
    return (
        f"{commit()}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {os.cpu_count()} cores of {model}; "
        f"Python {platform.python_version()}"
    )


def commit(folder: Path = PAGE.parent.parent) -> str:
    """Which code this is; that it differs from the commit is said. The page itself changes from set to set: only code counts."""
    git = shutil.which("git")
    if git is None:
        return "commit unknown"
    asked = [git, "-C", str(folder)]
    head = subprocess.run(
        [*asked, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    if head.returncode:
        return "commit unknown"
    same = (
        subprocess.run([*asked, "diff", "--quiet", "HEAD", "--", "*.py", "*.toml"], check=False).returncode
        == 0
    )
    return f"commit `{head.stdout.strip()}`{'' if same else ' with changes'}"


def section(judged: Judged, controls: Sequence[Control], configuration: str, seeds: Sequence[int]) -> str:
    """A set's tables."""
    about = ", ".join(sorted({each.about for each in judged.answers.runs}))
    lines = [
        f"Configuration `{configuration[:12]}`, seeds {', '.join(map(str, seeds))}; {host()}; {about}.",
        "",
        _table(judged),
        "",
        _gates(judged),
        "",
    ]
    runs = len(judged.answers.runs)
    lines.append(f"- {judged.seconds:.1f} s a seed for fitting and scoring {runs} runs.")
    for key, (low, high) in judged.intervals.items():
        if not math.isnan(low):
            lines.append(f"- {key}: {shown(low)} to {shown(high)} with 90 % over the {runs} runs.")
    rest = {key: value for key, value in judged.ours.items() if key not in COLUMNS}
    lines.append("- " + "; ".join(f"{key} {shown(value.mean)}" for key, value in rest.items()) + ".")
    limits = ", ".join(
        f"{times:g}x {shown(f1)} / {shown(far)}" for times, f1, far in over_limits(judged.answers.runs)
    )
    lines.append(f"- F1 / FAR had the limit been so many times what it is: {limits}.")
    if controls:
        lines += ["", _controls(controls)]
    return "\n".join(lines)


def _table(judged: Judged) -> str:
    rows = ["| method | " + " | ".join(HEADS) + " |", "| --- |" + " ---: |" * len(HEADS)]
    rows.append(_row("**shipped**", judged.ours))
    rows += [_row(name, figures) for name, figures in judged.floors.items()]
    return "\n".join(rows)


def _row(name: str, figures: Mapping[str, Spread]) -> str:
    return f"| {name} | " + " | ".join(shown(figures[key].mean) for key in COLUMNS) + " |"


def _gates(judged: Judged) -> str:
    rows = [
        "| figure | gate | mean | least | most | holds | goal | short of it by |",
        "| --- |" + " ---: |" * 7,
    ]
    for gate in GATES[judged.name]:
        found = judged.ours[gate.figure]
        distance = gate.distance(found.mean)
        goal = "" if gate.goal is None else f"{gate.sense} {gate.goal:g}"
        rows.append(
            f"| {gate.figure} | {gate.sense} {gate.gate:g} | {shown(found.mean)} | {shown(found.least)} | "
            f"{shown(found.most)} | {'yes' if gate.holds(found.mean) else '**no**'} | {goal} | "
            f"{'' if distance is None else shown(distance)} |"
        )
    return "\n".join(rows)


def _controls(controls: Sequence[Control]) -> str:
    rows = ["| control | moved | allowed | holds |", "| --- | ---: | ---: | ---: |"]
    rows += [
        f"| {each.name} | {each.moved:.2g} | {each.allowed:g} | {'yes' if each.holds else '**no**'} |"
        for each in controls
    ]
    return "\n".join(rows)


def plain(
    judged: Judged, controls: Sequence[Control], configuration: str, seeds: Sequence[int]
) -> dict[str, Any]:
    """The same for a metrics file."""
    return {
        "set": judged.name,
        "configuration": configuration,
        "seeds": list(seeds),
        "shipped": {key: _spread(value) for key, value in judged.ours.items()},
        "floors": {
            name: {key: _number(value.mean) for key, value in figures.items()}
            for name, figures in judged.floors.items()
        },
        "intervals": {key: [_number(low), _number(high)] for key, (low, high) in judged.intervals.items()},
        "gates": {gate.figure: gate.holds(judged.ours[gate.figure].mean) for gate in GATES[judged.name]},
        "controls": {each.name: {"moved": each.moved, "holds": each.holds} for each in controls},
    }


def _spread(value: Spread) -> dict[str, float | None]:
    return {"mean": _number(value.mean), "least": _number(value.least), "most": _number(value.most)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
