"""What a machine's scoring must remember over a restart, and what a new model inherits."""

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from shared.errors import Rejected
from shared.persistence import Persistence

VERSION: Final = 2
_READS: Final = (1, VERSION)


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A machine is being worked on, until `until_us` in the edge's own time if that is told: its scores raise nothing."""

    until_us: int | None
    by: str
    why: str = ""


@dataclass(slots=True)
class ScoringState:
    """Saved in the transaction of the rows and events that it led to.

    `crossed`: the plain limits that are crossed, each as [sensor, side, onset, value, limit, unit]. `operating`: what
    follows the operating state, in its own form.
    """

    persistence: Persistence | None = None
    peak: float = 0.0
    scored_until_us: int = 0
    crossed: list[list[Any]] = field(default_factory=list)
    operating: dict[str, Any] | None = None
    maintenance: Maintenance | None = None

    def encode(self) -> bytes:
        """As JSON."""
        return orjson.dumps(
            {
                "version": VERSION,
                "persistence": None if self.persistence is None else self.persistence.to_json(),
                "peak": self.peak,
                "scored_until_us": self.scored_until_us,
                "crossed": self.crossed,
                "operating": self.operating,
                "maintenance": self.maintenance,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> "ScoringState":
        """From JSON. Version 1 knew of a crossed limit no more than its sensor and side. Raises Rejected."""
        try:
            raw = orjson.loads(data)
            version, text, mode = raw["version"], raw["persistence"], raw.get("maintenance")
            if version not in _READS:
                raise Rejected(f"scoring state of version {version!r}")
            unknown = [] if version > 1 else [0, 0.0, 0.0, ""]
            state = cls(
                None if text is None else Persistence.from_json(text),
                float(raw["peak"]),
                int(raw["scored_until_us"]),
                [[*each, *unknown] for each in raw["crossed"]],
                raw.get("operating"),
                None if mode is None else Maintenance(mode["until_us"], mode["by"], mode["why"]),
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise Rejected(f"not a scoring state: {error}") from error
        return state


def carried(
    old: Persistence | None, m: int, n: int, clear: int | None = None, *, restarted: bool
) -> Persistence:
    """A model's persistence: after a restart as it was, after a swap with nothing but the anomaly that is on."""
    fresh = Persistence(m, n, clear)
    if old is not None and restarted and (old.m, old.n, old.clear) == (m, n, fresh.clear):
        return old
    state = orjson.loads(fresh.to_json())
    if old is not None and old.active is not None:
        state["onset"] = [old.active.time_us, old.active.first_us]
    return Persistence.from_json(orjson.dumps(state).decode())
