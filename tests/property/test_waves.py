"""Waveform blocks under any values and any bytes: what is encoded comes back, and rubbish is refused and nothing else."""

import contextlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.vibration_point import PointState, VibrationPoint
from edge.vibration_settings import BearingGeometry, Point
from edge.vibration_speed import Speed
from edge.vibration_zones import read_limits
from shared.errors import Rejected
from shared.names import is_id
from shared.wave import KeptWave, Sync, Wave, Why, decode_wave, encode_wave

ids = st.text("az09-", min_size=1, max_size=40).filter(is_id)
counts = st.integers(64, 300)
samples = st.one_of(
    counts.flatmap(lambda n: hnp.arrays(np.int16, n)),
    counts.flatmap(
        lambda n: hnp.arrays(
            np.float32, n, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
        )
    ),
)
waves = st.builds(
    Wave,
    samples,
    st.floats(1.0, 1e6),
    st.floats(1e-12, 1e6),
    st.sampled_from(["m/s2", "g"]),
    st.integers(946_684_800_000_000, 4_000_000_000_000_000),
    st.sampled_from(Sync),
)


@given(waves)
def test_a_block_comes_back_as_it_was(wave: Wave) -> None:
    found = decode_wave(encode_wave(wave))
    assert found.samples.dtype == wave.samples.dtype
    assert np.array_equal(found.samples, wave.samples)
    assert (found.rate_hz, found.scale, found.unit, found.time_us, found.sync) == (
        wave.rate_hz,
        wave.scale,
        wave.unit,
        wave.time_us,
        wave.sync,
    )
    assert encode_wave(found) == encode_wave(wave)


@given(ids, st.sampled_from(Why), st.integers(0, 2**60), st.binary(max_size=200))
def test_a_record_comes_back_as_it_was(sensor: str, why: Why, arrival_us: int, block: bytes) -> None:
    kept = KeptWave(sensor, why, arrival_us, block)
    assert KeptWave.decode(kept.encode()) == kept


@given(waves, st.data())
def test_damage_is_refused_or_gives_a_block_within_its_bounds(wave: Wave, data: st.DataObject) -> None:
    raw = bytearray(encode_wave(wave))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    try:
        found = decode_wave(bytes(raw))
    except Rejected:
        return
    assert np.isfinite(found.acceleration()).all()
    assert found.rate_hz >= 1.0


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_or_read(raw: bytes) -> None:
    for read in (decode_wave, KeptWave.decode):
        with contextlib.suppress(Rejected):
            read(b"IMWV\1" + raw)


POINT = Point(
    machine_class="group-1-rigid",
    speed_rpm=1.0,
    bearing=BearingGeometry(elements=9, element_mm=7.94, pitch_mm=39.04),
    band_hz=(3.0, 900.0),
)
extremes = st.builds(
    Wave,
    st.one_of(
        hnp.arrays(np.int16, st.integers(64, 3000), elements=st.sampled_from([-32768, -1, 0, 1, 32767])),
        hnp.arrays(
            np.float32, st.integers(64, 3000), elements=st.sampled_from([0.0, 1e-45, -1.0, 3e38, -3e38])
        ),
    ),
    st.sampled_from([1.0, 333.3, 25_600.0, 1e6]),
    st.sampled_from([1e-300, 1e-9, 1.0, 1e6]),
    st.sampled_from(["m/s2", "g"]),
    st.just(1_700_000_000_000_000),
    st.just(Sync.SYNCHRONISED),
)


@given(extremes, st.sampled_from([None, 1e-6, 0.5, 25.0, 20_000.0]), st.booleans())
def test_no_block_that_is_read_breaks_the_judgement(wave: Wave, speed_hz: float | None, random: bool) -> None:  # noqa: FBT001
    """It would come again after each restart."""
    if random:
        noise = np.random.default_rng(1).integers(-32768, 32767, len(wave.samples)).astype(np.int16)
        wave = Wave(noise, wave.rate_hz, wave.scale, wave.unit, wave.time_us, wave.sync)
    point = VibrationPoint("e1", "pump", "de", POINT, read_limits()["group-1-rigid"])
    speed = Speed(speed_hz, "" if speed_hz else "not known", entered=True)
    told = point.take(wave, speed, "steady(0)", wave.end_us)
    assert np.isfinite(told.readings.value).all()
    assert all(event.to_json() for event in told.events)
    assert PointState.decode(point.state.encode()) == point.state
    assert point.report()["verdict"]
