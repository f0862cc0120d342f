"""A damaged bearing is named from one block at -6 dB, over many seeds, speeds and geometries; nothing else is called so."""

import csv
import math
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.envelope import Envelopes, comb, log_gamma_tail, smooth_length
from edge.vibration_bearing import FALSE_CALL, Bearing, Part, Verdict, diagnose
from firmware_sim.waves import Damage, Geometry, Vibration, waveform

SEEDS = range(60)
FEW = range(25)
LONG = range(1000, 1600)


def case(seed: int, damage: Damage) -> tuple[Vibration, int, float, Bearing, float]:
    """A block's make, its length and rate, the bearing as a person enters it, and the speed as a tacho reads it."""
    rng = np.random.default_rng([seed, list(Damage).index(damage)])
    ratio = rng.uniform(0.15, 0.32)
    elements = int(rng.integers(6, 1 + min(16, math.floor(0.95 * math.pi / ratio))))
    geometry = Geometry(elements, 50.0 * ratio, 50.0, float(rng.choice([0.0, 0.0, 12.0, 25.0])))
    rate = float(rng.choice([12_000.0, 25_600.0, 51_200.0]))
    speed = float(np.exp(rng.uniform(np.log(10.0), np.log(60.0))))
    count = int(min(rate * max(rng.uniform(1.0, 3.0), 15 / speed), 122_000))
    tones = tuple(
        (float(speed * rng.integers(10, 60)), float(rng.uniform(0.0, 0.7))) for _ in range(rng.integers(0, 4))
    )
    made = Vibration(
        speed,
        geometry,
        damage,
        snr_db=-6.0,
        orders=(float(rng.uniform(0, 2)), float(rng.uniform(0, 1))),
        slip=float(rng.uniform(-0.01, 0.01)),
        jitter=float(rng.choice([0.0, 0.005, 0.01, 0.02])),
        resonance=float(rng.uniform(0.12, 0.38)),
        damping=float(rng.uniform(0.02, 0.06)),
        tones=tones,
    )
    bearing = Bearing(geometry.elements, geometry.element_mm, geometry.pitch_mm, geometry.angle_deg)
    return made, count, rate, bearing, speed * float(1 + rng.uniform(-0.003, 0.003))


def verdict(seed: int, damage: Damage) -> Verdict:
    made, count, rate, bearing, read = case(seed, damage)
    block = waveform(made, np.random.default_rng(seed), count=count, rate_hz=rate)
    return diagnose(block, rate, read, bearing)


def calls(damage: Damage, seeds: range) -> Counter[str]:
    found = [verdict(seed, damage) for seed in seeds]
    return Counter((each.reason and "can't tell") or (each.part or "none") for each in found)


def judge(damage: Damage, seeds: range, share: float) -> Counter[str]:
    found = calls(damage, seeds)
    if damage is Damage.NONE:
        assert found["none"] >= share * len(seeds), found
    else:
        assert found[damage.value] >= share * len(seeds), found
    return found


def test_an_outer_race_fault_at_minus_6_db_is_named() -> None:
    judge(Damage.OUTER, SEEDS, 0.95)


@pytest.mark.parametrize(
    ("damage", "share"), [(Damage.NONE, 0.9), (Damage.INNER, 0.8), (Damage.BALL, 0.5), (Damage.CAGE, 0.5)]
)
def test_nothing_else_is_called_an_outer_race_fault(damage: Damage, share: float) -> None:
    assert judge(damage, FEW, share)[Part.OUTER] == 0


@pytest.mark.nightly
def test_rates_over_many_blocks() -> None:
    rates = {damage: calls(damage, LONG) for damage in Damage}
    assert rates[Damage.OUTER][Part.OUTER] >= 0.97 * len(LONG)
    others = sum(rates[damage][Part.OUTER] for damage in Damage if damage is not Damage.OUTER)
    assert others <= 0.002 * 4 * len(LONG)
    assert sum(rates[Damage.NONE][part] for part in Part) <= 0.002 * len(LONG)


def test_the_same_fault_is_none_of_another_bearing() -> None:
    made, count, rate, bearing, read = case(3, Damage.OUTER)
    block = waveform(made, np.random.default_rng(3), count=count, rate_hz=rate)
    assert diagnose(block, rate, read, bearing).part is Part.OUTER
    assert diagnose(block, rate, read * 1.07, bearing).part is None


