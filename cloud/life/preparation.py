"""Everything of a life model beside its trees, as JSON: what makes features of rows, and intervals of what trees say."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from cloud.life.conditions import Conditions, SetPoint
from cloud.life.evidence import Evidence
from cloud.life.features import Spans
from cloud.life.intervals import Intervals
from cloud.life.survival import Survival
from shared.errors import Rejected


@dataclass(frozen=True)
class Preparation:
    """What was learnt outside the graph. Its JSON gives back the same numbers, bit for bit."""

    columns: tuple[str, ...]
    knee: float
    conditions: Conditions
    spans: Spans
    intervals: Intervals
    survival: Survival
    evidence: Evidence

    def to_json(self) -> bytes:
        """Canonical JSON; an infinite number is null."""
        told = {
            "columns": self.columns,
            "knee": _finite(self.knee),
            "conditions": {
                "points": [
                    [each.column, each.low.tolist(), each.high.tolist()] for each in self.conditions.points
                ],
                "combined": self.conditions.combined.tolist(),
                "sensors": self.conditions.sensors.tolist(),
                "centre": self.conditions.centre.tolist(),
                "inverse": self.conditions.inverse.tolist(),
            },
            "spans": [self.spans.recent, self.spans.level, self.spans.slope, self.spans.drawn],
            "intervals": {
                "predicted": self.intervals.predicted.tolist(),
                "remaining": self.intervals.remaining.tolist(),
                "relative": self.intervals.relative.tolist(),
                "weight": self.intervals.weight.tolist(),
                "units": self.intervals.units,
            },
            "survival": self.survival.lives.tolist(),
            "evidence": {
                "centre": self.evidence.centre.tolist(),
                "inverse": self.evidence.inverse.tolist(),
                "root": self.evidence.root.tolist(),
                "limit": _finite(self.evidence.limit),
            },
        }
        return orjson.dumps(told, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_json(cls, data: bytes) -> "Preparation":
        """Raises Rejected."""
        try:
            return _read(orjson.loads(data))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise Rejected(f"preparation.json can't be read: {error}") from error


def _read(told: dict[str, Any]) -> Preparation:
    conditions, intervals, evidence = told["conditions"], told["intervals"], told["evidence"]
    recent, level, slope, drawn = told["spans"]
    knee = _number(told["knee"])
    points = tuple(
        SetPoint(int(at), np.array(low, float), np.array(high, float))
        for at, low, high in conditions["points"]
    )
    combined = np.array(conditions["combined"], dtype=np.int64).reshape(
        len(conditions["combined"]), len(points)
    )
    return Preparation(
        tuple(map(str, told["columns"])),
        knee,
        Conditions(
            points,
            combined,
            np.array(conditions["sensors"], dtype=np.int64),
            np.array(conditions["centre"], float),
            np.array(conditions["inverse"], float),
        ),
        Spans(float(recent), int(level), int(slope), float(drawn)),
        Intervals(
            np.array(intervals["predicted"], float),
            np.array(intervals["remaining"], float),
            np.array(intervals["relative"], float),
            np.array(intervals["weight"], float),
            int(intervals["units"]),
            knee,
        ),
        Survival(np.array(told["survival"], float)),
        Evidence(
            np.array(evidence["centre"], float),
            np.array(evidence["inverse"], float),
            np.array(evidence["root"], float),
            _number(evidence["limit"]),
        ),
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _number(value: float | None) -> float:
    return np.inf if value is None else float(value)
