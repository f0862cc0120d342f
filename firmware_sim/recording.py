"""Reading any CSV recording: exact times, named sensors, and a sentence for whatever is left out."""

import csv
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import yaml
from numpy.typing import NDArray

from firmware_sim import units
from firmware_sim.readings import Recording
from shared.clock import MICROSECONDS
from shared.errors import Misconfigured, Rejected
from shared.names import is_id, slug, slugs

__all__ = ["ColumnRule", "Recording", "read_mapping", "read_recording"]

LABEL_COLUMNS: Final = frozenset(
    {"anomaly", "is-anomaly", "changepoint", "label", "target", "attack", "fault"}
)
# Rows that carry a counter and no time start here, the same at every replay.
COUNTER_START_US: Final = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()) * MICROSECONDS
_EMPTY: Final = frozenset({"", "nan", "na", "n/a", "null", "none", "-"})
_EARLIEST_US: Final = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * MICROSECONDS
_LATEST_US: Final = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp()) * MICROSECONDS
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """What a mapping file says about one column."""

    sensor: str | None = None
    unit: str | None = None
    ignore: bool = False


@dataclass(slots=True)
class _Rows:
    lines: list[int] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)


def read_mapping(path: Path) -> dict[str, ColumnRule]:
    """Read a YAML mapping `columns: {NAME: {sensor: ID, unit: UNIT, ignore: BOOL}}`. Raises Misconfigured."""
    hint = "write `columns: {NAME: {sensor: ID, unit: UNIT, ignore: false}}`"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Misconfigured(f"can't read the mapping {path}: {error}", hint=hint) from error
    columns = document.get("columns") if isinstance(document, dict) else None
    if not isinstance(columns, dict):
        raise Misconfigured(f"the mapping {path} has no table `columns`", hint=hint)
    rules: dict[str, ColumnRule] = {}
    for name, entry in columns.items():
        if not isinstance(entry, dict) or not set(entry) <= {"sensor", "unit", "ignore"}:
            raise Misconfigured(f"the mapping {path} has an unknown entry for column {name!r}", hint=hint)
        sensor = entry.get("sensor")
        if sensor is not None and not is_id(str(sensor)):
            raise Misconfigured(
                f"the mapping {path} names sensor {sensor!r}, which is not an id",
                hint="use a-z, 0-9 and '-', at most 40 characters",
            )
        rules[str(name)] = ColumnRule(
            None if sensor is None else str(sensor), entry.get("unit"), bool(entry.get("ignore", False))
        )
    return rules


def read_recording(
    path: Path,
    *,
    interval_s: float | None = None,
    mapping: Path | None = None,
    keep_columns: Collection[str] = (),
) -> Recording:
    """Read any CSV recording: first column time, the others numeric; delimiter comma, semicolon or tab.

    Times are ISO 8601 (no zone means UTC), epoch seconds, milliseconds or microseconds, or a counter,
    which needs `interval_s`. Columns that look like labels or hold text are left out and noted, unless
    named in `keep_columns`. Rows are put in order of time; a row that repeats is dropped and noted.

    Raises:
        Misconfigured: No such file, a mapping or a column to keep that doesn't fit it.
        Rejected: The file's content can't be a recording; the sentence names the line.
    """
    header, rows = _read_cells(path)
    rules = read_mapping(mapping) if mapping is not None else {}
    for wanted in (*rules, *keep_columns):
        if wanted not in header[1:]:
            raise Misconfigured(
                f"{path.name} has no column {wanted!r}", hint=f"its columns are {', '.join(header[1:])}"
            )
    notes: list[str] = []
    chosen = list(_choose(header, rows, rules, keep_columns, notes))
    if not chosen:
        raise Rejected(f"{path.name} has no numeric column beside its first, which is the time")
    times = _times(path, rows, interval_s)
    values = np.empty((len(times), len(chosen)))
    for index, column in enumerate(chosen):
        values[:, index] = _column(path, header[column], column, rows)
    infinite = int(np.count_nonzero(np.isinf(values)))
    if infinite:
        values[np.isinf(values)] = np.nan
        notes.append(f"{infinite} infinite values left out")
    times, values = _in_order(path, times, values, rows.lines, notes)
    names = [header[column] for column in chosen]
    return Recording(
        times_us=times,
        sensors=_sensor_ids(names, rules),
        values=values,
        units=tuple(_rule(rules, name).unit or units.DIMENSIONLESS for name in names),
        columns=tuple(names),
        notes=tuple(notes),
    )


