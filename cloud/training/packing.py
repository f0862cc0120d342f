"""From a fitted model to an artifact: probe, manifest and graph in one file, whatever the method."""

import hashlib
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np

from cloud.training import limits, onnx
from cloud.training.learnt_range import learn_range
from cloud.training.pca import Scale
from cloud.training.probe import make_probe
from cloud.training.recording import Recording
from shared.artifact import pack, sha256
from shared.clock import MICROSECONDS
from shared.errors import Rejected
from shared.manifest import (
    Calibration,
    GridFields,
    Manifest,
    OperatingFields,
    RuntimeNeeds,
    SensorSpec,
    StateFields,
    TrainingData,
)
from shared.persistence import CALM_LEVEL, calm_windows
from shared.states import StateSpec, by_clusters
from shared.windows import MARGIN_SINCE, STATES_SINCE, Cells, Floats, Ints, Operating, preparation_hash

OPERATING_NOISE = 3.0  # widths of noise beyond the range seen, before any margin
OFF_SHARE = 0.05  # of the largest set-point: at or below it a machine is off


@dataclass(frozen=True)
class Request:
    """What a model is asked for, beside the rows; the arguments of `cloud.training.logic.fit` say what they mean."""

    machine: str
    machine_type: str
    now_us: int
    seed: int = 0
    operating_sensor: str | None = None
    author: str = "industrialmind"
    code_sha: str | None = None
    lock_sha256: str | None = None
    parent: str | None = None
    clusters: bool = False
    labels_as_of_us: int | None = None
    run_sha256: str | None = None


