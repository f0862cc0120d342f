"""Reads a CSV of many units' histories: `unit`, `cycle`, then set-points and sensors. Mistakes are named with their line."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from cloud.life.runs import Runs, make_runs
from industrialmind.table import cells, header, number, parse_csv, usable
from shared.errors import Rejected

UNIT, CYCLE = "unit", "cycle"
_WANTED: Final = "unit, cycle and at least one sensor"


def read_runs(path: Path) -> Runs:
    """Read `path`, as `industrialmind.table` reads a table. Rows come in any order; a unit's name is text.

    Raises:
        Misconfigured: There is no such file, or it can't be read.
        Rejected: It is not such a table; the message names line and column.
    """
    return parse_csv(path, _parse)


def _parse(path: Path, lines: Iterator[list[str]], comma: bool) -> Runs:  # noqa: FBT001 - private
    first = next(lines, [])
    names = header(path, first, _WANTED)
    unit_at, cycle_at, columns = _places(path, names)
    units: list[str] = []
    rows: list[list[float]] = []
    for at_line, line in enumerate(lines, start=2):
        if not any(cell.strip() for cell in line):
            continue
        line = cells(path, at_line, line, names, len(first))  # noqa: PLW2901 - the same line
        unit = line[unit_at].strip()
        values = [number(path, at_line, names[at], line[at], comma=comma) for at in (cycle_at, *columns)]
        if not unit or not math.isfinite(values[0]):
            raise Rejected(f"{path}, line {at_line}: a row needs the name of its unit, and its cycle")
        units.append(unit)
        rows.append(values)
    if not rows:
        raise Rejected(f"{path} has no rows below its first line")
    table = np.array(rows, dtype=np.float64)
    try:
        return make_runs(units, table[:, 0], usable(table[:, 1:]), [names[at] for at in columns])
    except Rejected as error:
        raise Rejected(f"{path}: {error.reason}") from error


def _places(path: Path, names: list[str]) -> tuple[int, int, list[int]]:
    """Where unit, cycle and the rest stand, whichever the case of their letters."""
    lower = [name.lower() for name in names]
    for name in (UNIT, CYCLE):
        if lower.count(name) != 1:
            raise Rejected(f"{path}: the first line must name {_WANTED}; it has not one column {name!r}")
    unit_at, cycle_at = lower.index(UNIT), lower.index(CYCLE)
    columns = [at for at in range(len(names)) if at not in (unit_at, cycle_at)]
    if not columns:
        raise Rejected(f"{path} has no column beside unit and cycle")
    return unit_at, cycle_at, columns
