"""Dead letters: what could not be accepted, kept with the reason, so that it can be looked at and replayed."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

import orjson

from shared.errors import Rejected

VERSION: Final = 1
MAX_PAYLOAD: Final = 64 * 1024
HEAD_BYTES: Final = 4096
_MAX_TEXT: Final = 1000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused input. `payload` is all of it, or its head if `sha256` is set; `size` is the whole's length.

    `source` is the edge or gateway that refused it, `received_us` when, `position` where in a log it was, if it was.
    """

    reason: str
    topic: str
    source: str
    received_us: int
    payload: bytes
    size: int
    sha256: str = ""
    position: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        reason: str,
        topic: str,
        payload: bytes,
        *,
        source: str,
        received_us: int,
        position: Mapping[str, int] | None = None,
    ) -> Self:
        """A dead letter within its bounds: a payload over 64 KiB is kept as its head and its SHA-256."""
        whole = len(payload) <= MAX_PAYLOAD
        return cls(
            _bounded(reason),
            _bounded(topic),
            source,
            received_us,
            payload if whole else payload[:HEAD_BYTES],
            len(payload),
            "" if whole else hashlib.sha256(payload).hexdigest(),
            dict(position or {}),
        )

    @property
    def whole(self) -> bool:
        """Whether `payload` is all of it, so that it can be replayed."""
        return not self.sha256

    def encode(self) -> bytes:
        """The JSON bytes (at most about 90 KiB)."""
        return orjson.dumps(
            {
                "version": VERSION,
                "reason": self.reason,
                "topic": self.topic,
                "source": self.source,
                "received_us": self.received_us,
                "position": dict(self.position),
                "size": self.size,
                "sha256": self.sha256,
                "payload": base64.b64encode(self.payload).decode(),
            },
            option=orjson.OPT_SORT_KEYS,
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse a dead letter. Raises Rejected."""
        try:
            raw = orjson.loads(data)
            if raw["version"] != VERSION:
                raise Rejected(f"dead letter version {raw['version']!r}: this release reads {VERSION}")
            return cls(
                str(raw["reason"]),
                str(raw["topic"]),
                str(raw["source"]),
                int(raw["received_us"]),
                base64.b64decode(raw["payload"], validate=True),
                int(raw["size"]),
                str(raw["sha256"]),
                {str(partition): int(offset) for partition, offset in raw["position"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise Rejected(f"not a dead letter: {error}") from error


def _bounded(text: str) -> str:
    """Bounded, and UTF-8 whatever it was made from."""
    return text[:_MAX_TEXT].encode("utf-8", "replace").decode()
