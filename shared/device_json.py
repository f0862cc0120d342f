"""Devices' plain JSON: `{"ts": ..., "value": ..., "unit": ..., "quality": ...}` or a list of such objects.

One pass from the payload to columns. An object that can't be accepted becomes a reject with its index and reason;
the others of its batch are kept.
"""

import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import orjson

from shared.clock import MICROSECONDS
from shared.errors import Rejected
from shared.events import to_us
from shared.frames import Quality, Readings
from shared.names import DeviceTopic
from shared.units import check_unit

MAX_BATCH: Final = 1000
MAX_PAYLOAD: Final = 256 * 1024
EARLIEST_US: Final = 946_684_800 * MICROSECONDS  # 2000-01-01
END_US: Final = 4_133_980_800 * MICROSECONDS  # 2101-01-01
AHEAD_US: Final = 600 * MICROSECONDS

_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
QUALITY: Final = {"good": Quality.GOOD, "uncertain": Quality.UNCERTAIN, "bad": Quality.BAD}


@dataclass(frozen=True, slots=True)
class Reject:
    """An object of the payload that was not accepted: its index, why, and its JSON."""

    index: int
    reason: str
    item: bytes


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a payload held. `batch` tells a list from a single live message (only those say how a clock stands)."""

    readings: Readings
    rejects: tuple[Reject, ...]
    batch: bool


def parse_device(topic: DeviceTopic, payload: bytes, *, now_us: int) -> Parsed:
    """The readings of one payload, all arrived at `now_us`. Raises Rejected if it can't be read as a whole."""
    if len(payload) > MAX_PAYLOAD:
        raise Rejected(f"payload of {len(payload)} bytes: the most is {MAX_PAYLOAD}")
    try:
        parsed = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise Rejected(f"not JSON: {error}") from error
    batch = isinstance(parsed, list)
    items: list[Any] = parsed if batch else [parsed]
    if not 1 <= len(items) <= MAX_BATCH:
        raise Rejected(f"a batch has 1 to {MAX_BATCH} objects, not {len(items)}")
    times: list[int] = []
    values: list[float] = []
    qualities: list[int] = []
    sensor: list[int] = []
    units: dict[str, int] = {}
    rejects: list[Reject] = []
    latest_us = min(END_US - 1, now_us + AHEAD_US)
    for index, item in enumerate(items):
        try:
            time_us, value, unit, quality = _row(item, latest_us)
        except Rejected as error:
            rejects.append(Reject(index, error.reason, orjson.dumps(item)))
            continue
        times.append(time_us)
        values.append(value)
        qualities.append(quality)
        sensor.append(units.setdefault(unit, len(units)))
    readings = Readings(
        (topic.sensor,) * len(units),
        tuple(units),
        np.array(sensor, np.int64),
        np.array(times, np.int64),
        np.full(len(times), now_us, np.int64),
        np.array(values, np.float64),
        np.array(qualities, np.uint8),
    )
    return Parsed(readings, tuple(rejects), batch)


def _row(item: object, latest_us: int) -> tuple[int, float, str, int]:
    """Event time in µs, value, unit and quality of one object. Raises Rejected."""
    if not isinstance(item, dict):
        raise Rejected(f"a reading is an object, not {_shown(item)}")
    value = item.get("value")
    if type(value) is not float and type(value) is not int:  # a bool is an int to isinstance
        raise Rejected(f"value is {_shown(value)}, not a number" if "value" in item else "there is no value")
    if not math.isfinite(value):
        raise Rejected("value is not finite")
    time_us = time_us_of(item.get("ts"))
    if not EARLIEST_US <= time_us <= latest_us:
        limit = "is outside the years 2000 to 2100" if not EARLIEST_US <= time_us < END_US else _AHEAD
        raise Rejected(f"ts {_shown(item['ts'])} {limit}")
    unit = item.get("unit")
    if not isinstance(unit, str):
        raise Rejected(f"unit is {_shown(unit)}, not a text" if "unit" in item else "there is no unit")
    check_unit(unit)
    word = item.get("quality", "good")
    quality = QUALITY.get(word) if isinstance(word, str) else None
    if quality is None:
        raise Rejected(f"quality is {_shown(word)}, not good, uncertain or bad")
    return time_us, float(value), unit, quality


_AHEAD: Final = "is more than 10 min ahead of this clock"


def time_us_of(ts: object) -> int:
    """Exact µs of a time in epoch milliseconds or RFC 3339. Raises Rejected."""
    if type(ts) is int:
        return ts * 1000
    if type(ts) is float and math.isfinite(ts):
        # The whole milliseconds and their fraction apart: both steps are exact, so only the µs are rounded.
        whole = int(ts)
        return whole * 1000 + round((ts - whole) * 1000)
    if isinstance(ts, str):
        if not _RFC3339.fullmatch(ts):
            raise Rejected(f"ts {_shown(ts)} is not RFC 3339 with its offset from UTC")
        try:
            return to_us(datetime.fromisoformat(ts.upper()))
        except (ValueError, OverflowError) as error:
            raise Rejected(f"ts {_shown(ts)} is no time: {error}") from error
    raise Rejected("there is no ts" if ts is None else f"ts is {_shown(ts)}, not a time")


def _shown(value: object) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004 - enough to find it
