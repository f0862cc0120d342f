"""Units and their rows: each unit's history in order, oldest row first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shared.errors import Rejected
from shared.windows import Floats, Ints


@dataclass(frozen=True)
class Runs:
    """Histories of units that need not have failed.

    Attributes:
        units: A name a unit, in order.
        starts: int64[U + 1]; rows `starts[k]:starts[k + 1]` are unit k's.
        cycles: float64[n], strictly increasing within a unit: run-hours, starts, flights, whatever wears.
        values: float64[n, S], NaN where a sensor said nothing.
        columns: S names of set-points and sensors; which is which is not told.
    """

    units: tuple[str, ...]
    starts: Ints
    cycles: Floats
    values: Floats
    columns: tuple[str, ...]

    def __len__(self) -> int:
        """Number of units."""
        return len(self.units)

    @property
    def last(self) -> Ints:
        """int64[U], each unit's newest row."""
        return self.starts[1:] - 1

    @property
    def of_row(self) -> Ints:
        """int64[n], number of the unit that a row belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @property
    def lives(self) -> Floats:
        """float64[U], each unit's newest cycle: its whole life where it ended in failure."""
        return self.cycles[self.last]

    @property
    def remaining(self) -> Floats:
        """float64[n], cycles from a row to its unit's newest: remaining life where that was its failure."""
        return self.lives[self.of_row] - self.cycles

    def rows(self) -> Iterator[slice]:
        """Each unit's rows."""
        for begin, end in zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True):
            yield slice(begin, end)

    def take(self, units: Ints) -> "Runs":
        """These units alone, in the order given."""
        rows = np.concatenate([np.arange(self.starts[k], self.starts[k + 1]) for k in units])
        lengths = np.diff(self.starts)[units]
        return Runs(
            tuple(self.units[k] for k in units.tolist()),
            np.concatenate([[0], np.cumsum(lengths)]),
            self.cycles[rows],
            self.values[rows],
            self.columns,
        )

    def cut(self, ends: Ints) -> "Runs":
        """Each unit up to and with row `ends[k]` of all rows; later rows are gone."""
        lengths = ends + 1 - self.starts[:-1]
        rows = np.concatenate([np.arange(s, e + 1) for s, e in zip(self.starts[:-1], ends, strict=True)])
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return Runs(self.units, starts, self.cycles[rows], self.values[rows], self.columns)


def make_runs(units: Sequence[str], cycles: Floats, values: Floats, columns: Sequence[str]) -> Runs:
    """Sort rows, in any order, by unit and cycle. Units keep the order in which they first come.

    Rows of one unit and cycle that agree where both speak become one.

    Raises:
        Rejected: Two rows of one unit and cycle contradict each other, or a cycle is no finite number.
    """
    if not np.isfinite(cycles).all():
        raise Rejected("a cycle is not a finite number")
    names: dict[str, int] = {}
    number = np.array([names.setdefault(unit, len(names)) for unit in units], dtype=np.int64)
    order = np.lexsort((cycles, number))
    number, cycles, values = number[order], cycles[order], values[order]
    same = np.flatnonzero((np.diff(number) == 0) & (np.diff(cycles) == 0)) + 1
    if len(same):
        values = values.copy()
        known = tuple(names)
        for row in same.tolist():
            both = np.isfinite(values[row]) & np.isfinite(values[row - 1])
            if (values[row][both] != values[row - 1][both]).any():
                raise Rejected(f"unit {known[number[row]]!r} has two different rows of cycle {cycles[row]:g}")
            values[row] = np.where(np.isfinite(values[row]), values[row], values[row - 1])
        keep = np.ones(len(cycles), dtype=np.bool_)
        keep[same - 1] = False  # the later of each has what both said
        number, cycles, values = number[keep], cycles[keep], values[keep]
    starts = np.searchsorted(number, np.arange(len(names) + 1))
    return Runs(tuple(names), starts.astype(np.int64), cycles, values, tuple(columns))
