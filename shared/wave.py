"""Waveform blocks: the bytes that a vibration sensor sends, and the record that is kept of one.

A block is a header of 48 bytes and then the samples, little endian and without gaps:

| offset | bytes | field |
|---|---|---|
| 0 | 4 | `IMWV` |
| 4 | 1 | version, 1 |
| 5 | 1 | samples: 1 int16, 2 float32 |
| 6 | 1 | sync: 0 not known, 1 the device's clock is synchronised, 2 it runs free |
| 7 | 1 | 0 |
| 8 | 4 | count, unsigned |
| 12 | 4 | 0 |
| 16 | 8 | time of the first sample, µs since 1970 UTC, signed |
| 24 | 8 | sampling rate, Hz, binary64 |
| 32 | 8 | scale, binary64: a sample times scale is a value in the unit |
| 40 | 8 | unit, ASCII, padded with zeros: `m/s2` or `g` |

A kept block stands in a WAVE frame with the sensor that sent it and why it was kept, since a frame names only the machine.
Golden files under tests/golden/waves hold it.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.clock import MICROSECONDS
from shared.device_json import AHEAD_US, EARLIEST_US, END_US
from shared.errors import Rejected
from shared.names import check_id
from shared.units import UNITS

VERSION: Final = 1
MAX_BYTES: Final = 240 * 1024
MIN_SAMPLES: Final = 64
RATES_HZ: Final = (1.0, 1e6)
MAX_SCALE: Final = 1e6
ACCELERATION: Final = tuple(name for name, unit in UNITS.items() if unit.dimension == "acceleration")

_HEADER: Final = struct.Struct("<4sBBBxI4xqdd8s")
_KEPT: Final = struct.Struct("<4sBBBxq")
_BLOCK: Final = b"IMWV"
_RECORD: Final = b"IMWK"
_SAMPLES: Final[Mapping[int, np.dtype[Any]]] = {1: np.dtype("<i2"), 2: np.dtype("<f4")}
_CODES: Final = {"i2": 1, "f4": 2}


class Sync(IntEnum):
    """What a device says of its clock."""

    UNKNOWN = 0
    SYNCHRONISED = 1
    FREE = 2


class Why(IntEnum):
    """Why a block was kept, the least important first: in this order a full store lets them go."""

    DAY = 1
    REQUEST = 2
    ALARM = 3


@dataclass(frozen=True, slots=True, eq=False)
class Wave:
    """A block of acceleration. `samples` (n,) int16 or float32; times `scale` they are in `unit`; `time_us` is the first's."""

    samples: NDArray[np.int16] | NDArray[np.float32]
    rate_hz: float
    scale: float
    unit: str
    time_us: int
    sync: Sync = Sync.UNKNOWN

    @property
    def end_us(self) -> int:
        """When the last sample's interval ends."""
        return self.time_us + round(len(self.samples) / self.rate_hz * MICROSECONDS)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate_hz

    def acceleration(self) -> NDArray[np.float64]:
        """The samples (n,) in m/s²."""
        return self.samples.astype(np.float64) * (self.scale * UNITS[self.unit].scale)


@dataclass(frozen=True, slots=True)
class KeptWave:
    """A block as it stands in a WAVE frame: `block` are the device's own bytes."""

    sensor: str
    why: Why
    arrival_us: int
    block: bytes

    def encode(self) -> bytes:
        """The record's bytes."""
        name = self.sensor.encode()
        return _KEPT.pack(_RECORD, VERSION, self.why, len(name), self.arrival_us) + name + self.block

    @classmethod
    def decode(cls, data: bytes) -> "KeptWave":
        """Read a record; the block in it is not looked at. Raises Rejected."""
        if len(data) < _KEPT.size:
            raise Rejected(f"a kept waveform of {len(data)} bytes")
        magic, version, why, length, arrival_us = _KEPT.unpack_from(data)
        if magic != _RECORD or version != VERSION:
            raise Rejected(f"not a kept waveform of version {VERSION}")
        if why not in Why._value2member_map_:
            raise Rejected(f"a waveform kept for a reason {why} that this release does not know")
        end = _KEPT.size + length
        try:
            sensor = check_id(data[_KEPT.size : end].decode("ascii"), "sensor")
        except UnicodeDecodeError as error:
            raise Rejected("a kept waveform's sensor is no id") from error
        return cls(sensor, Why(why), arrival_us, data[end:])


