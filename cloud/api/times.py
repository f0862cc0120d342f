"""A time in a query: µs since 1970, RFC 3339, `now`, or so long ago (`-15m`, `15m ago`). Pure."""

import re
from datetime import datetime
from typing import Final

from cloud.telemetry.port import BEGIN_US, END_US
from shared.clock import MICROSECONDS
from shared.errors import Rejected
from shared.events import to_us

DAY_US: Final = 86_400 * MICROSECONDS
_AGO: Final = re.compile(r"(?:-([0-9]{1,9})(s|m|h|d)|([0-9]{1,9}) ?(s|m|h|d) ago)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SHAPES: Final = "µs since 1970, RFC 3339 with its offset, now, or -N with s, m, h or d (also `N h ago`)"


def moment(text: str, now_us: int, name: str) -> int:
    """The time in µs of the query's parameter `name`. Raises Rejected."""
    if ago := _AGO.fullmatch(text):
        found = now_us - int(ago[1] or ago[3]) * _SECONDS[ago[2] or ago[4]] * MICROSECONDS
        return max(BEGIN_US, found)
    if text == "now":
        return now_us
    try:
        found = int(text) if re.fullmatch(r"-?[0-9]{1,20}", text) else _rfc3339(text)
    except (ValueError, OverflowError) as error:
        raise Rejected(f"{name}: {text[:40]!r} is no time: {_SHAPES}") from error
    if not BEGIN_US <= found <= END_US:
        raise Rejected(f"{name}: {text[:40]} is out of bounds")
    return found


def span(start: str, end: str, now_us: int) -> tuple[int, int]:
    """The range [from, to) in µs. Raises Rejected (no time, or the end before the start)."""
    from_us, until_us = moment(start, now_us, "from"), moment(end, now_us, "to")
    if until_us < from_us:
        raise Rejected("to: it is before from")
    return from_us, until_us


def _rfc3339(text: str) -> int:
    # A `+` that a client did not encode arrives as a space.
    found = datetime.fromisoformat(text.replace(" ", "+") if text.count(" ") == 1 and "T" in text else text)
    if found.tzinfo is None:
        raise ValueError("no offset")
    return to_us(found)
