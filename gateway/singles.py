"""The usual case of devices' JSON, many messages at once: each is one good reading. Columns, and no object a message.

What this takes, `shared.device_json.parse_device` would take with the same result; it looks no closer at the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.device_json import AHEAD_US, EARLIEST_US, END_US, MAX_PAYLOAD, QUALITY, time_us_of
from shared.errors import Rejected
from shared.units import UNITS

UNIT_NAMES: Final = tuple(UNITS)
UNIT_NUMBERS: Final = {name: number for number, name in enumerate(UNIT_NAMES)}

_TS, _VALUE, _UNIT, _WORD = itemgetter("ts"), itemgetter("value"), itemgetter("unit"), itemgetter("quality")
_NUMBER_TYPES: Final = {int, float}


@dataclass(frozen=True, slots=True, eq=False)
class Singles:
    """Columns of n readings. `message` int64[n] says whose, ascending; `unit` int64[n] indexes `UNIT_NAMES`."""

    message: NDArray[np.int64]
    unit: NDArray[np.int64]
    time_us: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.message)

    def where(self, kept: NDArray[np.bool_] | NDArray[np.int64]) -> "Singles":
        """Those rows only, or the rows of those numbers."""
        if kept.dtype == np.bool_ and kept.all():
            return self
        return Singles(
            self.message[kept], self.unit[kept], self.time_us[kept], self.value[kept], self.quality[kept]
        )


def join(parts: Sequence[Singles]) -> Singles:
    """The rows of all parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return Singles(
        np.concatenate([part.message for part in parts]),
        np.concatenate([part.unit for part in parts]),
        np.concatenate([part.time_us for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate([part.quality for part in parts]),
    )


def parse_singles(payloads: Sequence[bytes], now_us: int) -> Singles:
    """The rows of those payloads that are one good reading each. The others are not among the `message` numbers."""
    latest_us = min(END_US - 1, now_us + AHEAD_US)
    objects = _objects(payloads)
    return join(_halved(objects, 0, latest_us))


def _objects(payloads: Sequence[bytes]) -> list[Any]:
    """The parsed payloads, None for those that are too long or no JSON."""
    if max(map(len, payloads), default=0) <= MAX_PAYLOAD:
        try:
            return list(map(orjson.loads, payloads))
        except orjson.JSONDecodeError:
            pass
    return [_object(payload) for payload in payloads]


def _object(payload: bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    if len(payload) > MAX_PAYLOAD:
        return None
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None


def _halved(objects: list[Any], first: int, latest_us: int) -> list[Singles]:
    """The columns of all objects; with an odd one among them, those of either half, until it is alone."""
    try:
        return [_columns(objects, first, latest_us)]
    except (KeyError, TypeError, OverflowError, Rejected):
        if len(objects) == 1:
            return [_columns([], first, latest_us)]
        half = len(objects) // 2
        return _halved(objects[:half], first, latest_us) + _halved(objects[half:], first + half, latest_us)


def _columns(objects: list[Any], first: int, latest_us: int) -> Singles:
    """Raises KeyError, TypeError, OverflowError or Rejected if any object is no reading."""
    values = list(map(_VALUE, objects))
    if not set(map(type, values)) <= _NUMBER_TYPES:
        raise TypeError("a value is no number")
    count = len(objects)
    value = np.array(values, np.float64)
    unit = np.fromiter(map(UNIT_NUMBERS.__getitem__, map(_UNIT, objects)), np.int64, count)
    quality = np.fromiter(map(QUALITY.__getitem__, _words(objects)), np.uint8, count)
    time_us, good = _times(list(map(_TS, objects)), latest_us)
    good &= np.isfinite(value)
    message = np.arange(first, first + count, dtype=np.int64)
    return Singles(message, unit, time_us, value, quality).where(good)


def _words(objects: list[Any]) -> list[Any]:
    """The devices' words on quality; good where they say nothing."""
    try:
        return list(map(_WORD, objects))
    except KeyError:
        return [each.get("quality", "good") for each in objects]


def _times(ts: list[Any], latest_us: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Event times in µs, and which of them are within bounds. Raises TypeError, OverflowError, Rejected."""
    kinds = set(map(type, ts))
    if kinds == {int}:
        whole_ms = np.array(ts, np.int64)
        good = (whole_ms >= EARLIEST_US // 1000) & (whole_ms <= latest_us // 1000)
        return whole_ms * 1000, good
    if kinds == {float}:
        ms = np.array(ts, np.float64)
        near = (ms > EARLIEST_US // 1000 - 1) & (ms < latest_us // 1000 + 2)
        ms = np.where(near, ms, 0.0)
        # The whole milliseconds and their fraction apart: both steps are exact, so only the µs are rounded.
        whole = np.trunc(ms)
        time_us = whole.astype(np.int64) * 1000 + np.rint((ms - whole) * 1000).astype(np.int64)
    else:
        time_us = np.array([time_us_of(each) for each in ts], np.int64)
    return time_us, (time_us >= EARLIEST_US) & (time_us <= latest_us)
