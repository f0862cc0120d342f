"""Zones A to D of a machine's velocity RMS, and steps in it, by the limits of its class. Pure but for reading the table.

Source: ISO 20816-3:2022 for the zones and their boundaries (in `vibration_limits.toml`); ISO 20816-1:2016, criterion II, for
steps: a change by more than 25 % of the boundary B/C is significant even inside a zone, up or down.
"""

import statistics
import tomllib
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from shared.errors import Misconfigured

TABLE: Final = Path(__file__).with_name("vibration_limits.toml")
STEP_SHARE: Final = 0.25
MIN_RPM: Final = 600.0
"""Below, the standard wants frequencies from 2 Hz on, which 10 to 1,000 Hz leaves out: no zone."""
_RETURN: Final = 0.95
"""A better zone is taken once the value is so far below the boundary: a value on it must not flutter."""
_BASELINE: Final = 10  # blocks
_BASELINE_LEAST: Final = 5
_CONDITIONS: Final = 16


class Boundaries(BaseModel):
    """The limits of one class, RMS velocity in mm/s."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    ab: float = Field(gt=0)
    bc: float = Field(gt=0)
    cd: float = Field(gt=0)

    @model_validator(mode="after")
    def _ascend(self) -> Self:
        if not self.ab < self.bc < self.cd:
            raise ValueError("ab, bc and cd must ascend")
        return self

    def zone(self, velocity: float, before: str = "") -> str:
        """`A` to `D` for an RMS velocity in mm/s; `before` is the zone until now, left for a better one a little late."""
        limits = (("D", self.cd), ("C", self.bc), ("B", self.ab))
        for name, limit in limits:
            if velocity > limit * (_RETURN if before >= name else 1.0):
                return name
        return "A"


def read_limits(path: Path | None = None) -> Mapping[str, Boundaries]:
    """The table of classes, ours or a person's own. Raises Misconfigured."""
    chosen = path or TABLE
    try:
        raw = tomllib.loads(chosen.read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, Boundaries]).validate_python(raw)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(
            f"the vibration limits can't be read: {error}", hint=f"look at {chosen}"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Misconfigured(f"vibration limits: {where}: {first['msg']}", hint=f"look at {chosen}") from error


@dataclass(frozen=True, slots=True)
class Step:
    """A velocity that left its baseline by more than `allowed`; all in mm/s RMS."""

    value: float
    baseline: float
    allowed: float


@dataclass(slots=True)
class Severity:
    """One measuring point with a class: its zone, and the baseline of each operating condition, the newest 16.

    Like is compared with like: a value belongs to the condition (speed, operating state) that it was measured in.
    """

    zone: str = ""
    _baselines: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def take(self, velocity: float, limits: Boundaries, condition: str) -> tuple[bool, Step | None]:
        """A value in mm/s RMS, measured in steady state: whether the zone changed, and the step if it is one."""
        before, self.zone = self.zone, limits.zone(velocity, self.zone)
        known = self._baselines.setdefault(condition, deque(maxlen=_BASELINE))
        self._baselines.move_to_end(condition)
        if len(self._baselines) > _CONDITIONS:
            self._baselines.popitem(last=False)
        step = None
        if len(known) >= _BASELINE_LEAST:
            baseline, allowed = statistics.median(known), STEP_SHARE * limits.bc
            if abs(velocity - baseline) > allowed:
                step = Step(velocity, baseline, allowed)
                known.clear()  # what comes is compared with the new level
        known.append(velocity)
        return self.zone != before, step

    def to_json(self) -> dict[str, Any]:
        """What a restart needs."""
        return {
            "zone": self.zone,
            "baselines": [[name, list(each)] for name, each in self._baselines.items()],
        }

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """From `to_json`. Raises KeyError, TypeError or ValueError for what is none."""
        made = cls(str(kept["zone"]))
        for name, values in kept["baselines"]:
            made._baselines[str(name)] = deque((float(value) for value in values), maxlen=_BASELINE)
        return made
