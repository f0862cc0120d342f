"""Features of a block against signals whose figures are known; zones and steps against the standard's rules."""

from pathlib import Path

import numpy as np
import pytest

from edge.vibration_features import Features, Floats, features
from edge.vibration_zones import Severity, read_limits
from shared.errors import Misconfigured

RATE = 25_600.0
G2 = 2 * np.pi


def tone(hz: float, amplitude: float, count: int = 32_768, rate: float = RATE, phase: float = 0.3) -> Floats:
    made: Floats = amplitude * np.sin(G2 * hz * np.arange(count) / rate + phase)
    return made


def of(signal: Floats, rate: float = RATE, speed_hz: float | None = 25.0) -> Features:
    return features(signal, rate, speed_hz)


@pytest.mark.parametrize("hz", [12.3, 25.0, 160.0, 731.7, 990.0])
@pytest.mark.parametrize("offset", [0.0, 9.81])
def test_velocity_of_a_tone_is_its_acceleration_over_omega(hz: float, offset: float) -> None:
    found = of(tone(hz, 10.0) + offset)
    assert found.velocity_rms == pytest.approx(10.0 / (G2 * hz) / np.sqrt(2) * 1000, rel=0.01)
    assert found.rms == pytest.approx(10.0 / np.sqrt(2), rel=0.02)
    assert found.peak == pytest.approx(10.0, rel=0.02)


@pytest.mark.parametrize("hz", [4.0, 1200.0])
def test_what_lies_outside_10_to_1000_hz_is_no_velocity(hz: float) -> None:
    inside = 10.0 / (G2 * hz) / np.sqrt(2) * 1000
    found = of(tone(hz, 10.0)).velocity_rms
    assert found is not None
    assert found < 0.03 * inside


def test_velocity_of_white_noise_is_what_its_density_integrates_to() -> None:
    noise = np.random.default_rng(3).standard_normal(122_000)
    density = 2.0 / RATE  # (m/s²)²/Hz, one-sided
    expected = np.sqrt(density * (1 / 10 - 1 / 1000) / G2**2) * 1000
    assert of(noise).velocity_rms == pytest.approx(expected, rel=0.2)


def test_crest_and_kurtosis_of_a_tone_and_of_noise() -> None:
    sine = of(tone(100.0, 3.0, 25_600))
    assert sine.crest == pytest.approx(np.sqrt(2), rel=0.01)
    assert sine.kurtosis == pytest.approx(1.5, rel=0.01)
    noise = of(np.random.default_rng(1).standard_normal(100_000))
    assert noise.kurtosis == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("speed", [10.7, 24.7, 49.3])
def test_orders_are_the_shafts_own_lines(speed: float) -> None:
    velocities = (2.0, 1.0, 0.5)
    signal = tone(1.5 * speed, 5.0, 65_536)
    for order, velocity in enumerate(velocities, start=1):
        hz = order * speed
        signal += tone(hz, velocity / 1000 * np.sqrt(2) * G2 * hz, 65_536, phase=order)
    assert of(signal, speed_hz=speed).orders == pytest.approx(velocities, rel=0.03)


def test_a_dead_sensor_has_no_crest_and_no_kurtosis() -> None:
    for dead in (np.zeros(4096), np.full(4096, 9.81)):
        found = of(dead)
        assert (found.rms, found.peak) == pytest.approx((0.0, 0.0), abs=1e-12)
        assert (found.crest, found.kurtosis) == (None, None)


def test_what_a_block_can_t_tell_is_none_with_its_reason() -> None:
    slow = of(tone(100.0, 1.0, 8000, rate=2000.0), rate=2000.0)
    assert slow.velocity_rms is None
    assert any("too slow" in why for why in slow.why)
    short = of(tone(100.0, 1.0, 4096))
    assert short.velocity_rms is None
    assert short.orders == (None, None, None)
    still = of(tone(100.0, 1.0), speed_hz=None)
    assert still.orders == (None, None, None)
    assert any("speed is not known" in why for why in still.why)
    assert of(tone(100.0, 1.0, 32_768, rate=2560.0), rate=2560.0, speed_hz=600.0).orders[1:] == (None, None)


def test_zones_of_every_class_are_the_standards() -> None:
    table = read_limits()
    assert {name: (each.ab, each.bc, each.cd) for name, each in table.items()} == {
        "group-1-rigid": (2.3, 4.5, 7.1),
        "group-1-flexible": (3.5, 7.1, 11.0),
        "group-2-rigid": (1.4, 2.8, 4.5),
        "group-2-flexible": (2.3, 4.5, 7.1),
    }
    limits = table["group-2-rigid"]
    assert [limits.zone(v) for v in (0.1, 1.4, 1.41, 2.8, 2.9, 4.5, 4.6)] == list("AABBCCD")
    assert [limits.zone(v, "C") for v in (2.75, 2.6, 1.36, 1.3)] == ["C", "B", "B", "A"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a]\nab = 3\nbc = 2\ncd = 4\n", "ascend"),
        ("[a]\nab = 1\nbc = 2\n", "cd"),
        ("[a]\nab = 1\nbc = 2\ncd = 3\nde = 4\n", "de"),
        ("a = [", "can't be read"),
    ],
)
def test_a_table_that_can_t_be_is_refused_at_the_start(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=problem):
        read_limits(path)
    with pytest.raises(Misconfigured, match="can't be read"):
        read_limits(tmp_path / "none.toml")


def test_a_step_is_a_quarter_of_the_boundary_b_c_in_the_same_condition() -> None:
    limits = read_limits()["group-1-rigid"]  # B/C at 4.5: a step is more than 1.125
    point = Severity()
    steps = [point.take(1.0, limits, "speed 50")[1] for _ in range(6)]
    assert steps == [None] * 6
    assert point.take(2.1, limits, "speed 50")[1] is None
    assert point.take(2.3, limits, "speed 20")[1] is None  # another speed has a baseline of its own
    changed, step = point.take(2.4, limits, "speed 50")
    assert changed
    assert step is not None
    assert (step.value, step.baseline, step.allowed) == pytest.approx((2.4, 1.0, 1.125))
    assert point.take(2.4, limits, "speed 50")[1] is None  # told once; the new level is the baseline
    for _ in range(5):
        point.take(2.4, limits, "speed 50")
    down = Severity.of(point.to_json()).take(1.0, limits, "speed 50")[1]
    assert down is not None
    assert down.baseline == pytest.approx(2.4)
    for speed in range(40):
        point.take(1.0, limits, f"speed {speed}")
    assert len(point.to_json()["baselines"]) == 16
