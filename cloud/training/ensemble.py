"""Several fitted models as one: each score over its own unit, the largest counts. Nothing is fitted again but the limit.

- A member's unit is the limit that it would get from the older calibration windows alone, those before the rows that
  models are compared on (`cloud.training.compare`): what is judged there has set nothing.
- The ensemble's limit is set as any other's, from the largest of the members' scores on the calibration windows that all of
  them have. Its margin is the worst of theirs.
- Members see the newest part of the longest window, as much as their own is long.
- Contributions, and the expected levels, are the members', mixed by the eighth power of their scores, as window PCA's time
  scales are: the member that raises the score explains it, and two that come close share it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import orjson

from cloud.training import limits
from cloud.training.compare import HELD
from cloud.training.ensemble_onnx import MIXED_BY, to_onnx
from cloud.training.packing import Fitted
from shared.artifact import sha256
from shared.errors import Rejected
from shared.windows import Floats, Ints

METHOD: Final = "ensemble"


@dataclass(frozen=True)
class Member:
    """A fitted model, its window's length W and its unit."""

    score: Callable[[Floats], tuple[Floats, Floats]]
    window: int
    unit: float


def fit_ensemble(fitted: Sequence[Fitted]) -> Fitted:
    """Of models that were fitted on the same recording at the same step. Raises Rejected: too few calibration windows."""
    ends, after = (_common([getattr(each, name) for each in fitted]) for name in ("ends", "after"))
    if not len(after):
        raise Rejected("the members of an ensemble have no calibration windows in common")
    longest = max(fitted, key=lambda each: each.cells.spec.window)
    units = [_unit(each) for each in fitted]
    healthy = np.max(
        [
            each.healthy[np.searchsorted(each.after, after)] / unit
            for each, unit in zip(fitted, units, strict=True)
        ],
        axis=0,
    )
    forward = max(each.forward for each in fitted)
    spec = longest.cells.spec
    limit = limits.set_limit(
        healthy, window=spec.window, step_us=spec.step_us, budget=longest.budget, forward_ratio=forward
    )
    members = [
        Member(each.score, each.cells.spec.window, unit) for each, unit in zip(fitted, units, strict=True)
    ]

    def graph() -> bytes:
        parts = [(each.graph(), member.unit) for each, member in zip(fitted, members, strict=True)]
        return to_onnx(parts, limit.value, METHOD)

    return Fitted(
        method=METHOD,
        method_hash=sha256(orjson.dumps([[each.method_hash for each in fitted], MIXED_BY, HELD])),
        scale=longest.scale,
        cells=longest.cells,
        ends=ends,
        after=after,
        healthy=healthy,
        forward=forward,
        limit=limit,
        budget=longest.budget,
        settle_s=longest.settle_s,
        score=partial(judge, members),
        graph=graph,
        parameters=_parameters(fitted, spec.window, spec.step_us),
        figures={f"{each.method}.unit": unit for each, unit in zip(fitted, units, strict=True)},
    )


def judge(members: Sequence[Member], windows: Floats) -> tuple[Floats, Floats]:
    """float64[n] scores and float64[n, S] contributions of float64[n, W, S] windows."""
    found = [each.score(np.ascontiguousarray(windows[:, -each.window :])) for each in members]
    scores = np.stack([score / each.unit for (score, _), each in zip(found, members, strict=True)])
    top = scores.max(axis=0)
    part = np.divide(scores, top, out=np.zeros_like(scores), where=top > 0) ** MIXED_BY
    mixed = (part[:, :, None] * np.stack([shares for _, shares in found])).sum(axis=0)
    total = mixed.sum(axis=1, keepdims=True)
    return top, np.divide(mixed, total, out=np.zeros_like(mixed), where=total > 0)


def _unit(fitted: Fitted) -> float:
    spec = fitted.cells.spec
    return limits.set_limit(
        fitted.healthy[: int(len(fitted.healthy) * (1 - HELD))],
        window=spec.window,
        step_us=spec.step_us,
        budget=fitted.budget,
        forward_ratio=fitted.forward,
    ).value


def _common(rows: Sequence[Ints]) -> Ints:
    common = rows[0]
    for more in rows[1:]:
        common = np.intersect1d(common, more, assume_unique=True)
    return common


def _parameters(fitted: Sequence[Fitted], window: int, step_us: int) -> Mapping[str, str | int | float]:
    return {"window": window, "step_us": step_us, "members": ",".join(each.method for each in fitted)}
