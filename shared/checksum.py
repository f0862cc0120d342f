"""A 64-bit fingerprint a reading, summed modulo 2**64: equal multisets of rows have equal sums in any order.

The edge, the log and the store are compared a machine-hour by counts and by these sums.
"""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.frames import Readings

HOUR_US: Final = 3_600_000_000
_MASK: Final = 2**64 - 1


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The splitmix64 finaliser (Steele, Lea and Flood, 2014), element by element."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def sensor_seed(machine: str, sensor: str, unit: str) -> int:
    """64 bits that stand for a series."""
    digest = hashlib.blake2b(f"{machine}/{sensor}/{unit}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def row_hashes(
    seed: NDArray[np.uint64],
    time_us: NDArray[np.int64],
    value: NDArray[np.float64],
    quality: NDArray[np.uint8],
) -> NDArray[np.uint64]:
    """Fingerprints uint64[n] of n readings; `seed` uint64[n] from `sensor_seed`. -0.0 counts as 0.0."""
    bits = (value + 0.0).view(np.uint64)
    with np.errstate(over="ignore"):
        mixed = _mix(seed + time_us.astype(np.uint64))
        mixed = _mix(mixed + bits)
        return _mix(mixed + quality.astype(np.uint64))


def readings_hashes(machine: str, readings: Readings) -> NDArray[np.uint64]:
    """Fingerprints uint64[n] of a frame's rows."""
    seeds = np.array(
        [sensor_seed(machine, s, u) for s, u in zip(readings.sensor_names, readings.units, strict=True)],
        np.uint64,
    )
    return row_hashes(seeds[readings.sensor], readings.time_us, readings.value, readings.quality)


def tally(time_us: NDArray[np.int64], hashes: NDArray[np.uint64]) -> dict[int, tuple[int, int]]:
    """Count and sum of fingerprints for each hour of event time (hours since 1970)."""
    hours = time_us // HOUR_US
    sums: dict[int, tuple[int, int]] = {}
    for hour in np.unique(hours).tolist():
        chosen = hashes[hours == hour]
        with np.errstate(over="ignore"):
            sums[hour] = (len(chosen), int(chosen.sum(dtype=np.uint64)))
    return sums


def add(a: int, b: int) -> int:
    """The sum of two fingerprints' sums."""
    return (a + b) & _MASK
