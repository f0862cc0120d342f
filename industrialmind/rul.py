"""`industrialmind rul`: learn on units that ran to failure, and say how long others will last."""

import csv
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cloud.life.runs import Runs
from industrialmind.run_table import read_runs
from shared.errors import Misconfigured, Rejected, lacking


@dataclass(frozen=True)
class RulReport:
    """What `run_rul` did.

    Attributes:
        train_units: Units that ran to failure.
        test_units: Units that were asked about.
        knee: Longest life that is told, None = uncapped.
        conditions: Operating conditions found.
        set_points: Columns that tell them.
        sensors: Columns that were judged.
        open_ended: Units that show no wear yet: read "more than" the lower end.
        little_evidence: Units unlike all that failed: their figures are those of their age alone.
        config: Hash of the configuration.
        out: The file written.
        notes: What to know.
    """

    train_units: int
    test_units: int
    knee: float | None
    conditions: int
    set_points: tuple[str, ...]
    sensors: tuple[str, ...]
    open_ended: tuple[str, ...]
    little_evidence: tuple[str, ...]
    config: str
    out: str
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self)

    def __str__(self) -> str:
        knee = "no knee" if self.knee is None else f"knee at {self.knee:.4g} cycles"
        conditions = f"{self.conditions} operating condition{'' if self.conditions == 1 else 's'}"
        lines = [
            f"{self.train_units} units learnt from, {self.test_units} asked about -> {self.out}",
            f"model {self.config[:12]}: {len(self.sensors)} sensors, {conditions}, {knee}",
        ]
        if self.open_ended:
            lines.append(f"{len(self.open_ended)} show no wear yet: read 'more than rul_lo'")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def run_rul(
    train_path: Path,
    test_path: Path,
    out: Path,
    *,
    cap: float | None = None,
    seed: int = 0,
    rounds: int | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> RulReport:
    """Learn on TRAIN, whose units each end in failure, and write OUT: unit, rul, rul_lo, rul_hi, a row a unit of TEST.

    Args:
        train_path: CSV with the columns unit, cycle, set-points and sensors.
        test_path: The same of units that still run; a column that TRAIN lacks is not used.
        out: File to write; the interval holds nine of ten.
        cap: Longest life that is told; 0 = no cap, None = found on TRAIN.
        seed: Draws what is drawn.
        rounds: Trees of an ensemble, None = as many as usual.
        tell: Takes (done, total) of the fits.

    Raises:
        Misconfigured: A file is not there or can't be written, or scikit-learn is not installed.
        Rejected: A file's content can't be used; the message says where and what to do.
    """
    logic = _logic()
    known, asked = read_runs(train_path), read_runs(test_path)
    if out.exists() and (out.samefile(train_path) or out.samefile(test_path)):
        raise Misconfigured(f"{out} is one of the files that are read", hint="give --out another name")
    missing = [name for name in known.columns if name not in asked.columns]
    if missing:
        raise Rejected(f"{test_path} lacks the columns {', '.join(missing)[:300]} of {train_path}")
    extra = [name for name in asked.columns if name not in known.columns]
    asked = _in_order(asked, known.columns)
    config = logic.Config(cap=cap, seed=seed)
    model = logic.fit(known, config if rounds is None else replace(config, rounds=rounds), tell)
    told = model.estimate(asked)
    _write(out, told.units, told.life, told.low, told.high)
    sensors = tuple(known.columns[at] for at in sorted(model.conditions.sensors.tolist()))
    set_points = tuple(known.columns[point.column] for point in model.conditions.points)
    strange = tuple(unit for unit, enough in zip(told.units, told.evidence, strict=True) if not enough)
    notes = []
    if extra:
        notes.append(
            f"{test_path.name} has columns that {train_path.name} lacks, not used: {', '.join(extra)[:300]}"
        )
    if strange:
        notes.append(
            "not enough evidence, unlike all units that failed; figures are of age alone: "
            + ", ".join(strange)[:300]
        )
    return RulReport(
        train_units=len(known),
        test_units=len(asked),
        knee=float(model.knee) if np.isfinite(model.knee) else None,
        conditions=len(model.conditions.combined),
        set_points=set_points,
        sensors=sensors,
        open_ended=tuple(unit for unit, more in zip(told.units, told.open_ended, strict=True) if more),
        little_evidence=strange,
        config=model.config.sha256(),
        out=str(out),
        notes=tuple(notes),
    )


def parse_cap(text: str) -> float | None:
    """`auto`, `0` or a number of cycles. Raises Misconfigured."""
    if text.strip().lower() == "auto":
        return None
    try:
        cap = float(text)
    except ValueError:
        cap = math.nan
    if not math.isfinite(cap) or cap < 0:
        raise Misconfigured(f"--cap {text!r} is no number of cycles", hint="give a number, 0 or auto")
    return cap


def _logic() -> Any:  # noqa: ANN401 - a module
    """Raises Misconfigured where scikit-learn is not installed."""
    try:
        from cloud.life import logic  # noqa: PLC0415 - a second, and only trainers need it
    except ModuleNotFoundError as error:
        raise lacking(error, "train") from error
    return logic


def _in_order(runs: Runs, columns: tuple[str, ...]) -> Runs:
    return replace(
        runs, columns=columns, values=runs.values[:, [runs.columns.index(name) for name in columns]]
    )


def _write(out: Path, units: tuple[str, ...], *ends: np.ndarray[Any, np.dtype[np.float64]]) -> None:
    part = out.with_name(out.name + ".part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["unit", "rul", "rul_lo", "rul_hi"])
            for unit, *row in zip(units, *(each.tolist() for each in ends), strict=True):
                writer.writerow([unit, *(f"{value:.6g}" for value in row)])
        os.replace(part, out)  # noqa: PTH105 - a crash leaves the old file or the new one, never half
    except OSError as error:
        raise Misconfigured(
            f"{out} can't be written: {error.strerror}", hint="give a path in a folder that exists"
        ) from error