def encode_wave(wave: Wave) -> bytes:
    """The block's bytes. Raises ValueError for what `decode_wave` would refuse by its shape."""
    code = _CODES.get(wave.samples.dtype.str[1:])
    if code is None:
        raise ValueError(f"samples are int16 or float32, not {wave.samples.dtype}")
    unit = wave.unit.encode("ascii")
    header = _HEADER.pack(
        _BLOCK, VERSION, code, wave.sync, len(wave.samples), wave.time_us, wave.rate_hz, wave.scale, unit
    )
    data: bytes = header + wave.samples.astype(_SAMPLES[code]).tobytes()
    if len(data) > MAX_BYTES or len(wave.samples) < MIN_SAMPLES or wave.unit not in ACCELERATION:
        raise ValueError(
            f"a block has at least {MIN_SAMPLES} samples in m/s2 or g and at most {MAX_BYTES} bytes"
        )
    return data


def decode_wave(data: bytes, *, now_us: int | None = None) -> Wave:
    """Read a block. With `now_us` one from more than 10 minutes ahead of it is refused as well.

    Raises:
        Rejected: It is no block, of another version, of the wrong length, or holds a number that can't be.
    """
    if len(data) > MAX_BYTES:
        raise Rejected(f"a waveform of {len(data)} bytes: the most is {MAX_BYTES}")
    if len(data) < _HEADER.size or data[:4] != _BLOCK:
        raise Rejected("not a waveform: it does not begin with a header IMWV")
    header = _HEADER.unpack_from(data)
    _check_header(header, len(data) - _HEADER.size)
    _, _, code, sync, count, time_us, rate_hz, scale, raw_unit = header
    _check_time(time_us, now_us)
    samples = np.frombuffer(data, _SAMPLES[code], count, _HEADER.size)
    if not np.isfinite(samples).all():
        raise Rejected("a sample is NaN or infinite")
    return Wave(samples, rate_hz, scale, _unit(raw_unit), time_us, Sync(sync))


def _check_header(header: tuple[Any, ...], size: int) -> None:
    """Raises Rejected for a field that can't be; `size` are the bytes of the samples."""
    _, version, code, sync, count, _, rate_hz, scale, raw_unit = header
    if version != VERSION:
        raise Rejected(f"waveform version {version}: this release reads {VERSION}")
    if code not in _SAMPLES:
        raise Rejected(f"samples of kind {code}: 1 is int16, 2 is float32")
    if sync not in Sync._value2member_map_:
        raise Rejected(f"sync is {sync}, not 0, 1 or 2")
    if count < MIN_SAMPLES:
        raise Rejected(f"{count} samples: the least is {MIN_SAMPLES}")
    if size != count * _SAMPLES[code].itemsize:
        raise Rejected(f"{count} samples do not fill {size} bytes")
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        raise Rejected(f"a sampling rate of {rate_hz:g} Hz: it is 1 to 1,000,000")
    if not 0.0 < scale <= MAX_SCALE:
        raise Rejected(f"scale is {scale:g}, not above 0 and at most {MAX_SCALE:g}")
    if _unit(raw_unit) not in ACCELERATION:
        known = " or ".join(ACCELERATION)
        raise Rejected(f"unit is {_unit(raw_unit)!r}: a waveform is an acceleration in {known}")


def _unit(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("ascii", "replace")


def _check_time(time_us: int, now_us: int | None) -> None:
    if not EARLIEST_US <= time_us < END_US:
        raise Rejected("its time is outside the years 2000 to 2100")
    if now_us is not None and time_us > now_us + AHEAD_US:
        raise Rejected("its time is more than 10 min ahead of this clock")
