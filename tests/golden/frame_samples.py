"""One frame of each kind, as version 1 encoded it. The files beside hold the bytes; they stay for ever."""

import dataclasses
from pathlib import Path
from typing import Final

import numpy as np

from shared.frames import Aggregates, Body, Header, Kind, Readings, Records, Scores

FOLDER: Final = Path(__file__).parent / "frames"
EPOCH: Final = bytes(range(16))
T0: Final = 1_700_000_000_000_000


def header(kind: Kind, first: int, count: int, machine: str = "pump-01") -> Header:
    return Header("plant-a", "edge-01", machine, kind, EPOCH, first, count)


SAMPLES: Final[dict[Kind, tuple[Header, Body]]] = {
    Kind.READINGS: (
        header(Kind.READINGS, 1, 4),
        Readings(
            ("bearing-temp", "flow"),
            ("degC", "m3/h"),
            np.array([0, 1, 0, 1]),
            np.array([T0, T0, T0 + 1_000_000, T0 - 5]),
            np.array([T0 + 900, T0 + 950, T0 + 1_000_700, T0 + 1_000_701]),
            np.array([61.25, -0.0, 61.5, 1e-300]),
            np.array([0, 1, 0, 2], np.uint8),
        ),
    ),
    Kind.SCORES: (
        header(Kind.SCORES, 5, 2),
        Scores(
            "pump-01-pca",
            "ab" * 32,
            1.5,
            ("bearing-temp", "flow"),
            np.array([T0, T0 + 10_000_000]),
            np.array([0.5, np.nan], np.float32),
            np.array([0, 2], np.uint8),
            np.array([[0.75, 0.25], [0.0, 0.0]], np.float32),
            np.array([[61.0, 3.5], [np.nan, 3.5]]),
        ),
    ),
    Kind.EVENT: (header(Kind.EVENT, 7, 1), Records((b'{"specversion":"1.0"}',))),
    Kind.AGGREGATE: (
        header(Kind.AGGREGATE, 8, 2),
        Aggregates(
            ("flow",),
            ("m3/h",),
            10_000_000,
            np.array([0, 0]),
            np.array([T0, T0 + 10_000_000]),
            np.array([10, 7]),
            np.array([1.0, 1.5]),
            np.array([2.0, 2.5]),
            np.array([1.5, 2.0]),
        ),
    ),
    Kind.WAVE: (header(Kind.WAVE, 10, 1), Records((bytes(range(256)),))),
    Kind.REJECT: (header(Kind.REJECT, 11, 2, machine=""), Records((b'{"reason":"not JSON"}', b""))),
}


BUCKETS: Final = SAMPLES[Kind.AGGREGATE][1]
assert isinstance(BUCKETS, Aggregates)
REPLACING: Final = dataclasses.replace(BUCKETS, replaces=((1, 17), (20, 20), (41, 1040)))
"""What a full outbox makes: the same buckets, naming the rows that they stand for."""


def path(kind: Kind, version: int) -> Path:
    return FOLDER / f"{kind.name.lower()}.v{version}.hex"


def read(kind: Kind, version: int) -> bytes:
    """The golden bytes: hex, 32 bytes a line."""
    return bytes.fromhex(path(kind, version).read_text(encoding="ascii"))
