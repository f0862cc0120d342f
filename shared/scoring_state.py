"""What a machine's scoring must remember over a restart, and what a new model inherits."""

from dataclasses import dataclass, field
from typing import Final

import orjson

from shared.errors import Rejected
from shared.persistence import Persistence

VERSION: Final = 1


@dataclass(slots=True)
class ScoringState:
    """Saved in the transaction of the rows and events that it led to."""

    persistence: Persistence | None = None
    peak: float = 0.0
    scored_until_us: int = 0
    crossed: set[tuple[str, str]] = field(default_factory=set)

    def encode(self) -> bytes:
        """As JSON."""
        return orjson.dumps(
            {
                "version": VERSION,
                "persistence": None if self.persistence is None else self.persistence.to_json(),
                "peak": self.peak,
                "scored_until_us": self.scored_until_us,
                "crossed": sorted(self.crossed),
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "ScoringState":
        """From JSON. Raises Rejected."""
        try:
            raw = orjson.loads(data)
            version, text = raw["version"], raw["persistence"]
            state = cls(
                None if text is None else Persistence.from_json(text),
                float(raw["peak"]),
                int(raw["scored_until_us"]),
                {(str(name), str(side)) for name, side in raw["crossed"]},
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise Rejected(f"not a scoring state: {error}") from error
        if version != VERSION:
            raise Rejected(f"scoring state of version {version!r}")
        return state


def carried(old: Persistence | None, m: int, n: int, *, restarted: bool) -> Persistence:
    """A model's persistence: after a restart as it was, after a swap with nothing but the anomaly that is on."""
    if old is not None and restarted and (old.m, old.n) == (m, n):
        return old
    state = orjson.loads(Persistence(m, n).to_json())
    if old is not None and old.active is not None:
        state["onset"] = [old.active.time_us, old.active.first_us]
    return Persistence.from_json(orjson.dumps(state).decode())
