"""From histories that ran to failure to a life artifact."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

import numpy as np
import orjson

from cloud.life.artifact import LifeProbe, pack_life
from cloud.life.figures import SHARES
from cloud.life.logic import Config, LifeModel, fit
from cloud.life.manifest import LifeManifest, RunningRule
from cloud.life.onnx import to_onnx
from cloud.life.preparation import Preparation
from cloud.life.runs import Runs
from cloud.life.told import tell
from cloud.telemetry.facts import HOUR_US, MINUTE_US
from cloud.training.onnx import OPSET
from cloud.training.origin import code_sha, lock_sha256
from shared.artifact import sha256
from shared.errors import Rejected
from shared.windows import Floats

METHOD: Final = "life-trees"
UNITS_FIRM: Final = 39  # with one unit more, the worst of them is the 95 % interval's own end
PROBE_UNITS: Final = 4
PROBE_ROWS: Final = 300  # of a unit


@dataclass(frozen=True)
class Terms:
    """What a person says of the histories (ISO 13381-1).

    Attributes:
        machines: That the model is for.
        failure_criterion: What counts as failure.
        load_assumption: The duty that figures assume.
        cycle_us: Running time that a cycle is.
        author: Who.
        running: What tells that a machine runs; None: it runs where any of its sensors speaks.
    """

    machines: tuple[str, ...]
    failure_criterion: str
    load_assumption: str
    cycle_us: int
    author: str
    running: RunningRule | None = None


@dataclass(frozen=True)
class _Fitted:
    """The fitted trees, as the artifact's graph computes them."""

    model: LifeModel

    def run(self, features: Floats) -> tuple[Floats, Floats]:
        far = np.mean([trees.predict(features) for trees in self.model.far], axis=0)
        return self.model.life(features), np.asarray(far)


def train_life(
    runs: Runs,
    terms: Terms,
    config: Config,
    now_us: int,
    told: Callable[[int, int], None] | None = None,
    running: Floats | None = None,
) -> bytes:
    """The artifact of a model of these units, which each ended in failure; `running`: ages of some that did not. Raises Rejected."""
    running = np.zeros(0) if running is None else np.sort(running)
    step = (
        float(np.median(np.diff(runs.cycles)[np.diff(runs.of_row) == 0]))
        if len(runs.cycles) > len(runs)
        else 0.0
    )
    row_us = round(step * terms.cycle_us)
    if row_us < MINUTE_US or row_us % MINUTE_US:
        raise Rejected(
            f"a row of the histories is {row_us / MINUTE_US:g} min of running, and the store keeps whole minutes: "
            "say how long a cycle is"
        )
    model = fit(runs, config, told, running)
    preparation = Preparation(
        model.columns,
        model.knee,
        model.conditions,
        model.spans,
        model.intervals,
        model.survival,
        model.evidence,
    )
    width = 1 + 4 * len(model.conditions.sensors)
    manifest = LifeManifest(
        onnx_sha256="0" * 64,
        probe_sha256="0" * 64,
        preparation_sha256="0" * 64,
        method=f"{METHOD}/{config.sha256()[:12]}",
        machines=terms.machines,
        sensors=model.columns,
        failure_criterion=terms.failure_criterion,
        load_assumption=terms.load_assumption,
        cycle_us=terms.cycle_us,
        step=step,
        knee=float(model.knee) if np.isfinite(model.knee) else None,
        units=len(runs),
        running_units=len(running),
        running=terms.running,
        rows=len(runs.cycles),
        rows_sha256=sha256(
            orjson.dumps(runs.units) + runs.cycles.tobytes() + runs.values.tobytes() + running.tobytes()
        ),
        provisional=len(runs) < UNITS_FIRM,
        seed=config.seed,
        code_sha=code_sha(),
        lock_sha256=lock_sha256(),
        metrics=_metrics(model, terms),
        opset=OPSET,
        onnxruntime=version("onnxruntime"),
        created_us=now_us,
        author=terms.author,
    )
    probe = _probe(runs, preparation, model)
    return pack_life(
        to_onnx(model.trees, model.far, width, model.knee), manifest, preparation.to_json(), probe
    )


def _metrics(model: LifeModel, terms: Terms) -> dict[str, float]:
    """Of units that were held out; what is a time in hours of running."""
    hours = terms.cycle_us / HOUR_US
    return {
        f"held_out_{name}" if name in SHARES else f"held_out_{name}_hours": value
        * (1 if name in SHARES else hours)
        for name, value in model.figures.items()
    }


def _probe(runs: Runs, preparation: Preparation, model: LifeModel) -> LifeProbe:
    """The first units, cut at different ages, and one whose sensors are unlike all."""
    some = runs.take(np.arange(min(PROBE_UNITS, len(runs))))
    lengths = np.diff(some.starts)
    kept = np.minimum(
        PROBE_ROWS, np.maximum(1, (lengths * np.linspace(0.4, 1.0, len(some))).astype(np.int64))
    )
    cut = some.cut(some.starts[:-1] + kept - 1)
    values = cut.values.copy()
    last = slice(int(cut.starts[-2]), int(cut.starts[-1]))
    values[last] = values[last] * 100 + 1000
    strange = Runs(cut.units, cut.starts, cut.cycles, values, cut.columns)
    told = tell(preparation, _Fitted(model), strange, strange.last)
    return LifeProbe(
        units=tuple(np.repeat(np.array(strange.units, dtype=object), np.diff(strange.starts)).tolist()),
        cycles=tuple(strange.cycles.tolist()),
        rows=tuple(
            tuple(None if np.isnan(each) else each for each in row) for row in strange.values.tolist()
        ),
        life=tuple(each.median for each in told),
        low=tuple(each.ends[90][0] for each in told),
        high=tuple(each.ends[90][1] for each in told),
        evidence=tuple(each.enough for each in told),
    )
