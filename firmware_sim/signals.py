"""Signals as pure functions of (seed, absolute time): seeded noise, first-order lags, smooth envelopes.

Everything is computed for whole blocks of a fixed grid, so a value does not depend on how many
rows were asked for at once.
"""

import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_CHUNK: Final = 128
DAY_S: Final = 86_400.0


def generator(seed: int, name: str, stream: str, block: int) -> np.random.Generator:
    """The random numbers of one machine's `stream` in one block: the same ones at every call."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(stream.encode()), block])


def unit_interval(seed: int, name: str, stream: str) -> float:
    """One seeded number in [0, 1) that stays with the machine, for phases."""
    return float(generator(seed, name, stream, 0).random())


def decay(tau_s: float, dt_s: float) -> float:
    """What is left after one step of a first-order process with time constant `tau_s`."""
    return float(np.exp(-dt_s / tau_s))


def lag(signal: Array, tau_s: float, dt_s: float) -> Array:
    """First-order lag of `signal` (n,), starting settled at its first value.

    y[k] = a y[k-1] + (1 - a) u[k] with a = exp(-dt / tau). The inside of a chunk is a prefix scan by doubling,
    and only the chunks' ends are a loop, because one over samples takes a second a machine-hour. (A matrix
    product would do too, but its threads spin on every core.)
    """
    rows = len(signal)
    a = decay(tau_s, dt_s)
    chunks = -(-rows // _CHUNK)
    padded = np.full(chunks * _CHUNK, signal[-1])
    padded[:rows] = signal
    inside = (1.0 - a) * padded.reshape(chunks, _CHUNK)
    reach = 1
    while reach < _CHUNK:
        inside[:, reach:] += a**reach * inside[:, :-reach]
        reach *= 2
    carried = np.empty(chunks)
    last, across = float(signal[0]), a**_CHUNK
    for index, end in enumerate(inside[:, -1].tolist()):
        carried[index] = last
        last = end + across * last
    settled: Array = inside + carried[:, None] * a ** np.arange(1, _CHUNK + 1)
    return settled.reshape(-1)[:rows]


def correlated(white: Array, tau_s: float, dt_s: float) -> Array:
    """AR(1) noise of variance 1 made from `white` (n,) noise of variance 1."""
    a = decay(tau_s, dt_s)
    noise: Array = lag(white, tau_s, dt_s) * np.sqrt((1.0 + a) / (1.0 - a))
    return noise


def schedule(seconds: Array, levels: Sequence[float], dwells_s: Sequence[float], phase: float) -> Array:
    """A repeating staircase: `levels[i]` for `dwells_s[i]`, shifted by `phase` (a share of the period)."""
    edges = np.cumsum(np.asarray(dwells_s, np.float64))
    within = np.mod(seconds + phase * edges[-1], edges[-1])
    stairs: Array = np.asarray(levels, np.float64)[np.searchsorted(edges, within, side="right")]
    return stairs


def pulse(seconds: Array, onset_s: float, end_s: float | None, ramp_s: float, tau_s: float) -> Array:
    """0 before the onset, a ramp to 1, then 1 until the end; both flanks follow with `tau_s`."""
    since = np.maximum(seconds - onset_s, 0.0)
    rising = np.minimum(since / max(ramp_s, 1e-9), 1.0) * -np.expm1(-since / tau_s)
    if end_s is None:
        return np.asarray(rising, np.float64)
    after = np.maximum(seconds - end_s, 0.0)
    return np.asarray(rising * np.exp(-after / tau_s), np.float64)
