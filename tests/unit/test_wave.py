"""Waveform blocks: golden bytes, and every rule that a block can break."""

import struct
from pathlib import Path

import numpy as np
import pytest

from shared.clock import MICROSECONDS
from shared.errors import Rejected
from shared.wave import MAX_BYTES, KeptWave, Sync, Wave, Why, decode_wave, encode_wave

GOLDEN = Path(__file__).parents[1] / "golden" / "waves"
T0 = 1_700_000_000_000_000
INT16 = Wave(np.arange(-32, 32, dtype=np.int16) * 1000, 25_600.0, 0.001, "m/s2", T0, Sync.SYNCHRONISED)
FLOAT32 = Wave(np.linspace(-1.5, 2.5, 80, dtype=np.float32), 51_200.5, 1.0, "g", T0 + 1, Sync.FREE)
KEPT = KeptWave("bearing-de", Why.ALARM, T0 + 5, encode_wave(INT16))
SAMPLES = {"int16.v1": encode_wave(INT16), "float32.v1": encode_wave(FLOAT32), "kept.v1": KEPT.encode()}


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text(encoding="ascii"))


@pytest.mark.parametrize("name", SAMPLES)
def test_encoding_gives_the_golden_bytes(name: str) -> None:
    assert SAMPLES[name] == golden(name)


@pytest.mark.parametrize(("name", "wave"), [("int16.v1", INT16), ("float32.v1", FLOAT32)])
def test_golden_bytes_still_decode(name: str, wave: Wave) -> None:
    found = decode_wave(golden(name))
    assert np.array_equal(found.samples, wave.samples)
    assert found.samples.dtype == wave.samples.dtype
    assert (found.rate_hz, found.scale, found.unit) == (wave.rate_hz, wave.scale, wave.unit)
    assert (found.time_us, found.sync) == (wave.time_us, wave.sync)


def test_the_golden_record_still_decodes() -> None:
    assert KeptWave.decode(golden("kept.v1")) == KEPT


def test_values_come_in_si_units_whatever_was_sent() -> None:
    assert INT16.acceleration()[0] == pytest.approx(-32.0)
    assert FLOAT32.acceleration()[-1] == pytest.approx(2.5 * 9.80665)
    assert INT16.seconds == pytest.approx(0.0025)
    assert INT16.end_us == T0 + 2500


def changed(at: int, layout: str, *values: float | bytes) -> bytes:
    data = bytearray(SAMPLES["float32.v1"])
    struct.pack_into(layout, data, at, *values)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a waveform"),
        (b'{"ts": 1, "value": 2}' * 4, "not a waveform"),
        (SAMPLES["int16.v1"][:47], "not a waveform"),
        (changed(4, "<B", 2), "version 2"),
        (changed(5, "<B", 3), "kind 3"),
        (changed(6, "<B", 3), "sync is 3"),
        (changed(8, "<I", 63), "63 samples"),
        (changed(8, "<I", 81), "do not fill"),
        (SAMPLES["float32.v1"] + b"\0", "do not fill"),
        (SAMPLES["float32.v1"][:-4], "do not fill"),
        (changed(24, "<d", 0.0), "sampling rate"),
        (changed(24, "<d", float("nan")), "sampling rate"),
        (changed(24, "<d", float("inf")), "sampling rate"),
        (changed(32, "<d", 0.0), "scale"),
        (changed(32, "<d", float("nan")), "scale"),
        (changed(32, "<d", -1.0), "scale"),
        (changed(40, "<8s", b"mm/s"), "unit is 'mm/s'"),
        (changed(40, "<8s", b"\xff"), "unit is"),
        (changed(16, "<q", 0), "2000 to 2100"),
        (changed(16, "<q", 2**62), "2000 to 2100"),
        (changed(48, "<f", float("nan")), "NaN"),
        (changed(48, "<f", float("inf")), "infinite"),
        (SAMPLES["int16.v1"] + bytes(MAX_BYTES), "the most is"),
    ],
)
def test_what_is_no_block_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        decode_wave(data)


def test_a_block_from_the_future_is_refused_by_a_receiver() -> None:
    now_us = T0 - 600 * MICROSECONDS
    assert decode_wave(SAMPLES["int16.v1"], now_us=now_us).time_us == T0
    with pytest.raises(Rejected, match="10 min ahead"):
        decode_wave(SAMPLES["int16.v1"], now_us=now_us - 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"IMWK", "a kept waveform of 4"),
        (b"IMWV" + KEPT.encode()[4:], "not a kept waveform"),
        (KEPT.encode()[:5] + b"\x09" + KEPT.encode()[6:], "reason 9"),
        (KEPT.encode()[:16] + b"Bearing_DE" + KEPT.encode()[26:], "is not an id"),
        (KEPT.encode()[:16] + b"\xff" + KEPT.encode()[17:], "no id"),
    ],
)
def test_what_is_no_record_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        KeptWave.decode(data)


@pytest.mark.parametrize(
    "wave",
    [
        Wave(np.zeros(63, np.int16), 1000.0, 1.0, "g", T0),
        Wave(np.zeros(MAX_BYTES // 2, np.int16), 1000.0, 1.0, "g", T0),
        Wave(np.zeros(64, np.int16), 1000.0, 1.0, "mm/s", T0),
        Wave(np.zeros(64, np.float64), 1000.0, 1.0, "g", T0),  # type: ignore[arg-type]
    ],
)
def test_what_would_be_refused_is_not_encoded(wave: Wave) -> None:
    with pytest.raises(ValueError, match="samples"):
        encode_wave(wave)
