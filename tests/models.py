"""A small fitted model for tests: made once, in a tenth of a second."""

from functools import cache

import numpy as np
import numpy.typing as npt

from cloud.training.logic import Config, Recording, fit
from shared.artifact import Artifact, unpack

STEP_US = 1_000_000
SENSORS = ("speed", "flow", "pressure", "temperature")
UNITS = ("rpm", "l/min", "bar", "degC")
Floats = npt.NDArray[np.float64]


def healthy(rows: int, seed: int = 0, start: int = 0) -> Floats:
    """float64[rows, 4]: a staircase of speeds that flow and pressure follow, temperature wandering, white noise."""
    random = np.random.default_rng([seed, start])
    speed = 1000 + 200 * ((np.arange(start, start + rows) // 37) % 4)
    clean = np.column_stack([speed, 0.05 * speed, 0.004 * speed, 40 + np.sin(np.arange(rows) / 90)])
    return clean + random.normal(size=clean.shape) * [2.0, 0.3, 0.02, 0.1]


def recording(rows: int = 1200, seed: int = 0) -> Recording:
    """A healthy recording, a row a second."""
    return Recording(np.arange(1, rows + 1) * STEP_US, SENSORS, UNITS, healthy(rows, seed))


@cache
def packed(operating: str | None = None) -> bytes:
    """A fitted artifact's bytes."""
    return fit(
        recording(),
        machine="pump-1",
        machine_type="pump",
        now_us=7,
        config=Config(),
        operating_sensor=operating,
    )


def artifact() -> Artifact:
    """The same, unpacked."""
    return unpack(packed())
