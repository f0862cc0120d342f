"""Fits a machine's anomaly model: rows in, artifact bytes out. Pure: no clock, no files, no randomness.

In time order the first 60 % of the full windows are fitted on, a gap of W is left, the rest sets the limit.
"""

import hashlib
import math
import platform
from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np
import orjson

from cloud.training import limits, onnx, pca
from cloud.training.probe import make_probe
from cloud.training.recording import Recording, choose_step
from shared.artifact import pack, sha256
from shared.clock import MICROSECONDS
from shared.errors import Rejected
from shared.grid import grid_frame
from shared.manifest import (
    Calibration,
    GridFields,
    Manifest,
    OperatingFields,
    RuntimeNeeds,
    SensorSpec,
    TrainingData,
)
from shared.windows import PREPARATION_VERSION, Cells, Floats, GridSpec, Ints, Operating, preparation_hash

__all__ = ["Config", "Recording", "choose_step", "fit", "forward_ratio"]

TRAIN_SHARE: Final = 0.6
FORWARD_PARTS: Final = 4
WINDOWS_MIN: Final = 8  # in windows' lengths: fewer training windows say nothing about a machine
OPERATING_NOISE: Final = 3.0  # widths of noise beyond the range seen


@dataclass(frozen=True)
class Config:
    """Everything that a person could turn. One configuration serves every machine and every recording.

    Attributes:
        window: W. The mean of 16 cells has a quarter of a cell's noise: a lasting shift of 2 sigma stands out by 8.
        max_age: See `shared.windows`.
        lateness: The same.
        mask_limit: The same.
        settle_s: Seconds after a return to a known operating point before windows are scored again: machines warm
            up over minutes, whatever the step.
        budget: What the limit must keep.
    """

    window: int = 16
    max_age: int = 3
    lateness: int = 2
    mask_limit: float = 0.2
    settle_s: float = 600.0
    budget: limits.Budget = field(default_factory=limits.Budget)

    def sha256(self) -> str:
        """Hash of the configuration and of the method's constants."""
        constants = [pca.CLIP, pca.REST, pca.BLOCKS, pca.OUTLIVES, pca.COMPONENT, pca.WINSOR, pca.NOISE_SHARE]
        fixed = [TRAIN_SHARE, FORWARD_PARTS, limits.MARGIN_MIN, limits.TAIL, *constants]
        return sha256(orjson.dumps([asdict(self), fixed], option=orjson.OPT_SORT_KEYS))


@dataclass(frozen=True)
class _Fitted:
    model: pca.WindowPca
    limit: limits.Limit
    cells: Cells
    ends: Ints  # the full windows
    healthy: Floats  # scores of the calibration part


def fit(
    recording: Recording,
    *,
    machine: str,
    machine_type: str,
    now_us: int,
    seed: int = 0,
    config: Config | None = None,
    step_us: int | None = None,
    operating_sensor: str | None = None,
    author: str = "industrialmind",
    code_sha: str | None = None,
    lock_sha256: str | None = None,
    parent: str | None = None,
) -> bytes:
    """Fit window PCA and pack it. The same arguments give the same bytes.

    Args:
        recording: Healthy rows of one machine, in any order.
        machine: Its id.
        machine_type: Its type, an id.
        now_us: When this is, for the manifest.
        seed: Recorded; window PCA draws nothing.
        config: What a person may turn.
        step_us: The grid's step; found from the rows if None.
        operating_sensor: The sensor of the operating point (a set-point or speed, never a response): out of the
            range that the rows cover, the model then stays silent. None where nobody said which it is.
        author: Who asked for it.
        code_sha: Revision of the code.
        lock_sha256: Hash of the lock file.
        parent: Version hash of the model that this one replaces.

    Raises:
        Rejected: Too few rows, or none that moves.
    """
    config = config or Config()
    step = step_us or choose_step(recording, config.mask_limit)
    spec = GridSpec(
        recording.sensors, step, config.window, config.max_age, config.lateness, config.mask_limit
    )
    fitted = _fit(grid_frame(spec, recording.times_us, recording.values), config)
    operating = None if operating_sensor is None else _operating(fitted, operating_sensor, config)
    graph = onnx.to_onnx(fitted.model, spec.window, fitted.limit.value)
    probe = make_probe(fitted.model, fitted.cells, int(fitted.ends[-1]), fitted.limit.value, operating)
    manifest = Manifest(
        onnx_sha256=sha256(graph),
        probe_sha256=sha256(probe.to_json()),
        preparation_version=PREPARATION_VERSION,
        preparation_sha256=preparation_hash(),
        parent=parent,
        method=f"window-pca/{config.sha256()[:12]}",
        machine_type=machine_type,
        machines=(machine,),
        sensors=_sensors(recording, fitted.model),
        grid=GridFields(
            step_us=step,
            window=spec.window,
            max_age=spec.max_age,
            lateness=spec.lateness,
            mask_limit=spec.mask_limit,
        ),
        operating=None if operating is None else OperatingFields(**asdict(operating)),
        limit=float(np.float32(fitted.limit.value)),
        calibration=Calibration(
            method=fitted.limit.method,
            n_eff=fitted.limit.n_eff,
            rows=fitted.limit.rows,
            decorrelation=fitted.limit.decorrelation,
            alpha=fitted.limit.alpha,
            margin=fitted.limit.margin,
            budget_month=config.budget.episodes_month,
            persistence_m=config.budget.m,
            persistence_n=config.budget.n,
        ),
        provisional=fitted.limit.provisional,
        training=TrainingData(
            first_us=int(fitted.cells.times_us[0]),
            last_us=int(fitted.cells.times_us[-1]),
            rows=len(fitted.cells),
            windows=len(fitted.ends),
            sha256=hashlib.sha256(fitted.cells.cells.tobytes()).hexdigest(),
            excluded={"masked": len(fitted.cells) - len(fitted.ends)},
        ),
        seed=seed,
        code_sha=code_sha,
        lock_sha256=lock_sha256,
        metrics={
            "calibration_median": float(np.median(fitted.healthy)),
            "calibration_max": float(fitted.healthy.max()),
            "components": float(fitted.model.components),
        },
        runtime=RuntimeNeeds(
            opset=onnx.OPSET,
            onnxruntime=onnx.ONNXRUNTIME,
            dtype="float64->float32",
            architectures_tested=(platform.machine(),),
        ),
        created_us=now_us,
        author=author,
    )
    return pack(graph, manifest, probe)


