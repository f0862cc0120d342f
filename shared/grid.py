"""Closing the cells of a grid: as rows stream in (`Grid`), and over a whole recording (`grid_frame`).

Both go through one function, so that edge, training and replay get the same cells from the same rows. The rules are
told in `shared.windows`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import orjson

from shared.errors import Rejected
from shared.states import BETWEEN, StateSpec
from shared.windows import Bools, Cells, Floats, GridSpec, Ints, Operating, Windows, windows_of

BAD: Final = 2  # the quality code of a row that never enters a cell


def cell_numbers(times_us: npt.ArrayLike, step_us: int) -> Ints:
    """The cell of each event time: the smallest k with t <= k * step."""
    return -np.floor_divide(-np.asarray(times_us, dtype=np.int64), step_us)


@dataclass
class _Run:
    """Where the rolling of cells stands between two calls."""

    closed: int | None  # the last closed cell, None before the first
    spoke: int  # the last cell with a row
    last: Floats  # [S] the last cell value of each sensor
    last_cell: Ints  # [S] and its number
    unknown: int  # the last cell out of the learnt operating range, or of the set-point that it is in
    place: int | None = None  # where the last cell of the operating sensor was, None before the first
    beyond: int = 0  # how many cells in a row lie outside the learnt range (`Operating.beyond`)


_NEVER: Final = np.iinfo(np.int64).min // 2


def _fresh(sensors: int) -> _Run:
    return _Run(None, _NEVER, np.full(sensors, np.nan), np.full(sensors, _NEVER, dtype=np.int64), _NEVER)


def _roll(spec: GridSpec, run: _Run, numbers: Ints, means: Floats, until: int) -> tuple[Ints, Floats, Bools]:
    """Close every cell up to `until`.

    Before a jump W cells in a row are empty, so that windows may slide over the result as if it had none.

    Args:
        spec: The grid.
        run: The state, moved on in place.
        numbers: int64[d], cells with rows, increasing, after `run.closed` and not after `until`.
        means: float64[d, S], NaN where a sensor had no row.
        until: The last cell to close.

    Returns:
        Numbers of the closed cells that a window ends at, their values with holds, and whether the operating point
        of the window that ends there is learnt and settled.
    """
    marks = np.concatenate([[run.spoke], numbers]).astype(np.int64)
    limits = np.minimum(np.concatenate([numbers - 1, [until]]), marks + spec.reach)
    begins = np.maximum(marks, _NEVER if run.closed is None else run.closed + 1)
    if run.closed is None:
        begins[0] = limits[0] + 1
    begins[1:] = marks[1:]
    lengths = np.maximum(limits - begins + 1, 0)
    total = int(lengths.sum())
    offsets = np.cumsum(lengths) - lengths
    closed = np.repeat(begins - offsets, lengths) + np.arange(total)
    filled = np.full((total, len(spec.sensors)), np.nan)
    filled[offsets[1:]] = means
    has = ~np.isnan(filled)
    source = np.where(has, np.arange(1, total + 1)[:, None], 0)
    np.maximum.accumulate(source, axis=0, out=source)
    stock = np.concatenate([run.last[None, :], filled])
    born = np.concatenate(
        [np.broadcast_to(run.last_cell, (1, filled.shape[1])), np.where(has, closed[:, None], _NEVER)]
    )
    columns = np.arange(filled.shape[1])[None, :]
    ages = closed[:, None] - born[source, columns]
    held = np.where(ages <= spec.max_age, stock[source, columns], np.nan)
    if total:
        run.last, run.last_cell = stock[source[-1], columns[0]], born[source[-1], columns[0]]
    if len(numbers):
        run.spoke = int(numbers[-1])
    if run.closed is not None or len(numbers):
        run.closed = max(until, run.closed if run.closed is not None else until)
    return closed, held, _known(spec, run, closed, held)


def _known(spec: GridSpec, run: _Run, closed: Ints, held: Floats) -> Bools:
    if spec.states is not None:
        return _steady(spec, spec.states, run, closed, held)
    if spec.operating is None or not len(closed):
        return np.ones(len(closed), dtype=np.bool_)
    return _in_range(spec, spec.operating, run, closed, held[:, spec.sensors.index(spec.operating.sensor)])


def _in_range(spec: GridSpec, range_: Operating, run: _Run, closed: Ints, points: Floats) -> Bools:
    """Cell after cell, since what counts as outside depends on whether the machine had left; nearly always none is."""
    if not run.beyond and not range_.far(points).any():
        return closed - run.unknown >= spec.window + range_.settle
    last = np.empty(len(closed), dtype=np.int64)
    waits = np.zeros(len(closed), dtype=np.bool_)
    for at, (cell, value) in enumerate(zip(closed.tolist(), points.tolist(), strict=True)):
        there = math.isfinite(value)
        if there:
            run.beyond = range_.beyond(value, run.beyond)
        # Silence is no return. By the older rule, of `leave` 1, it was.
        if run.beyond >= range_.leave and (there or range_.leave > 1):
            run.unknown = cell
        last[at], waits[at] = run.unknown, 0 < run.beyond < range_.leave
    return (closed - last >= spec.window + range_.settle) & ~waits


def _steady(spec: GridSpec, states: StateSpec, run: _Run, closed: Ints, held: Floats) -> Bools:
    """Cell after cell, since where a value counts depends on where the last one was."""
    last = np.empty(len(closed), dtype=np.int64)
    points = held[:, spec.sensors.index(states.sensor)].tolist()
    for at, (cell, value) in enumerate(zip(closed.tolist(), points, strict=True)):
        if math.isfinite(value):  # an empty cell is nowhere
            place = states.place(value, BETWEEN if run.place is None else run.place)
            if place < 0:
                run.unknown = cell
            elif run.place is not None and place != run.place:
                run.unknown = cell - 1
            run.place = place
        last[at] = run.unknown
    return closed - last >= spec.window + spec.settle


class Grid:
    """The streaming grid of one machine. Call `close` after each `add`: memory then stays bounded by one batch."""

    def __init__(self, spec: GridSpec) -> None:
        self._spec = spec
        self._run = _fresh(len(spec.sensors))
        self._open: dict[int, tuple[list[float], list[int]]] = {}
        self._watermark: int | None = None
        self._tail = np.full((spec.window - 1, len(spec.sensors)), np.nan)
        self._late = 0

    @property
    def spec(self) -> GridSpec:
        """The grid's definition."""
        return self._spec

    @property
    def late(self) -> int:
        """Rows that came after their cell had closed: counted, never scored."""
        return self._late

    @property
    def watermark_us(self) -> int | None:
        """The largest event time seen, None before the first row."""
        return self._watermark

    def add(
        self, sensor: npt.ArrayLike, time_us: npt.ArrayLike, value: npt.ArrayLike, quality: npt.ArrayLike
    ) -> None:
        """Take rows in order of arrival.

        Args:
            sensor: int[n], index into `spec.sensors`; rows with a negative one are ignored.
            time_us: int64[n], event time in µs.
            value: float64[n], engineering units; a row that is not finite counts as bad.
            quality: uint8[n], 0 good, 1 uncertain, 2 bad. A bad row moves time on and fills no cell.
        """
        sensors = np.asarray(sensor, dtype=np.int64)
        known = sensors >= 0
        if not known.any():
            return
        sensors = sensors[known]
        times = np.asarray(time_us, dtype=np.int64)[known]
        values = np.asarray(value, dtype=np.float64)[known]
        good = np.isfinite(values) & (np.asarray(quality)[known] < BAD)
        newest = int(times.max())
        self._watermark = newest if self._watermark is None else max(self._watermark, newest)
        numbers = cell_numbers(times, self._spec.step_us)
        if self._run.closed is not None:
            late = numbers <= self._run.closed
            self._late += int(late.sum())
            good &= ~late
        rows = zip(numbers[good].tolist(), sensors[good].tolist(), values[good].tolist(), strict=True)
        for number, column, reading in rows:  # in order, so a sum is the same however the rows were batched
            cell = self._open.get(number)
            if cell is None:
                cell = self._open[number] = ([0.0] * len(self._spec.sensors), [0] * len(self._spec.sensors))
            cell[0][column] += reading
            cell[1][column] += 1

    def close(self, now_us: int | None = None) -> Windows:
        """Every window that is closable: right edge + lateness * step <= the largest event time seen, or `now_us`.

        Give `now_us` where time should go on without data (a silent machine's windows then become unscorable).
        """
        spec, size = self._spec, len(self._spec.sensors)
        marks = [mark for mark in (self._watermark, now_us) if mark is not None]
        until = max(marks) // spec.step_us - spec.lateness if self._watermark is not None else _NEVER
        if until <= (self._run.closed if self._run.closed is not None else _NEVER):
            nothing = np.zeros(0, dtype=np.int64)
            return windows_of(spec, nothing, np.zeros((0, spec.window, size)), nothing.astype(np.bool_))
        numbers = np.array(sorted(number for number in self._open if number <= until), dtype=np.int64)
        means = np.empty((len(numbers), size))
        for row, number in enumerate(numbers.tolist()):
            sums, counts = self._open.pop(number)
            means[row] = _mean(np.array(sums), np.array(counts, dtype=np.int64))
        closed, held, known = _roll(spec, self._run, numbers, means, until)
        stretch = np.concatenate([self._tail, held])
        self._tail = stretch[len(stretch) - len(self._tail) :].copy()
        reach = np.arange(len(closed))[:, None] + np.arange(spec.window)[None, :]
        return windows_of(spec, closed * spec.step_us, stretch[reach], known)

    def to_json(self) -> bytes:
        """The grid as it stands, for a restart to go on with exactly the same cells."""
        run = self._run
        return orjson.dumps(
            {
                "spec": repr(self._spec),
                "run": [
                    run.closed,
                    run.spoke,
                    _listed(run.last),
                    run.last_cell.tolist(),
                    run.unknown,
                    run.place,
                    run.beyond,
                ],
                "open": [[number, *cell] for number, cell in self._open.items()],
                "watermark": self._watermark,
                "tail": _listed(self._tail),
                "late": self._late,
            }
        )

    @classmethod
    def from_json(cls, spec: GridSpec, data: bytes) -> Self:
        """The grid that `to_json` wrote. Raises Rejected for anything else, and for a grid of another definition."""
        grid = cls(spec)
        size = len(spec.sensors)
        try:
            kept = orjson.loads(data)
            if kept["spec"] != repr(spec):
                raise Rejected("this is the state of another grid")
            # The last of them is of later releases.
            closed, spoke, last, last_cell, unknown, place, *more = kept["run"]
            cells = np.array(last_cell, np.int64)
            grid._run = _Run(closed, spoke, _floats(last, (size,)), cells, unknown, place, *more)
            grid._open = {number: (sums, counts) for number, sums, counts in kept["open"]}
            grid._watermark, grid._late = kept["watermark"], kept["late"]
            grid._tail = _floats(kept["tail"], (spec.window - 1, size))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise Rejected(f"not a grid's state: {error}") from error
        return grid


