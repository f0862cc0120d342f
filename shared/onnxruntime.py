"""Runs a model of anomalies: the same for edge, inference, replay and the command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state

from shared.artifact import Artifact
from shared.errors import Rejected
from shared.grid import Grid
from shared.manifest import Manifest

INPUT: Final = "window"
OUTPUTS: Final = ("score", "limit", "alarm", "contributions", "expected", "seen")
RATE_TOLERANCE: Final = 1.2  # a machine may be this much slower than the model's step
PARITY: Final = 1e-4  # of the limit, between the training side's arithmetic and the graph's
CONTRIBUTION_PARITY: Final = 1e-3
_FATAL_ONLY: Final = 4
# The runtime's errors have no common root below Exception.
ERRORS: Final = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NotImplemented,
    state.RuntimeException,
    RuntimeError,
    ValueError,
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """What the graph says of n windows. Rows of windows that were not scorable mean nothing.

    Attributes:
        score: float32[n], 0 = exactly as expected; above `limit` is an alarm.
        limit: The score's limit.
        alarm: bool[n].
        contributions: float32[n, S], not negative, sum 1 (all 0 where nothing deviates).
        expected: float64[n, S], what the model expects `seen` to be, engineering units.
        seen: float64[n, S], the window's level of each sensor, engineering units; NaN where it was silent.
    """

    score: npt.NDArray[np.float32]
    limit: float
    alarm: npt.NDArray[np.bool_]
    contributions: npt.NDArray[np.float32]
    expected: Floats
    seen: Floats

    def __len__(self) -> int:
        return len(self.score)


class Scorer:
    """One model, loaded. Raises Rejected at construction if the runtime can't load the graph as promised."""

    def __init__(self, artifact: Artifact, *, threads: int = 1) -> None:
        self.artifact = artifact
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.enable_cpu_mem_arena = False  # an edge has no memory to keep for later
        options.enable_mem_pattern = False
        options.use_deterministic_compute = True
        options.log_severity_level = _FATAL_ONLY  # what matters comes back as an exception
        try:
            self._session = ort.InferenceSession(artifact.model, options, providers=["CPUExecutionProvider"])
        except ERRORS as error:
            raise Rejected(f"onnxruntime {ort.__version__} can't load the model: {error}") from error
        shape = (self.manifest.grid.window, len(self.manifest.sensors))
        inputs = self._session.get_inputs()
        if [each.name for each in inputs] != [INPUT] or tuple(inputs[0].shape[1:]) != shape:
            raise Rejected(
                f"the model's graph does not take windows of {shape[0]} cells by {shape[1]} sensors"
            )
        missing = set(OUTPUTS) - {each.name for each in self._session.get_outputs()}
        if missing:
            raise Rejected(f"the model's graph does not give {', '.join(sorted(missing))}")

    @property
    def manifest(self) -> Manifest:
        """The model's manifest."""
        return self.artifact.manifest

    @property
    def version_hash(self) -> str:
        """The model's version."""
        return self.artifact.version_hash

    def score(self, windows: Floats) -> Scores:
        """Score float64[n, W, S] windows, NaN = empty. Raises Rejected for a wrong shape or a failing graph."""
        window = self.manifest.grid.window
        if windows.ndim != 3 or windows.shape[1:] != (window, len(self.manifest.sensors)):  # noqa: PLR2004
            raise Rejected(
                f"windows of shape {windows.shape} don't fit the model's (n, {window}, {len(self.manifest.sensors)})"
            )
        feed = {INPUT: np.ascontiguousarray(windows, dtype=np.float64)}
        try:
            score, limit, alarm, contributions, expected, seen = self._session.run(list(OUTPUTS), feed)
        except ERRORS as error:
            raise Rejected(f"the model's graph failed: {error}") from error
        return Scores(score, float(limit), alarm, contributions, expected, seen)

    def self_test(self) -> None:
        """Run the probe's raw rows through grid and graph.

        Raises:
            Rejected: Windows, a score, a decision or a contribution differ from what training recorded.
        """
        probe = self.artifact.probe
        times = np.asarray(probe.times_us, dtype=np.int64)
        table = np.array(probe.rows, dtype=np.float64)
        spec = self.manifest.grid_spec()
        grid = Grid(spec)
        row, sensor = np.nonzero(np.isfinite(table))
        grid.add(sensor, times[row], table[row, sensor], np.zeros(len(row), dtype=np.uint8))
        windows = grid.close(int(times[-1]) + (spec.lateness + 1) * spec.step_us)
        ready = windows.scorable & np.isin(windows.times_us, probe.edges_us)
        if int(ready.sum()) != len(probe.edges_us):
            raise Rejected("self-test: the grid does not give the recorded windows")
        scores = self.score(windows.values[ready])
        if not (np.isfinite(scores.score).all() and np.isfinite(scores.limit)):
            raise Rejected("self-test: a score is not finite")
        worst = float(np.abs(scores.score - np.array(probe.scores)).max() / scores.limit)
        # Scores far beyond the limit are compared relative to themselves: float32 has no absolute 1e-4 there.
        scale = np.maximum(scores.limit, np.abs(np.array(probe.scores)))
        if not (np.abs(scores.score - np.array(probe.scores)) <= PARITY * scale).all():
            raise Rejected(f"self-test: a score differs by {worst:.2g} of the limit from the recorded one")
        if scores.alarm.tolist() != list(probe.alarms):
            raise Rejected("self-test: an alarm decision differs from the recorded one")
        if np.abs(scores.contributions - np.array(probe.contributions)).max() > CONTRIBUTION_PARITY:
            raise Rejected("self-test: a contribution differs from the recorded one")


def check_machine(manifest: Manifest, sensors: Mapping[str, str], interval_us: int | None = None) -> None:
    """Whether a machine can feed a model.

    Args:
        manifest: The model's manifest.
        sensors: Unit of each sensor that the machine has ("" = unknown).
        interval_us: The usual time between two rows of its slowest sensor, None = not known yet.

    Raises:
        Rejected: Sensors are missing, have another unit, or are slower than 1.2 times the model's step.
    """
    missing = [each.name for each in manifest.sensors if each.required and each.name not in sensors]
    if missing:
        raise Rejected(
            f"the model needs {', '.join(missing)}; the machine has {', '.join(sorted(sensors)) or 'no sensors'}"
        )
    for each in manifest.sensors:
        unit = sensors.get(each.name, "")
        if unit and each.unit and unit != each.unit:
            raise Rejected(f"the model needs {each.name} in {each.unit}, the machine sends {unit}")
    step = manifest.grid.step_us
    if interval_us is not None and interval_us > RATE_TOLERANCE * step:
        raise Rejected(
            f"the model needs a row every {step / 1e6:g} s, the machine sends one every {interval_us / 1e6:g} s"
        )
