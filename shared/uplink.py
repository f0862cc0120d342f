"""The uplink's bounds and its acknowledgement: `{"edge", "epoch", "ranges": [[first, last], ...]}` in JSON."""

from dataclasses import dataclass
from typing import Final

import orjson

from shared.errors import Rejected
from shared.frames import EPOCH_BYTES
from shared.names import check_id
from shared.ranges import Range

MAX_IN_FLIGHT: Final = 64
CUT_AFTER_SECONDS: Final = 0.1
RESEND_AFTER_SECONDS: Final = 5.0
RESEND_CAP_SECONDS: Final = 60.0
MAX_RANGES: Final = 1000
_MAX_ROW: Final = 2**62


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
            ranges = tuple((first, last) for first, last in raw["ranges"])
            ack = cls(raw["edge"], bytes.fromhex(raw["epoch"]), ranges)
            check_id(ack.edge, "edge")
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise Rejected(f"not an acknowledgement: {error}") from error
        if any(type(row) is not int for pair in ranges for row in pair):
            raise Rejected("the acknowledgement's ranges are not whole numbers")
        if len(ack.epoch) != EPOCH_BYTES:
            raise Rejected(f"an epoch has {EPOCH_BYTES} bytes, not {len(ack.epoch)}")
        if len(ranges) > MAX_RANGES or any(not 1 <= first <= last <= _MAX_ROW for first, last in ranges):
            raise Rejected("the acknowledgement's ranges are out of bounds")
        return ack
