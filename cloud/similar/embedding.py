"""An anomaly as a vector: which sensors deviated, by what share, and which way.

Each sensor takes two places of the vector, found by hashing its name (feature hashing, Weinberger et al. 2009, with a
hashed sign, so that sensors of one place do not add up on average): one for that it deviates, one for which way. With
the roots of the shares in them, the cosine of two vectors is the Bhattacharyya coefficient of the shares where the
ways agree, and nothing where they oppose. Scores' sizes do not count: a fault is like itself when it was smaller.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.events import Sensor

DIMENSIONS: Final = 512

Vector = npt.NDArray[np.float32]


def embed(sensors: Sequence[Sensor]) -> Vector:
    """float32[DIMENSIONS] of length 1; zeros where no sensor has a share. The order of the sensors does not matter."""
    vector = np.zeros(DIMENSIONS)
    for place, value in _parts(sensors):
        vector[place] += value
    length = float(np.linalg.norm(vector))
    return (vector / length if length > 0 else vector).astype(np.float32)


def likeness(one: Vector, other: Vector) -> float:
    """0 (nothing in common, or the opposite) to 1 (the same)."""
    return float(np.clip(one @ other, 0.0, 1.0))


def _parts(sensors: Sequence[Sensor]) -> Iterator[tuple[int, float]]:
    for sensor in sorted(sensors, key=lambda each: each.sensor):
        root = (sensor.share / 2) ** 0.5
        for name, value in (("deviates", root), ("way", root * _way(sensor))):
            digest = blake2b(f"{name}/{sensor.sensor}".encode(), digest_size=8).digest()
            place = int.from_bytes(digest[:4], "big") % DIMENSIONS
            yield place, value if digest[4] & 1 else -value


def _way(sensor: Sensor) -> float:
    """1 above what was expected, -1 below, 0 where that can't be told."""
    if sensor.seen is None or sensor.expected is None:
        return 0.0
    return float(np.sign(sensor.seen - sensor.expected))