@dataclass(frozen=True)
class Fitted:
    """A fitted model of any method, its limit set.

    Attributes:
        method: Name of the method.
        method_hash: Of its configuration and constants.
        scale: Centre and noise of each sensor's cells, in the recording's order.
        cells: What it was fitted on, and calibrated with.
        ends: The full windows, as numbers of their last cells.
        after: Those of them that the limit was set from.
        healthy: float64, scores of the windows in `after`.
        forward: How much the largest score grew from one part of the training rows to the next.
        limit: The limit.
        budget: What it was set for.
        settle_s: See `cloud.training.logic.Config`.
        score: float64[n, W, S] windows to float64[n] scores and float64[n, S] contributions.
        graph: Writes the ONNX graph.
        parameters: What the method was run with.
        figures: What the method says of itself.
        curves: Values by epoch.
    """

    method: str
    method_hash: str
    scale: Scale
    cells: Cells
    ends: Ints
    after: Ints
    healthy: Floats
    forward: float
    limit: limits.Limit
    budget: limits.Budget
    settle_s: float
    score: Callable[[Floats], tuple[Floats, Floats]]
    graph: Callable[[], bytes]
    parameters: Mapping[str, str | int | float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Figures for the manifest."""
        return {
            "calibration_median": float(np.median(self.healthy)),
            "calibration_max": float(self.healthy.max()),
            **self.figures,
        }

    @property
    def data(self) -> TrainingData:
        """Which rows it saw."""
        return TrainingData(
            first_us=int(self.cells.times_us[0]),
            last_us=int(self.cells.times_us[-1]),
            rows=len(self.cells),
            windows=len(self.ends),
            sha256=hashlib.sha256(self.cells.cells.tobytes()).hexdigest(),
            excluded={"masked": len(self.cells) - len(self.ends)},
        )


def pack_fitted(
    fitted: Fitted, recording: Recording, request: Request, more: Mapping[str, float] | None = None
) -> bytes:
    """The artifact's bytes; `more` metrics join the model's own. Raises Rejected."""
    operating, states = _points(fitted, request)
    prepared = 1 if operating is None and states is None else STATES_SINCE if states else MARGIN_SINCE
    graph = fitted.graph()
    limit, spec = fitted.limit, fitted.cells.spec
    probe = make_probe(
        fitted.score, fitted.scale, fitted.cells, int(fitted.ends[-1]), limit.value, operating, states
    )
    manifest = Manifest(
        onnx_sha256=sha256(graph),
        probe_sha256=sha256(probe.to_json()),
        preparation_version=prepared,
        preparation_sha256=preparation_hash(prepared),
        parent=request.parent,
        method=f"{fitted.method}/{fitted.method_hash[:12]}",
        machine_type=request.machine_type,
        machines=(request.machine,),
        sensors=_sensors(recording, fitted.scale),
        grid=GridFields(
            step_us=spec.step_us,
            window=spec.window,
            max_age=spec.max_age,
            lateness=spec.lateness,
            mask_limit=spec.mask_limit,
        ),
        operating=None if operating is None else OperatingFields(**asdict(operating)),
        states=None if states is None else StateFields(**asdict(states)),
        limit=float(np.float32(limit.value)),
        calibration=Calibration(
            method=limit.method,
            n_eff=limit.n_eff,
            rows=limit.rows,
            decorrelation=limit.decorrelation,
            alpha=limit.alpha,
            margin=limit.margin,
            budget_month=fitted.budget.episodes_month,
            persistence_m=fitted.budget.m,
            persistence_n=fitted.budget.n,
            calm_windows=calm_windows(spec.window, fitted.budget.n),
            calm_level=CALM_LEVEL,
        ),
        provisional=limit.provisional,
        training=training_data(fitted, recording, request),
        seed=request.seed,
        code_sha=request.code_sha,
        lock_sha256=request.lock_sha256,
        run_sha256=request.run_sha256,
        metrics={**fitted.metrics, **(more or {})},
        runtime=RuntimeNeeds(
            opset=onnx.OPSET,
            onnxruntime=onnx.ONNXRUNTIME,
            dtype="float64->float32",
            architectures_tested=(platform.machine(),),
        ),
        created_us=request.now_us,
        author=request.author,
    )
    return pack(graph, manifest, probe)


def training_data(fitted: Fitted, recording: Recording, request: Request) -> TrainingData:
    """Which rows the model saw, which windows were left out and why, and as of when labels were read."""
    spec, data = fitted.cells.spec, fitted.data
    counted = recording.counted(spec.step_us, spec.window * spec.step_us)
    # Windows of the grid that touch what is left out are counted by that, not as masked.
    touch = int(recording.touching(fitted.cells.times_us, spec.window * spec.step_us).sum())
    masked = max(data.excluded["masked"] - touch, 0)
    return data.model_copy(
        update={"excluded": {"masked": masked, **counted}, "labels_as_of_us": request.labels_as_of_us}
    )


def _sensors(recording: Recording, scale: Scale) -> tuple[SensorSpec, ...]:
    made = []
    for index, (name, unit) in enumerate(zip(recording.sensors, recording.units, strict=True)):
        column = recording.values[:, index]
        column = column[np.isfinite(column)]
        low, high = (float(column.min()), float(column.max())) if len(column) else (0.0, 0.0)
        learnt = bool(scale.inverse[index] > 0)
        made.append(SensorSpec(name=name, unit=unit, low=low, high=high, learnt=learnt))
    return tuple(made)


def _points(fitted: Fitted, request: Request) -> tuple[Operating | None, StateSpec | None]:
    """Which operating points were learnt: none told, a range, or the set-points that its values cluster at."""
    sensor = request.operating_sensor
    if sensor is None:
        return None, None
    operating = _operating(fitted, sensor)
    if not request.clusters:
        return operating, None
    index = fitted.cells.spec.sensors.index(sensor)
    column, inverse = fitted.cells.cells[:, index], float(fitted.scale.inverse[index])
    states = by_clusters(
        sensor,
        column,
        off=OFF_SHARE * float(np.nanmax(column)),
        noise=1 / inverse if inverse > 0 else 0.0,
        settle_us=operating.settle * fitted.cells.spec.step_us,
    )
    return None, states


def _operating(fitted: Fitted, sensor: str) -> Operating:
    """The range that the operating sensor had in the fitted windows, widened by its noise, and its margins.

    It is left by as many cells in a row as there are windows that must alarm: what is too little evidence for the one is
    too little for the other.
    """
    names = fitted.cells.spec.sensors
    if sensor not in names:
        raise Rejected(f"the operating sensor {sensor!r} is not among {', '.join(names)}")
    index = names.index(sensor)
    inverse = float(fitted.scale.inverse[index])
    noise = OPERATING_NOISE / inverse if inverse > 0 else 0.0
    spec, leave = fitted.cells.spec, fitted.budget.m
    column = fitted.cells.cells[_covered(fitted), index]
    column = column[np.isfinite(column)]
    if len(column) < leave:
        raise Rejected(f"the operating sensor {sensor!r} has no readings to learn a range from")
    seen = learn_range(column, step_us=spec.step_us, window=spec.window, held=leave, noise=noise)
    settle = math.ceil(fitted.settle_s * MICROSECONDS / spec.step_us)
    return Operating(sensor, seen.low, seen.high, settle, seen.below, seen.above, leave)


def _covered(fitted: Fitted) -> Ints:
    """Numbers of the cells in any of its windows: a set-point that was seen in what is left out was not learnt."""
    count, window = len(fitted.cells), fitted.cells.spec.window
    begins = np.bincount(np.maximum(fitted.ends - window + 1, 0), minlength=count)
    over = np.bincount(fitted.ends + 1, minlength=count + 1)[:count]
    return np.flatnonzero(np.cumsum(begins - over) > 0)
