"""Values, units, times and quality codes as plants write them. Whatever can't be read for certain raises Rejected."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final, Literal
from zoneinfo import ZoneInfo

import orjson

from shared.clock import MICROSECONDS
from shared.device_json import AHEAD_US, EARLIEST_US, END_US, QUALITY
from shared.errors import Rejected
from shared.events import to_us
from shared.frames import Quality
from shared.units import spelled

Decimal = Literal[".", ","]
QualityCode = Literal["word", "bool", "opc-da", "opc-ua"]
TIME_SCALES: Final = {"s": MICROSECONDS, "ms": 1000, "us": 1}

_SIGN_AND_DIGITS = r"[-+]?(?:\d{1,3}(?:%s\d{3})+|\d+)(?:%s\d+)?(?:[eE][-+]?\d+)?"
_NUMBERS: Final[dict[str, re.Pattern[str]]] = {
    ".": re.compile(rf"({_SIGN_AND_DIGITS % ('[, ]', '[.]')})\s*(.*)", re.ASCII | re.DOTALL),
    ",": re.compile(rf"({_SIGN_AND_DIGITS % ('[. ]', ',')})\s*(.*)", re.ASCII | re.DOTALL),
}
_OFFSET: Final = re.compile(r"([+-])(\d{2}):(\d{2})", re.ASCII)
_WORDS: Final = {
    **QUALITY,
    "ok": Quality.GOOD,
    "valid": Quality.GOOD,
    "invalid": Quality.BAD,
}


def shown(value: object) -> str:
    """A value as a reason shows it."""
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, orjson.JSONEncodeError):
        text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004 - enough to find it


def number(
    raw: object, *, decimal: Decimal | None, words: Mapping[str, float], truth: bool
) -> tuple[float, str]:
    """The number that `raw` is, and the unit that a text has behind it (else empty). Raises Rejected.

    `words` are texts that stand for numbers; `decimal` is the mark in other texts, None refuses those. `truth` takes
    true and false as 1 and 0.
    """
    if type(raw) is float or type(raw) is int or (type(raw) is bool and truth):
        value, unit = float(raw), ""
    elif type(raw) is str and raw.strip() in words:
        value, unit = words[raw.strip()], ""
    elif type(raw) is str and decimal is not None:
        value, unit = _text_number(raw, decimal)
    else:
        raise Rejected(_why_not(raw, words=words))
    if not math.isfinite(value):
        raise Rejected(f"{shown(raw)} is not finite")
    return value, unit


def _text_number(raw: str, decimal: Decimal) -> tuple[float, str]:
    found = _NUMBERS[decimal].fullmatch(raw.strip())
    if found is None or found[2][:1] in {",", ".", "'"} or found[2][:1].isdigit():
        raise Rejected(f"{shown(raw)} is no number with the decimal mark {decimal!r}")
    digits = found[1].replace(" ", "").replace("," if decimal == "." else ".", "").replace(",", ".")
    return float(digits), spelled(found[2]) if found[2] else ""


def _why_not(raw: object, *, words: Mapping[str, float]) -> str:
    match raw:
        case bool():
            return f"{shown(raw)} is a truth value: its unit is '1', or it is no reading"
        case str() if words:
            return f"{shown(raw)} is none of the words {', '.join(sorted(words)[:10])}"
        case str():
            return f"{shown(raw)} is a text: `decimal` or `words` say how to read it"
        case list() | dict():
            return f"{shown(raw)} is a structure, not a number"
    return f"{shown(raw)} is not a number"


def zone(text: str) -> tzinfo:
    """A zone by its name, or a fixed offset such as `+01:00`. Raises ValueError."""
    if text in {"UTC", "Z"}:
        return UTC
    if found := _OFFSET.fullmatch(text):
        offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return timezone(-offset if found[1] == "-" else offset)
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"no time zone {text!r}: write UTC, +01:00 or a name such as Europe/Berlin"
        ) from error


def time_us(raw: object, form: str, at: tzinfo | None) -> int:
    """Exact µs of a time: a number of `s`, `ms`, `us` or `ns`, `iso`, or a pattern with `%`. Raises Rejected.

    `at` is the zone of a time that has none of its own.
    """
    if form in TIME_SCALES or form == "ns":
        return _counted(raw, form)
    if type(raw) is not str:
        raise Rejected(f"time {shown(raw)} is not a text")
    try:
        made = datetime.strptime(raw, form) if "%" in form else datetime.fromisoformat(raw.strip())  # noqa: DTZ007 - its zone follows
    except ValueError as error:
        raise Rejected(f"time {shown(raw)} is not {form}") from error
    if made.tzinfo is None:
        if at is None:
            raise Rejected(f"time {shown(raw)} has no zone, and the mapping names none")
        made = made.replace(tzinfo=at)
    try:
        return to_us(made)
    except (ValueError, OverflowError) as error:
        raise Rejected(f"time {shown(raw)} is no time: {error}") from error


def _counted(raw: object, form: str) -> int:
    if type(raw) is str:
        text = raw.strip()
        try:
            raw = int(text) if text.lstrip("-").isdigit() and len(text) < 25 else float(text)  # noqa: PLR2004
        except ValueError as error:
            raise Rejected(f"time {shown(text)} is not a number of {form}") from error
    if type(raw) is int:
        return raw // 1000 if form == "ns" else raw * TIME_SCALES[form]
    if type(raw) is float and math.isfinite(raw):
        if form == "ns":
            return int(raw / 1000)
        # The whole and the fraction apart: both steps are exact, so only the µs are rounded.
        whole = int(raw)
        return whole * TIME_SCALES[form] + round((raw - whole) * TIME_SCALES[form])
    raise Rejected(f"time {shown(raw)} is not a number of {form}")


def check_time(time: int, now_us: int) -> int:
    """`time` if it is one that is taken. Raises Rejected outside the years 2000 to 2100 and far ahead of this clock."""
    if not EARLIEST_US <= time < END_US:
        raise Rejected("its time is outside the years 2000 to 2100: does the mapping name its unit rightly?")
    if time > now_us + AHEAD_US:
        raise Rejected("its time is more than 10 min ahead of this clock")
    return time


def quality(raw: object, form: QualityCode) -> Quality:
    """A code of a source's own as ours. Raises Rejected for one that is not in its table."""
    match form, raw:
        case "bool", bool():
            return Quality.GOOD if raw else Quality.BAD
        case "word", str() if raw.strip().lower() in _WORDS:
            return _WORDS[raw.strip().lower()]
        # OPC DA: the two bits above the substatus. OPC UA: the two highest of 32 (Part 4, 7.39).
        case "opc-da", int() if type(raw) is int and 0 <= raw <= 0xFFFF:  # noqa: PLR2004
            return (Quality.BAD, Quality.UNCERTAIN, Quality.BAD, Quality.GOOD)[(raw >> 6) & 3]
        case "opc-ua", int() if type(raw) is int and 0 <= raw <= 0xFFFF_FFFF:  # noqa: PLR2004
            return (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.BAD)[raw >> 30]
    raise Rejected(f"quality {shown(raw)} is no {form} code")
