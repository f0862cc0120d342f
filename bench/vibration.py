"""What a waveform block costs the edge, and how sure the bearing's verdict is: `python -m bench.vibration [BLOCKS]`.

Prints milliseconds a block of the largest size (122,000 int16 samples) and of a second at 12.8 kHz, beside the floor of one
`numpy.fft.rfft` of the same samples; then, for each damage at -6 dB, how often which part was named over random geometries, speeds,
slips and resonances (the cases of the tests, other seeds).
"""

import sys
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from edge.vibration_bearing import Bearing, diagnose, energies
from edge.vibration_features import features
from firmware_sim.waves import Damage, Geometry, Vibration, waveform
from shared.wave import Sync, Wave, decode_wave, encode_wave
from tests.unit.test_vibration_bearing import verdict

BEARING = Bearing(9, 7.94, 39.04)
ROUNDS = 15


def median_ms(work: Callable[[], object]) -> float:
    """Median of some rounds."""
    took = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return 1000 * float(np.median(took))


def costs(count: int, rate_hz: float) -> None:
    """One line a step for blocks of a size."""
    made = Vibration(25.0, Geometry(9, 7.94, 39.04), Damage.OUTER)
    signal = waveform(made, np.random.default_rng(1), count=count, rate_hz=rate_hz)
    samples = np.clip(np.rint(signal / 0.001), -32768, 32767).astype(np.int16)
    data = encode_wave(Wave(samples, rate_hz, 0.001, "m/s2", 1_700_000_000_000_000, Sync.SYNCHRONISED))
    values = decode_wave(data).acceleration()
    steps: dict[str, Callable[[], object]] = {
        "floor: one rfft": lambda: np.fft.rfft(values),
        "decode": lambda: decode_wave(data).acceleration(),
        "features": lambda: features(values, rate_hz, 25.0),
        "envelope energies": lambda: energies(values, rate_hz, 25.0, BEARING),
        "diagnosis": lambda: diagnose(values, rate_hz, 25.0, BEARING),
    }
    took = {name: median_ms(step) for name, step in steps.items()}
    total = sum(list(took.values())[1:])
    print(f"{count} samples at {rate_hz:g} Hz, {len(data)} bytes: {total:.1f} ms a block")
    for name, ms in took.items():
        print(f"  {name:<20} {ms:7.2f} ms")


def rates(blocks: int) -> None:
    """How often what was named."""
    for damage in Damage:
        found = [verdict(seed, damage) for seed in range(50_000, 50_000 + blocks)]
        named = Counter("can't tell" if each.reason else (each.part or "none") for each in found)
        print(f"{damage.value:<12} {dict(named.most_common())}")


if __name__ == "__main__":
    costs(122_000, 25_600.0)
    costs(12_800, 12_800.0)
    rates(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
