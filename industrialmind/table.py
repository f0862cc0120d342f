"""Reads a CSV of one machine: first column time, the others numeric sensors. Every mistake is named with its line."""

import csv
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from shared.clock import MICROSECONDS
from shared.errors import Misconfigured, Rejected
from shared.windows import Floats, Ints

_DELIMITERS: Final = (",", ";", "\t")
_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')
_MISSING: Final = frozenset({"", "nan", "na", "n/a", "null", "none", "-", "?"})
_VALUE_MAX: Final = 1e150  # no sensor's; the squares of larger ones are no numbers any more
_VALUE_MIN: Final = 1e-290  # 0 for every purpose; the inverses of smaller ones are no numbers any more
_TIME_MAX: Final = 1e24  # nanoseconds since the epoch are 1e18
_SPAN_MAX: Final = 2**53  # µs; larger spans would lose µs in float64
Read = TypeVar("Read")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Table:
    """A file's rows.

    Attributes:
        path: Where it came from.
        labels: Text of the time column, row by row.
        times: Times as integers or floats (numbers), or in µs (ISO); `numeric` says which.
        numeric: Whether the time column holds numbers.
        sensors: Names of the other columns.
        values: float64[n, S], NaN = an empty cell, or a number that no sensor has (infinite, above 1e150).
    """

    path: Path
    labels: tuple[str, ...]
    times: tuple[int | float, ...]
    numeric: bool
    sensors: tuple[str, ...]
    values: Floats


def read_table(path: Path) -> Table:
    """Read `path`; delimiters `,` `;` and tab, any line end, decimal commas where `;` or tab delimits.

    Columns at the end that have neither a name nor a cell (lines that end in a delimiter) are passed over.

    Raises:
        Misconfigured: There is no such file, or it can't be read.
        Rejected: It is not such a table; the message names line and column.
    """
    return parse_csv(path, _parse)


def parse_csv(path: Path, parse: Callable[[Path, Iterator[list[str]], bool], Read]) -> Read:
    """What `parse` makes of a file's lines, the first included; its third argument is whether commas are decimal.

    Raises:
        Misconfigured: There is no such file, or it can't be read.
        Rejected: It is no CSV in UTF-8, or `parse` says so.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            delimiter = max(_DELIMITERS, key=_QUOTED.sub("", first).count)
            file.seek(0)
            return parse(path, csv.reader(file, delimiter=delimiter), delimiter != ",")
    except OSError as error:
        raise Misconfigured(
            f"{path} can't be read: {error.strerror}", hint="give the path of a CSV file"
        ) from error
    except UnicodeDecodeError as error:
        raise Rejected(f"{path} is not UTF-8 text: save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise Rejected(f"{path} is not a CSV file: {error}") from error


def _parse(path: Path, lines: Iterator[list[str]], comma: bool) -> Table:  # noqa: FBT001 - private
    first = next(lines, [])
    names = header(path, first, "a time column and at least one sensor")
    labels: list[str] = []
    places: list[int] = []
    rows: list[list[float]] = []
    for at_line, line in enumerate(lines, start=2):
        if not any(cell.strip() for cell in line):
            continue
        line = cells(path, at_line, line, names, len(first))  # noqa: PLW2901 - the same line
        try:
            rows.append([float(cell) for cell in line[1:]])
        except ValueError:
            rows.append(
                [number(path, at_line, names[at], cell, comma=comma) for at, cell in enumerate(line[1:], 1)]
            )
        labels.append(line[0].strip())
        places.append(at_line)
    if not rows:
        raise Rejected(f"{path} has no rows below its first line")
    values = usable(np.array(rows, dtype=np.float64).reshape(len(rows), len(names) - 1))
    times, numeric = _times(path, places, labels)
    return Table(path, tuple(labels), times, numeric, tuple(names[1:]), values)


def _trimmed(cells: list[str]) -> list[str]:
    """Without the empty cells at the end."""
    last = max((at for at, cell in enumerate(cells, 1) if cell.strip()), default=0)
    return cells[:last]


def cells(path: Path, at_line: int, line: list[str], names: list[str], first: int) -> list[str]:
    """A line's cells, one a name. Raises Rejected; `first` is how many cells the first line has, named or not."""
    if len(line) > len(names):
        line = [*line[: len(names)], *_trimmed(line[len(names) :])]
    if len(names) < len(line) <= first:
        raise Rejected(f"{path}: column {len(names) + 1} has no name in the first line")
    if len(line) != len(names):
        raise Rejected(f"{path}, line {at_line}: {len(line)} columns, the first line names {len(names)}")
    return line


