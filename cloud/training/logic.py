"""Fits a machine's anomaly model: rows in, artifact bytes out. Pure: no clock, no files, no randomness.

In time order the first 60 % of the full windows are fitted on, a gap of W is left, the rest sets the limit.
`cloud.training.candidates` fits the rivals beside it.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import orjson

from cloud.training import limits, onnx, pca, scales
from cloud.training.learning import Learning, Transformer
from cloud.training.packing import OPERATING_NOISE, Fitted, Request, pack_fitted
from cloud.training.recording import Recording, choose_step
from shared.artifact import sha256
from shared.errors import Rejected
from shared.grid import grid_frame
from shared.persistence import CALM_LEVEL, CALM_WINDOWS
from shared.windows import Cells, Floats, GridSpec, Ints

__all__ = [
    "OPERATING_NOISE",
    "Config",
    "Recording",
    "choose_step",
    "fit",
    "fit_window_pca",
    "full_windows",
    "split",
]

METHOD: Final = "window-pca"
TRAIN_SHARE: Final = 0.6
WINDOWS_MIN: Final = 8  # in windows' lengths: fewer training windows say nothing about a machine


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
        learning: How networks are trained; window PCA has none.
        transformer: How large the Transformer autoencoder is.
    """

    window: int = 16
    max_age: int = 3
    lateness: int = 2
    mask_limit: float = 0.2
    settle_s: float = 600.0
    budget: limits.Budget = field(default_factory=limits.Budget)
    learning: Learning = field(default_factory=Learning)
    transformer: Transformer = field(default_factory=Transformer)

    def prepared(self) -> dict[str, Any]:
        """What every method shares: all but how networks are made and trained."""
        return {
            name: value for name, value in asdict(self).items() if name not in ("learning", "transformer")
        }

    def sha256(self) -> str:
        """Hash of the configuration and of the method's constants."""
        constants = [pca.CLIP, pca.REST, pca.BLOCKS, pca.OUTLIVES, pca.COMPONENT, pca.WINSOR, pca.NOISE_SHARE]
        times = [
            scales.OCTAVES,
            scales.SHORTEST,
            scales.USUAL,
            scales.PARTS,
            scales.FORWARD_FIRST,
            scales.WINDOWS_MAX,
        ]
        fixed = [TRAIN_SHARE, limits.MARGIN_MIN, limits.TAIL, CALM_LEVEL, CALM_WINDOWS, *times, *constants]
        return sha256(orjson.dumps([self.prepared(), fixed], option=orjson.OPT_SORT_KEYS))


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
    clusters: bool = False,
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
        clusters: Score only while the operating sensor is steady at one of the set-points that its values cluster at
            (`shared.states`), not anywhere in their range.

    Raises:
        Rejected: Too few rows, or none that moves.
    """
    request = Request(
        machine, machine_type, now_us, seed, operating_sensor, author, code_sha, lock_sha256, parent, clusters
    )
    return pack_fitted(fit_window_pca(recording, config or Config(), step_us), recording, request)


def full_windows(recording: Recording, config: Config, step_us: int | None) -> tuple[Cells, Ints]:
    """The recording on its grid, and the cells that full windows end at. Raises Rejected for too few of these."""
    step = step_us or choose_step(recording, config.mask_limit)
    spec = GridSpec(
        recording.sensors, step, config.window, config.max_age, config.lateness, config.mask_limit
    )
    cells = grid_frame(spec, recording.times_us, recording.values)
    ends = np.concatenate(
        [np.zeros(0, np.int64)]
        + [
            begin + np.flatnonzero(windows.scorable)
            for begin, windows in zip(range(0, len(cells), 2048), cells.windows(chunk=2048), strict=True)
        ]
    )
    window = config.window
    ends = ends[~recording.touching(cells.times_us[ends], window * step)]
    if len(ends) < WINDOWS_MIN * window:
        gone = recording.counted(step, window * step)
        raise Rejected(
            f"{len(ends)} full windows are too few to learn from: give at least "
            f"{(WINDOWS_MIN + 1) * window} rows a sensor at a step of {step / 1e6:g} s"
            + "".join(f"; {count} left out: {reason}" for reason, count in gone.items() if count)
        )
    return cells, ends


def split(ends: Ints, window: int) -> tuple[Ints, Ints]:
    """Training and calibration windows, W apart."""
    cut = int(len(ends) * TRAIN_SHARE)
    return ends[:cut], ends[cut:][ends[cut:] >= ends[cut - 1] + window]


def fit_window_pca(
    recording: Recording, config: Config, step_us: int | None = None, method: str = METHOD
) -> Fitted:
    """Fit window PCA over its time scales and set its limit. Raises Rejected: too few rows, or none that moves."""
    cells, ends = full_windows(recording, config, step_us)
    train, after = split(ends, config.window)
    scale = pca.fit_scale(cells.cells[: int(train[-1]) + 1])
    known, _ = scales.thinned(train)
    model = scales.fit_scales(scale, scales.features_of(scale, cells, known), config.window)
    healthy = scales.score_windows(model, cells, after)
    every, hop = scales.thinned(ends)
    forward = scales.forward_ratio(scale, scales.features_of(scale, cells, every), config.window, hop)
    limit = limits.set_limit(
        healthy,
        window=config.window,
        step_us=cells.spec.step_us,
        budget=config.budget,
        forward_ratio=forward,
    )

    def score(windows: Floats) -> tuple[Floats, Floats]:
        of = scales.features(scale, windows)
        return scales.score_features(model, of), scales.contributions(model, of)

    components = sum(member.components for member in model.members)
    return Fitted(
        method=method,
        method_hash=config.sha256(),
        scale=scale,
        cells=cells,
        ends=ends,
        after=after,
        healthy=healthy,
        forward=forward,
        limit=limit,
        budget=config.budget,
        settle_s=config.settle_s,
        score=score,
        graph=lambda: onnx.to_onnx(model, config.window, limit.value, method),
        parameters={
            "window": config.window,
            "time_scales": ",".join(map(str, model.lengths)),
            "components": components,
            "step_us": cells.spec.step_us,
        },
        figures={"components": float(components)},
    )
