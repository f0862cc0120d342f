r"""Dead letters in words. What a stranger sent is shown escaped: no terminal, and no markup, ever interprets it.

A character that is not printable (controls, bidirectional overrides, zero-width ones, surrogates) is shown by its
code, a backslash as `\\`; so what is shown can be read back, and nothing in it moves the cursor or turns the text.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.clock import MICROSECONDS
from shared.events import at
from shared.settings import no_color

SHOWN_CHARACTERS: Final = 4096
SHOWN_BYTES: Final = 512
FILE_WIDTH: Final = 240
"""Columns of a table that goes to no terminal."""
_SHORT: Final = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_A_LINE: Final = 16
"""Bytes in a line of a hex dump."""
_A_ROW: Final = 100
"""Characters of a text in a line."""


def escaped(text: str) -> str:
    """The text with everything that is not plainly printable as its code."""
    return "".join(each if each.isprintable() and each != "\\" else _code(each) for each in text)


def as_json(value: Any) -> str:  # noqa: ANN401 - JSON
    """JSON in ASCII alone: safe on a terminal too."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def payload_lines(payload: bytes) -> list[str]:
    """Text with its line breaks, or a hex dump where the bytes are not UTF-8; of much of it, the beginning."""
    if not payload:
        return ["(empty)"]
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        lines = [_hex(payload, start) for start in range(0, min(len(payload), SHOWN_BYTES), _A_LINE)]
        return lines + _rest(len(payload) - SHOWN_BYTES, "bytes")
    shown = text[:SHOWN_CHARACTERS].splitlines(keepends=True)
    parts = [line[start : start + _A_ROW] for line in shown for start in range(0, len(line), _A_ROW)]
    return [escaped(part) for part in parts] + _rest(len(text) - SHOWN_CHARACTERS, "characters")


def described(letter: Mapping[str, Any]) -> str:
    """Everything that is known of a letter."""
    rows = [
        ("letter", letter["id"]),
        ("reason", escaped(letter["reason"])),
        ("topic", escaped(letter["topic"])),
        ("refused by", f"{escaped(letter['source'])} at {moment(letter['received_us'])}"),
        ("in the log", f"{moment(letter['logged_us'])}, key {escaped(letter['key'])}"),
        ("state", _state(letter["handled"])),
        ("replay", _way(letter["replay"])),
    ]
    rows += [("rows of", _origin(letter["origin"]))] if letter["origin"] else []
    rows += [("input at", f"position {letter['position']}")] if letter["position"] else []
    rows += [("sha256", f"{escaped(letter['sha256'])} of the whole input")] if letter["sha256"] else []
    payload = base64.b64decode(letter["payload"])
    kept = "" if letter["whole"] else f", of which the first {len(payload)} were kept"
    rows.append(("payload", f"{letter['size']} bytes{kept}"))
    lines = [f"{name:<12}{value}" for name, value in rows]
    return "\n".join(lines + [f"  {line}" for line in payload_lines(payload)]) + "\n"


def print_table(letters: Sequence[Mapping[str, Any]], older: str | None) -> None:
    """One line a letter."""
    console = Console(no_color=no_color(), markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    handled = any(letter["handled"] for letter in letters)
    names = ("letter", "in the log since", "refused by", "bytes", "reason", "topic", *(["state"] * handled))
    table = Table(*names, box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    for letter in letters:
        cells = [
            letter["id"],
            moment(letter["logged_us"])[:19],
            letter["source"],
            str(letter["size"]),
            letter["reason"],
            letter["topic"],
        ]
        cells += [letter["handled"]["outcome"] if letter["handled"] else "open"] * handled
        table.add_row(*(Text(escaped(cell)) for cell in cells))
    if letters:
        console.print(table)
    else:
        console.print("no dead letters")
    if older:
        console.print(f"there are older ones: industrialmind dlq list --before {older}")


def moment(time_us: int) -> str:
    """A time in UTC; as a number if it is no time, since a stranger may have written it."""
    try:
        return at(time_us).isoformat(sep=" ").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return f"{time_us / MICROSECONDS:g} s after 1970"


def _code(character: str) -> str:
    number = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if number < 0x100:  # noqa: PLR2004 - two digits
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"  # noqa: PLR2004 - four digits


def _hex(payload: bytes, start: int) -> str:
    part = payload[start : min(start + _A_LINE, SHOWN_BYTES)]
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)  # noqa: PLR2004 - printable ASCII
    return f"{start:08x}  {part.hex(' '):<47}  |{text}|"


def _rest(count: int, what: str) -> list[str]:
    return [f"... and {count} more {what}: --out FILE writes them all"] if count > 0 else []


def _state(handled: Mapping[str, Any] | None) -> str:
    if handled is None:
        return "open"
    done = f"{handled['outcome']} by {escaped(handled['by'])} at {moment(handled['at_us'])}"
    return f"{done}, {'on' if handled['outcome'] == 'replayed' else 'because:'} {escaped(handled['note'])}"


def _way(replay: Mapping[str, Any]) -> str:
    if replay["via"] is None:
        return f"can't be sent again: {escaped(replay['refusal'])}"
    where = (
        "over MQTT, on its topic" if replay["via"] == "mqtt" else "into its log topic, from its place there"
    )
    return f"{where}; from {moment(replay['from_us'])} on" if replay["from_us"] else where


def _origin(origin: Mapping[str, str]) -> str:
    return escaped(" ".join(f"{name}={value}" for name, value in sorted(origin.items())))