def usable(values: Floats) -> Floats:
    """NaN for numbers that no sensor has, 0 for those that are 0 for every purpose."""
    return np.where(np.abs(values) <= _VALUE_MAX, np.where(np.abs(values) < _VALUE_MIN, 0.0, values), np.nan)


def header(path: Path, line: list[str], wanted: str) -> list[str]:
    """The columns' names, each different. Raises Rejected, saying that the line must name `wanted`."""
    names = [name.strip() for name in _trimmed(line)]
    if len(names) < 2:  # noqa: PLR2004 - time and one sensor
        raise Rejected(f"{path}: the first line must name {wanted}, separated by , ; or tab")
    if all(_is_number(name) for name in names):
        raise Rejected(f"{path}: the first line holds numbers: put a line with the columns' names above it")
    for at, name in enumerate(names):
        if not name and at:
            raise Rejected(f"{path}: column {at + 1} has no name in the first line")
        if name in names[:at]:
            raise Rejected(f"{path}: two columns are named {name!r}")
    return names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def number(path: Path, line: int, column: str, cell: str, *, comma: bool) -> float:
    """A cell's value, NaN where it is empty. Raises Rejected, naming line and column."""
    text = cell.strip()
    if text.lower() in _MISSING:
        return math.nan
    try:
        return float(text.replace(",", ".") if comma else text)
    except ValueError:
        advice = (
            "put the times first and remove what stands before them"
            if _is_iso(text)
            else "remove columns that are not sensors"
        )
        raise Rejected(
            f"{path}, line {line}, column {column!r}: {text[:40]!r} is not a number; {advice}"
        ) from None


def _is_iso(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _times(path: Path, places: list[int], labels: list[str]) -> tuple[tuple[int | float, ...], bool]:
    """Labels as the first of them is: whole numbers stay exact, however many digits they have."""
    if not _is_number(labels[0]):
        return tuple(_iso_time(path, at, label) for at, label in zip(places, labels, strict=True)), False
    return tuple(_number_time(path, at, label) for at, label in zip(places, labels, strict=True)), True


def _number_time(path: Path, line: int, label: str) -> int | float:
    try:
        value: int | float = int(label)
    except ValueError:
        try:
            value = float(label)
        except ValueError:
            value = math.nan
    if not abs(value) <= _TIME_MAX:  # so is NaN
        raise Rejected(f"{path}, line {line}: {label[:40]!r} is not a time; the first row has a number")
    return value


def _iso_time(path: Path, line: int, label: str) -> int:
    try:
        moment = datetime.fromisoformat(label)
    except ValueError:
        raise Rejected(
            f"{path}, line {line}: {label[:40]!r} is not a time; use ISO 8601 (2024-05-01 06:30:00) or numbers"
        ) from None
    # A file without zones is in one zone, whichever: only differences count.
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def second(known: Table) -> float:
    """µs a unit of time. Numbers have no unit: their usual interval becomes a second. Raises Rejected."""
    if not known.numeric:
        return 1.0
    distinct = np.unique(np.array([float(time - known.times[0]) for time in known.times]))
    if len(distinct) < 2:  # noqa: PLR2004 - one interval
        raise Rejected(f"{known.path}: all rows have the same time")
    factor = MICROSECONDS / float(np.median(np.diff(distinct)))
    if not math.isfinite(factor):
        raise Rejected(f"{known.path}: its times differ by too little to tell them apart")
    return factor


def microseconds(table: Table, factor: float) -> Ints:
    """Times in µs. Raises Rejected for numbers that span more than can be told apart."""
    if not table.numeric:
        return np.array(table.times, dtype=np.int64)
    # From each file's own start: numbers often begin anew in TEST, which is then taken to follow FIT.
    start = min(table.times)
    spans = np.array([float(time - start) * factor for time in table.times])
    if not float(spans.max()) <= _SPAN_MAX:
        raise Rejected(
            f"{table.path}: its times span {float(spans.max()) / MICROSECONDS:.3g} usual intervals of FIT"
        )
    return np.round(spans).astype(np.int64)
