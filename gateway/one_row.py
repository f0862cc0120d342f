"""Frames of one row, thousands at once: the same bytes that `shared.frame_codec.encode` makes one by one.

Protobuf writes fields in the order of their numbers. So a frame of one reading is, in this order: a head that only its
machine decides, the row's number, the checksum, the names that only its series decides, and the row's own numbers,
which take the same 33 bytes in each (36 with a quality that is not good).
"""

import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared import frame_pb2 as pb
from shared.frame_codec import VERSION
from shared.frames import Header

_TIME_BYTES: Final = 8
"""Every time between 1988 and 2112 takes these, as a zigzag varint of µs."""
_TAIL: Final = np.frombuffer(
    b"\x22\x08"
    + bytes(_TIME_BYTES)
    + b"\x2a\x08"
    + bytes(_TIME_BYTES)
    + b"\x32\x08"
    + bytes(8)
    + b"\x3a\x01\0",
    np.uint8,
)
_TAIL_ALL_GOOD: Final = len(_TAIL) - 3
_MIDDLE: Final = np.frombuffer(b"\x40\x01\x4d" + bytes(4) + b"\x52\0", np.uint8)
_FIRST_TAG: Final = b"\x38"
_MOST_VARINT: Final = 10
_MAX_KNOWN: Final = 65_536


class OneRowFrames:
    """Encodes rows; keeps what only their series decides. Series are told apart by any number of the caller's."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[bytes, bytes, int]] = {}

    def forget(self) -> None:
        """The numbers of the series mean something else from now on."""
        self._known.clear()

    def knows(self, series: int) -> bool:
        """Whether `learn` was called for it."""
        return series in self._known

    def learn(self, series: int, header: Header, sensor: str, unit: str) -> None:
        """What the frames of a series have in common. Of the header, only the rows differ between them."""
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        head = pb.Frame(
            version=VERSION,
            kind=int(header.kind),  # type: ignore[arg-type]
            site=header.site,
            edge=header.edge,
            machine=header.machine,
            epoch=header.epoch,
        ).SerializeToString(deterministic=True)
        names = pb.Readings(sensor_names=[sensor], units=[unit], sensor=[0]).SerializeToString(
            deterministic=True
        )
        self._known[series] = (head + _FIRST_TAG, names, zlib.crc32(names))

    def encode(
        self,
        series: NDArray[np.int64],
        row: NDArray[np.int64],
        time_us: NDArray[np.int64],
        arrival_us: int,
        value: NDArray[np.float64],
        quality: NDArray[np.uint8],
    ) -> list[bytes]:
        """A frame for each of n rows, whose series have all been learned."""
        distinct, place = np.unique(series, return_inverse=True)
        known = [self._known[each] for each in distinct.tolist()]
        starts = np.array([start for _, _, start in known], np.int64)[place].tolist()
        sizes = np.array([len(names) for _, names, _ in known], np.int64)[place]
        lengths = np.where(quality, len(_TAIL), _TAIL_ALL_GOOD)
        tails = _cut(_tails(time_us, arrival_us, value, quality), lengths)
        middles = _middles(list(map(zlib.crc32, tails, starts)), sizes + lengths)
        heads, names = [head for head, _, _ in known], [names for _, names, _ in known]
        return [
            heads[at] + first + middle + names[at] + tail
            for at, first, middle, tail in zip(place.tolist(), varints(row), middles, tails, strict=True)
        ]


def _tails(
    time_us: NDArray[np.int64], arrival_us: int, value: NDArray[np.float64], quality: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    count = len(time_us)
    rows = np.tile(_TAIL, (count, 1))
    rows[:, 2:10] = varint_bytes(time_us * 2, _TIME_BYTES)
    rows[:, 12:20] = varint_bytes(np.full(1, arrival_us * 2), _TIME_BYTES)
    rows[:, 22:30] = value.astype("<f8").view(np.uint8).reshape(count, 8)
    rows[:, -1] = quality
    return rows


def _middles(checksums: Sequence[int], sizes: NDArray[np.integer]) -> list[bytes]:
    count = len(checksums)
    rows = np.tile(_MIDDLE, (count, 1))
    rows[:, 3:7] = np.array(checksums, "<u4").view(np.uint8).reshape(count, 4)
    rows[:, 8] = sizes
    return _cut(rows, np.full(count, len(_MIDDLE)))


def varints(numbers: NDArray[np.int64]) -> list[bytes]:
    """Each non-negative number as protobuf's base 128 varint."""
    lengths = np.maximum(1, (np.frexp(numbers.astype(np.float64))[1] + 6) // 7)
    return _cut(varint_bytes(numbers, int(lengths.max(initial=1)), lengths), lengths)


def varint_bytes(
    numbers: NDArray[np.int64], width: int, lengths: NDArray[np.integer] | int | None = None
) -> NDArray[np.uint8]:
    """uint8[n, width]: the low seven bits first, each byte but the last with its high bit set."""
    lengths = width if lengths is None else lengths
    places = np.arange(width)
    groups = (numbers[:, None] >> (7 * places)) & 0x7F
    more = places < np.asarray(lengths).reshape(-1, 1) - 1
    made: NDArray[np.uint8] = (groups | np.where(more, 0x80, 0)).astype(np.uint8)
    return made


def _cut(rows: NDArray[np.uint8], lengths: NDArray[np.integer]) -> list[bytes]:
    """The first bytes of each row."""
    data, width = rows.tobytes(), rows.shape[1]
    return [
        data[at : at + length]
        for at, length in zip(range(0, len(data), width), lengths.tolist(), strict=True)
    ]