def _listed(table: Floats) -> list[Any]:
    """Nested lists; JSON writes NaN as null and every other number so that it reads back the same."""
    listed: list[Any] = table.tolist()
    return listed


def _floats(listed: Sequence[Any], shape: tuple[int, ...]) -> Floats:
    """The array that `_listed` wrote, null as NaN."""
    return np.array(listed, dtype=np.float64).reshape(shape)


def _mean(sums: Floats, counts: Ints) -> Floats:
    means = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def grid_frame(spec: GridSpec, times_us: npt.ArrayLike, values: npt.ArrayLike) -> Cells:
    """A whole recording on the grid, for training and replay in event time.

    On rows in order of time it gives exactly the cells that a streaming Grid closes, and those still open there.

    Args:
        spec: The grid.
        times_us: int64[n], event times in µs, in any order.
        values: float64[n, S], engineering units; not finite = no row of that sensor.
    """
    times = np.asarray(times_us, dtype=np.int64)
    table = np.asarray(values, dtype=np.float64)
    good = np.isfinite(table)
    any_good = good.any(axis=1)
    numbers, place = np.unique(cell_numbers(times[any_good], spec.step_us), return_inverse=True)
    table, good = table[any_good], good[any_good]
    sums = np.zeros((len(numbers), len(spec.sensors)))
    counts = np.zeros(sums.shape, dtype=np.int64)
    np.add.at(sums, place, np.where(good, table, 0.0))
    np.add.at(counts, place, good)
    run = _fresh(len(spec.sensors))
    until = int(numbers[-1]) if len(numbers) else _NEVER
    closed, held, known = _roll(spec, run, numbers, _mean(sums, counts), until)
    return Cells(spec, closed * spec.step_us, held, known)
