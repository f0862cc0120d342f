"""A host's word on itself, on `spBv1.0/STATE/{host}`: JSON, retained, QoS 1."""

from dataclasses import dataclass
from typing import Self

import orjson

from shared.errors import Rejected


@dataclass(frozen=True, slots=True)
class HostState:
    """Whether the host is online, and since when (ms since 1970 UTC).

    The will that a host leaves at its connect and the birth after it carry one timestamp, so that a will that the
    broker publishes late is told from the newer birth.
    """

    online: bool
    timestamp_ms: int

    def encode(self) -> bytes:
        """The JSON bytes."""
        return orjson.dumps({"online": self.online, "timestamp": self.timestamp_ms})

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Parse a STATE message. Raises Rejected."""
        try:
            raw = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise Rejected(f"STATE is not JSON: {error}") from error
        match raw:
            case {"online": bool(online), "timestamp": int(timestamp)} if (
                timestamp is not True and timestamp >= 0
            ):
                return cls(online, int(timestamp))
        raise Rejected("STATE needs a boolean `online` and a `timestamp` in ms")