def _read_text(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Misconfigured(f"can't read {path}: {error.strerror}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise Rejected(f"{path.name} is not text in UTF-8 (byte {error.start})") from error
    if "\0" in text:
        raise Rejected(f"{path.name} is not text: it holds NUL characters")
    lines = text.splitlines()
    if not lines:
        raise Rejected(f"{path.name} is empty")
    return lines


def _read_cells(path: Path) -> tuple[list[str], _Rows]:
    lines = _read_text(path)
    delimiter = max(",;\t", key=lambda mark: len(next(csv.reader([lines[0]], delimiter=mark), [])))
    header = [name.strip() for name in next(csv.reader([lines[0]], delimiter=delimiter), [])]
    if len(header) < 2:  # noqa: PLR2004 - a time and a sensor
        raise Rejected(f"{path.name} has one column: no comma, semicolon or tab in its first line")
    if all(_is_number(name) for name in header):
        raise Rejected(f"{path.name} has no header line: its first line holds only numbers")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise Rejected(f"{path.name} has two columns {twice!r}")
    rows = _Rows()
    reader = csv.reader(lines, delimiter=delimiter)
    for cells in islice(reader, 1, None):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise Rejected(
                f"{path.name} line {reader.line_num}: {len(cells)} cells, the header has {len(header)}"
            )
        rows.lines.append(reader.line_num)
        rows.cells.append(cells)
    if not rows.cells:
        raise Rejected(f"{path.name} has a header and no rows")
    return header, rows


def _choose(
    header: list[str],
    rows: _Rows,
    rules: Mapping[str, ColumnRule],
    keep: Collection[str],
    notes: list[str],
) -> Iterator[int]:
    """Columns that become sensors; the others are noted."""
    for column, name in enumerate(header[1:], start=1):
        if _rule(rules, name).ignore:
            notes.append(f"column {name!r} left out by the mapping")
        elif name in keep or name in rules:
            yield column
        elif slug(name) in LABEL_COLUMNS:
            notes.append(f"column {name!r} left out: it looks like a label (keep it with --keep-column)")
        elif not any(_is_number(cells[column]) for cells in rows.cells):
            notes.append(f"column {name!r} left out: it holds no number")
        else:
            yield column


def _rule(rules: Mapping[str, ColumnRule], name: str) -> ColumnRule:
    return rules.get(name, ColumnRule())


def _sensor_ids(names: list[str], rules: Mapping[str, ColumnRule]) -> tuple[str, ...]:
    return tuple(slugs([_rule(rules, name).sensor or name for name in names]))


def _is_number(text: str) -> bool:
    try:
        _number(text)
    except ValueError:
        return False
    return text.strip().lower() not in _EMPTY


def _number(text: str) -> float:
    """A number with a point or, where the delimiter left it whole, a decimal comma."""
    try:
        return float(text)
    except ValueError:
        return float(text.replace(",", ".", 1))


def _column(path: Path, name: str, column: int, rows: _Rows) -> list[float]:
    values: list[float] = []
    for line, cells in zip(rows.lines, rows.cells, strict=True):
        text = cells[column].strip()
        if text.lower() in _EMPTY:
            values.append(math.nan)
            continue
        try:
            values.append(_number(text))
        except ValueError:
            raise Rejected(
                f"{path.name} line {line}, column {name!r}: {text[:40]!r} is not a number"
            ) from None
    return values


def _times(path: Path, rows: _Rows, interval_s: float | None) -> NDArray[np.int64]:
    """Event times (n,) in µs, exact: no time goes through a float."""
    parse = _time_parser(path, rows.cells[0][0].strip(), interval_s)
    times = np.empty(len(rows.cells), np.int64)
    for index, (line, cells) in enumerate(zip(rows.lines, rows.cells, strict=True)):
        try:
            time_us = parse(cells[0].strip())
        except (ValueError, InvalidOperation, OverflowError):
            raise Rejected(
                f"{path.name} line {line}: time {cells[0][:40]!r} is not like the first row's"
            ) from None
        if not _EARLIEST_US <= time_us < _LATEST_US:
            raise Rejected(
                f"{path.name} line {line}: time {cells[0][:40]!r} is outside the years 2000 to 2100"
            )
        times[index] = time_us
    return times


def _time_parser(path: Path, first: str, interval_s: float | None) -> Callable[[str], int]:
    """How to read the time column, judged by its first cell."""
    try:
        size = abs(Decimal(first))
    except InvalidOperation:
        return _iso_us
    if interval_s is not None:
        step = Decimal(str(interval_s)) * MICROSECONDS
        return lambda text: COUNTER_START_US + round(Decimal(text) * step)
    for limit, scale in (
        (Decimal(10) ** 11, MICROSECONDS),
        (Decimal(10) ** 14, 1000),
        (Decimal(10) ** 17, 1),
    ):
        if Decimal(10) ** 8 <= size < limit:
            return lambda text: round(Decimal(text) * scale)
    raise Misconfigured(
        f"the first column of {path.name} is a counter ({first[:40]}), not a time",
        hint="give --interval SECONDS, the time from one row to the next",
    )


def _iso_us(text: str) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * MICROSECONDS + since.microseconds


def _in_order(
    path: Path, times: NDArray[np.int64], values: NDArray[np.float64], lines: list[int], notes: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows by ascending time, each time once. Raises Rejected if one time has two different values."""
    order = np.argsort(times, kind="stable")
    if (moved := int(np.count_nonzero(np.diff(times) < 0))) > 0:
        notes.append(f"rows put in order of time: it went back {moved} times")
    times, values = times[order], values[order]
    again = np.flatnonzero(np.diff(times) == 0) + 1
    for row in again.tolist():
        before, now = values[row - 1], values[row]
        if bool(np.any((before != now) & ~np.isnan(before) & ~np.isnan(now))):
            raise Rejected(
                f"{path.name} line {lines[int(order[row])]}: the time of line {lines[int(order[row - 1])]} "
                "again with other values; one reading has one time"
            )
        values[row] = np.where(np.isnan(now), before, now)
    if len(again):
        notes.append(f"{len(again)} rows with a repeated time and the same values skipped")
        last = np.append(np.diff(times) != 0, True)
        times, values = times[last], values[last]
    return times, values