def test_a_short_or_slow_block_can_t_tell() -> None:
    made, count, rate, bearing, read = case(3, Damage.OUTER)
    block = waveform(made, np.random.default_rng(3), count=count, rate_hz=rate)
    short = diagnose(block[: int(10 * rate / read)], rate, read, bearing)
    assert "revolutions" in short.reason
    slow = diagnose(block[:8192], 400.0, 30.0, bearing)
    assert "too slow" in slow.reason
    assert not slow.can_tell


def test_a_dead_sensor_names_nothing() -> None:
    for dead in (np.zeros(32_768), np.full(32_768, 9.81)):
        found = diagnose(dead, 25_600.0, 25.0, Bearing(9, 7.94, 39.04))
        assert (found.part, found.found) == (None, ())


def test_orders_are_those_of_a_well_known_bearing() -> None:
    orders = Bearing(9, 7.94, 39.04).orders()  # 6205: tables give 3.585, 5.415, 2.357, 0.398
    assert orders[Part.OUTER] == pytest.approx(3.585, abs=0.002)
    assert orders[Part.INNER] == pytest.approx(5.415, abs=0.002)
    assert orders[Part.BALL] == pytest.approx(2.357, abs=0.002)
    assert orders[Part.CAGE] == pytest.approx(0.398, abs=0.001)


def test_noise_alone_has_the_probability_that_is_told() -> None:
    rng = np.random.default_rng(11)
    chances = []
    for _ in range(60):
        envelopes = Envelopes(rng.standard_normal(25_600), 25_600.0, 150.0)
        nothing = envelopes.mask(())
        for spectrum in envelopes._spectra[:3]:
            chances += [
                math.exp(comb(spectrum, envelopes.step_hz, hz, nothing[: len(spectrum)]).log_p)
                for hz in (41.3, 89.7, 147.1)
            ]
    for level in (0.1, 0.01):
        assert np.mean(np.array(chances) <= level) <= 2 * level + 0.01
    assert min(chances) > FALSE_CALL


def test_the_tail_of_a_gamma_is_exact() -> None:
    assert math.exp(log_gamma_tail(1, 3.0)) == pytest.approx(math.exp(-3.0))
    assert math.exp(log_gamma_tail(3, 4.0)) == pytest.approx(math.exp(-4.0) * (1 + 4 + 8))
    assert log_gamma_tail(5, 0.0) == pytest.approx(0.0)
    assert log_gamma_tail(9, 5000.0) < -4000


@pytest.mark.parametrize("count", [64, 1000, 12_345, 122_879])
def test_lengths_that_transform_fast(count: int) -> None:
    found = smooth_length(count)
    assert found % 16 == 0
    assert 0.9 * count <= found <= count
    for prime in (2, 3, 5):
        while found % prime == 0:
            found //= prime
    assert found == 1


def test_tones_alone_name_nothing() -> None:
    made, count, rate, bearing, read = case(5, Damage.NONE)
    beat = (
        bearing.orders()[Part.OUTER] * read
    )  # two tones of another machine, as far apart as the outer race strikes
    noisy = replace(made, tones=((3000.0, 1.0), (3000.0 + beat, 1.0)))
    block = waveform(noisy, np.random.default_rng(1), count=count, rate_hz=rate)
    assert diagnose(block, rate, read, bearing).part is None


def recordings() -> list[dict[str, str]]:
    """Rows of BEARINGS/index.csv: file (`.npy`, m/s²), rate_hz, speed_rpm, elements, element_mm, pitch_mm, angle_deg, part."""
    index = Path(os.environ.get("IM_DATASETS", "-")) / "BEARINGS" / "index.csv"
    if not index.is_file():
        return []
    with index.open(encoding="utf-8", newline="") as file:
        return [{**row, "file": str(index.parent / row["file"])} for row in csv.DictReader(file)]


@pytest.mark.skipif(not recordings(), reason="no data")
def test_recordings_of_real_bearings() -> None:
    wrong = []
    for row in recordings():
        bearing = Bearing(
            int(row["elements"]), *(float(row[k]) for k in ("element_mm", "pitch_mm", "angle_deg"))
        )
        rate = float(row["rate_hz"])
        block = np.load(row["file"], allow_pickle=False)[:122_000].astype(np.float64)
        found = diagnose(block, rate, float(row["speed_rpm"]) / 60.0, bearing)
        if found.part is Part.OUTER and row["part"] != Part.OUTER:
            wrong.append(row["file"])
    assert not wrong
