"""What a point is: measurements, tags, fields, and how they are packed.

A reading is `reading,machine=M,sensor=S value=V,a=A,o=O TIME`: each field costs the server about as much as the value
does, so what is seldom asked for is in two integers. `a`: arrival less time, in µs. `o`: quality, origin (a number
in the books: whose row, and in which unit) and row, so that the server's max(o) tells the worst quality and its last(o)
the unit.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import Misconfigured

Ints = NDArray[np.int64]

READING: Final = "reading"
AGGREGATE: Final = "aggregate"
SCORE: Final = "score"
ROLLUP: Final = "rollup"

KIND_READING: Final = 0
KIND_AGGREGATE: Final = 1
KIND_SCORE: Final = 2

ROW_BITS: Final = 40
ORIGIN_BITS: Final = 21
_ROWS: Final = (1 << ROW_BITS) - 1
_ORIGINS: Final = (1 << ORIGIN_BITS) - 1
_QUALITIES: Final = 7

LATEST_US: Final = 9_223_372_036_854_774
"""The last time that InfluxDB can hold, in µs."""


def pack(quality: Ints | NDArray[np.uint8], origin: Ints, row: Ints) -> Ints:
    """The field `o`. Raises Misconfigured when numbers have run out."""
    if len(row) and (int(row.max()) > _ROWS or int(origin.max()) > _ORIGINS):
        raise Misconfigured(
            f"row {row.max()} or origin {origin.max()} is beyond what a point can hold",
            hint="give the telemetry store a new bucket and new books, and rebuild it from the log",
        )
    packed: Ints = (
        (quality.astype(np.int64) << (ROW_BITS + ORIGIN_BITS)) | (origin.astype(np.int64) << ROW_BITS) | row
    )
    return packed


def unpack(o: Ints) -> tuple[NDArray[np.uint8], Ints, Ints]:
    """Quality, origin and row."""
    quality = ((o >> (ROW_BITS + ORIGIN_BITS)) & _QUALITIES).astype(np.uint8)  # the highest bit is the sign's
    return quality, (o >> ROW_BITS) & _ORIGINS, o & _ROWS


def text(value: str) -> str:
    """A string in a query."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def between(from_us: int, to_us: int) -> str:
    """The condition of a range of time."""
    return f"time >= {clamped(from_us)}u AND time < {clamped(to_us)}u"


def clamped(time_us: int) -> int:
    """A time that InfluxDB can hold."""
    return max(-LATEST_US, min(LATEST_US, time_us))