def _fit(cells: Cells, config: Config) -> _Fitted:
    ends = np.concatenate(
        [np.zeros(0, np.int64)]
        + [
            begin + np.flatnonzero(windows.scorable)
            for begin, windows in zip(range(0, len(cells), 2048), cells.windows(chunk=2048), strict=True)
        ]
    )
    window = config.window
    if len(ends) < WINDOWS_MIN * window:
        raise Rejected(
            f"{len(ends)} full windows are too few to learn from: give at least "
            f"{(WINDOWS_MIN + 1) * window} rows a sensor at a step of {cells.spec.step_us / 1e6:g} s"
        )
    cut = int(len(ends) * TRAIN_SHARE)
    model, table = _model(cells, ends[:cut])
    after = ends[cut:][ends[cut:] >= ends[cut - 1] + window]
    healthy = pca.score_features(model, pca.features_of(model.scale, cells, after))
    limit = limits.set_limit(
        healthy,
        window=window,
        step_us=cells.spec.step_us,
        budget=config.budget,
        forward_ratio=forward_ratio(table, window),
    )
    return _Fitted(model, limit, cells, ends, healthy)


def _model(cells: Cells, ends: Ints) -> tuple[pca.WindowPca, Floats]:
    scale = pca.fit_scale(cells.cells[: int(ends[-1]) + 1])
    table = pca.features_of(scale, cells, ends)
    return pca.fit_pca(scale, table, cells.spec.window), table


def forward_ratio(table: Floats, window: int) -> float:
    """How much the largest score grows from one part of the training rows to the next, the median over the chain.

    The parts before are fitted on, one part plays calibration, the next plays what comes after it.
    """
    parts = np.array_split(table, FORWARD_PARTS)
    ratios = []
    for number in range(1, FORWARD_PARTS - 1):
        past = np.concatenate(parts[:number])
        try:
            model = pca.fit_pca(_NO_SCALE, past, window)
        except Rejected:
            continue
        known = float(pca.score_features(model, parts[number]).max(initial=0))
        new = float(pca.score_features(model, parts[number + 1]).max(initial=0))
        if known > 0:
            ratios.append(new / known)
    return float(np.median(ratios)) if ratios else 1.0


_NO_SCALE: Final = pca.Scale(np.zeros(0), np.zeros(0), np.zeros(0))  # features are already made


def _sensors(recording: Recording, model: pca.WindowPca) -> tuple[SensorSpec, ...]:
    made = []
    for index, (name, unit) in enumerate(zip(recording.sensors, recording.units, strict=True)):
        column = recording.values[:, index]
        column = column[np.isfinite(column)]
        low, high = (float(column.min()), float(column.max())) if len(column) else (0.0, 0.0)
        learnt = bool(model.scale.inverse[index] > 0)
        made.append(SensorSpec(name=name, unit=unit, low=low, high=high, learnt=learnt))
    return tuple(made)


def _operating(fitted: _Fitted, sensor: str, config: Config) -> Operating:
    """The range of the operating sensor over all rows, widened by its noise."""
    names = fitted.cells.spec.sensors
    if sensor not in names:
        raise Rejected(f"the operating sensor {sensor!r} is not among {', '.join(names)}")
    index = names.index(sensor)
    scale = fitted.model.scale
    column = fitted.cells.cells[:, index]
    noise = OPERATING_NOISE / scale.inverse[index] if scale.inverse[index] > 0 else 0.0
    low, high = float(np.nanmin(column)) - noise, float(np.nanmax(column)) + noise
    return Operating(
        sensor, low, high, settle=math.ceil(config.settle_s * MICROSECONDS / fitted.cells.spec.step_us)
    )
