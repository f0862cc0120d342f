"""The uplink's bounds and its acknowledgement: `{"edge", "epoch", "ranges": [[first, last], ...]}` in JSON."""

from dataclasses import dataclass
from typing import Final

import orjson

from shared.errors import Rejected
from shared.ranges import Range

MAX_IN_FLIGHT: Final = 64
CUT_AFTER_SECONDS: Final = 0.1
RESEND_AFTER_SECONDS: Final = 5.0
RESEND_CAP_SECONDS: Final = 60.0
MAX_RANGES: Final = 1000


@dataclass(frozen=True, slots=True)
class Ack:
    """Rows of an edge's epoch that the event log confirmed. Ranges, not a high-water mark."""

    edge: str
    epoch: bytes
    ranges: tuple[Range, ...]

    def encode(self) -> bytes:
        """The JSON bytes."""
        return orjson.dumps({"edge": self.edge, "epoch": self.epoch.hex(), "ranges": self.ranges})

    @classmethod
    def decode(cls, data: bytes) -> "Ack":
        """Parse an ack. Raises Rejected."""
        try:
            raw = orjson.loads(data)
            ranges = tuple((int(first), int(last)) for first, last in raw["ranges"])
            ack = cls(str(raw["edge"]), bytes.fromhex(raw["epoch"]), ranges)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise Rejected(f"not an acknowledgement: {error}") from error
        if len(ranges) > MAX_RANGES or any(first < 1 or last < first for first, last in ranges):
            raise Rejected("the acknowledgement's ranges are out of bounds")
        return ack
