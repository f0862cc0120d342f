"""Assets as CSV: one table, the columns `kind`, `id` and every field; attributes as JSON.

A spreadsheet takes a cell that begins with = + - @, tab or an end of line for a formula or drops what it begins with.
Texts like that get an apostrophe in front on the way out and lose it on the way in; numbers stay numbers.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import orjson

from cloud.assets.model import COLUMNS, FIELDS, KINDS, Kind
from cloud.assets.sheet import MAX_ROWS, Row, Unreadable, is_text

_RISKY: Final = frozenset("=+-@\t\r\n")
_QUOTE: Final = "'"
_DELIMITERS: Final = (",", ";", "\t")
_MAX_CELL: Final = 64 << 10


def write_csv(rows: Iterable[Row]) -> str:
    """The file."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(("kind", "id", *COLUMNS))
    for row in rows:
        cells = [_cell(row.fields.get(name)) for name in COLUMNS]
        writer.writerow((row.kind.value, row.id, *cells))
    return out.getvalue()


def read_csv(text: str) -> list[Row]:
    """Read back; delimiters are comma, semicolon or tab, empty cells say nothing. Raises Unreadable."""
    first = text.split("\n", 1)[0]
    csv.field_size_limit(_MAX_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count))
    try:
        return list(_rows(reader))
    except csv.Error as error:
        raise Unreadable(reader.line_num, f"this is no CSV: {error}") from error


def neutral(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    risky = text[:1] in _RISKY if text else False
    return _QUOTE + text if risky or _escaped(text) else text


def restored(cell: str) -> str:
    """The text that `neutral` was given."""
    return cell[1:] if _escaped(cell) else cell


def _escaped(text: str) -> bool:
    return text[:1] == _QUOTE and len(text) > 1 and (text[1] in _RISKY or text[1] == _QUOTE)


def _cell(value: Any) -> str:  # noqa: ANN401 - any field
    match value:
        case None:
            return ""
        case dict():
            return orjson.dumps(value).decode()
        case str():
            return neutral(value)
    return repr(value)


def _rows(reader: Any) -> Iterator[Row]:  # noqa: ANN401 - csv's reader has no public type
    names = [name.strip().lower() for name in next(reader, [])]
    names[:1] = [name.removeprefix("\ufeff") for name in names[:1]]
    _check_header(names)
    end = reader.line_num
    for count, cells in enumerate(reader):
        line, end = end + 1, reader.line_num
        if not any(cell.strip() for cell in cells):
            continue
        if count >= MAX_ROWS:
            raise Unreadable(line, f"more than {MAX_ROWS:,} rows")
        if len(cells) != len(names):
            raise Unreadable(line, f"{len(cells)} cells, the first line names {len(names)}")
        yield _row(line, dict(zip(names, cells, strict=True)))


def _check_header(names: Sequence[str]) -> None:
    for wanted in ("kind", "id"):
        if wanted not in names:
            raise Unreadable(1, f"the first line must name the columns; {wanted!r} is not among them")
    for at, name in enumerate(names):
        if name not in ("kind", "id", *COLUMNS):
            raise Unreadable(1, f"unknown column {name[:40]!r}: there are kind, id, {', '.join(COLUMNS)}")
        if name in names[:at]:
            raise Unreadable(1, f"two columns are named {name!r}")


def _row(line: int, cells: dict[str, str]) -> Row:
    kind_name, asset = cells.pop("kind").strip(), cells.pop("id").strip()
    if kind_name not in KINDS:
        raise Unreadable(line, f"kind: {kind_name[:40]!r} is none; there are {', '.join(Kind)}")
    kind = Kind(kind_name)
    fields: dict[str, Any] = {}
    for name, cell in cells.items():
        if not cell:
            continue
        if name not in FIELDS[kind].model_fields:
            raise Unreadable(line, f"{name}: a {kind} has no such field")
        fields[name] = _value(line, kind, name, restored(cell))
    return Row(line, kind, asset, fields)


def _value(line: int, kind: Kind, name: str, text: str) -> Any:  # noqa: ANN401 - any field
    if is_text(kind, name):
        return text
    if name == "attributes":
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise Unreadable(line, f"attributes: not JSON: {error}") from error
    try:
        return float(text)
    except ValueError:
        raise Unreadable(line, f"{name}: {text[:40]!r} is not a number") from None
