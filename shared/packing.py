"""How rows become bodies that fit a frame: splitting what arrives, and joining what waited for its cut."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np

from shared.errors import Rejected
from shared.frame_codec import encode_body
from shared.frames import (
    MAX_BYTES,
    MAX_ROWS,
    Aggregates,
    Body,
    Kind,
    Readings,
    Records,
    Scores,
    concat_readings,
    slice_readings,
)

# What a frame's header takes, and what joining may add: an index and a quality byte a row.
ROOM: Final = MAX_BYTES - 8192


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """Rows of one machine and kind that are to be committed together. `machine` is empty only for rejects."""

    machine: str
    kind: Kind
    body: Body
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """An encoded part of an item that fits one frame."""

    machine: str
    kind: Kind
    urgent: bool
    rows: int
    body: bytes


def pieces(items: Iterable[Item]) -> list[Piece]:
    """The items' rows in order, each piece at most 1,000 rows and a frame's bytes.

    Raises:
        Rejected: One row alone is too large for a frame.
    """
    return [
        Piece(item.machine, item.kind, item.urgent, len(part), raw)
        for item in items
        if len(item.body)
        for part, raw in split(item.body)
    ]


def split(body: Body) -> Iterator[tuple[Body, bytes]]:
    """The body's rows in order, in parts that each fit a frame, with their encoded columns. Raises Rejected."""
    rows = len(body)
    if rows <= MAX_ROWS:
        raw = encode_body(body)
        if len(raw) <= ROOM:
            yield body, raw
            return
        if rows == 1:
            raise Rejected(f"a row of {len(raw)} bytes does not fit a frame of {ROOM}")
    step = MAX_ROWS if rows > MAX_ROWS else (rows + 1) // 2
    for start in range(0, rows, step):
        yield from split(slice_body(body, start, min(start + step, rows)))


def slice_body(body: Body, start: int, stop: int) -> Body:
    """Rows `start` to `stop`."""
    match body:
        case Readings():
            return slice_readings(body, start, stop)
        case Scores():
            return Scores(
                body.model,
                body.version_hash,
                body.limit,
                body.sensor_names,
                body.time_us[start:stop],
                body.score[start:stop],
                body.state[start:stop],
                body.contribution[start:stop],
                body.expected[start:stop],
            )
        case Aggregates():
            return Aggregates(
                body.sensor_names,
                body.units,
                body.width_us,
                body.sensor[start:stop],
                body.start_us[start:stop],
                body.rows[start:stop],
                body.minimum[start:stop],
                body.maximum[start:stop],
                body.mean[start:stop],
                replaces=body.replaces,
            )
        case Records():
            return Records(body.record[start:stop])


def joins(one: Body, other: Body) -> bool:
    """Whether rows of both may stand in one frame: scores only of one model, aggregates never."""
    match one, other:
        case (Readings(), Readings()) | (Records(), Records()):
            return True
        case Scores(), Scores():
            return (one.model, one.version_hash, one.limit, one.sensor_names) == (
                other.model,
                other.version_hash,
                other.limit,
                other.sensor_names,
            )
    return False


def join(bodies: Sequence[Body]) -> Body:
    """One body of several that `joins` allows, rows in order."""
    if len(bodies) == 1:
        return bodies[0]
    if isinstance(bodies[0], Records):
        return Records(
            tuple(chain.from_iterable(body.record for body in bodies if isinstance(body, Records)))
        )
    scores = [body for body in bodies if isinstance(body, Scores)]
    if scores:
        first = scores[0]
        return Scores(
            first.model,
            first.version_hash,
            first.limit,
            first.sensor_names,
            np.concatenate([body.time_us for body in scores]),
            np.concatenate([body.score for body in scores]),
            np.concatenate([body.state for body in scores]),
            np.concatenate([body.contribution for body in scores]),
            np.concatenate([body.expected for body in scores]),
        )
    return concat_readings([body for body in bodies if isinstance(body, Readings)])


def pack(parts: Sequence[tuple[Body, int]], *, partial: bool) -> list[int]:
    """How to cut parts (body, encoded bytes) of one machine and kind, in order, into frames.

    Args:
        parts: What waits.
        partial: Whether a last frame that has room left is cut, too.

    Returns:
        For each frame where it ends: its parts are those before that index and after the frame before.
    """
    ends: list[int] = []
    rows = size = start = 0
    for at, (body, length) in enumerate(parts):
        over = rows + len(body) > MAX_ROWS or size + length > ROOM
        if at > start and (over or not joins(parts[start][0], body)):
            ends.append(at)
            rows = size = 0
            start = at
        rows += len(body)
        size += length
    if parts and (partial or rows >= MAX_ROWS or size >= ROOM):
        ends.append(len(parts))
    return ends
