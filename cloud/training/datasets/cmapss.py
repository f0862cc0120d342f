"""C-MAPSS: simulated turbofans run to failure, a row a flight. FD001 and FD003 have a test part with true remaining lives.

FD002 and FD004 come without: whole engines are held out of their training part and each is cut off several times.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cloud.training.datasets.run import need
from shared.errors import Rejected
from shared.windows import Floats, Ints

WITH_TEST: Final = ("FD001", "FD003")
WITHOUT: Final = ("FD002", "FD004")
COLUMNS: Final = (
    "altitude",
    "mach",
    "throttle",
    "T2",
    "T24",
    "T30",
    "T50",
    "P2",
    "P15",
    "P30",
    "Nf",
    "Nc",
    "epr",
    "Ps30",
    "phi",
    "NRf",
    "NRc",
    "BPR",
    "farB",
    "htBleed",
    "Nf_dmd",
    "PCNfR_dmd",
    "W31",
    "W32",
)
CAP: Final = 125.0  # labels "capped at 125", the other convention of papers
HELD_OUT: Final = 60  # engines
CUTS: Final = 8  # an engine
ROWS_MIN: Final = 30  # before an engine is cut off


@dataclass(frozen=True, eq=False)
class LifeRows:
    """Rows of units, unit after unit, each in order of its cycles.

    Attributes:
        unit: int64[n].
        cycle: float64[n].
        values: float64[n, S], settings and sensors by `COLUMNS`.
    """

    unit: Ints
    cycle: Floats
    values: Floats

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.unit), len(COLUMNS)) or self.cycle.shape != self.unit.shape:
            raise Rejected(f"units, cycles and rows of shape {self.values.shape} don't fit together")

    def take(self, rows: Ints) -> "LifeRows":
        """These rows."""
        return LifeRows(self.unit[rows], self.cycle[rows], self.values[rows])


@dataclass(frozen=True, eq=False)
class LifeSet:
    """Engines to learn from, which all end in failure, and engines cut off earlier with what they had left.

    Attributes:
        name: Of the set.
        train: Rows of whole lives.
        test: Rows of engines that were cut off.
        left: float64[units of test], cycles left after each one's last row, in order of the unit.
        engine: int64[units of test], the engine that each is of: cuts of one engine are not independent.
    """

    name: str
    train: LifeRows
    test: LifeRows
    left: Floats
    engine: Ints


def files(folder: Path, name: str) -> list[Path]:
    """What the protocol reads for one set."""
    parts = ("train", "test", "RUL") if name in WITH_TEST else ("train",)
    return [folder / "C-MAPSS" / f"{part}_{name}.txt.gz" for part in parts]


def load(folder: Path, name: str, seed: int = 0) -> LifeSet:
    """One set; `seed` draws engines and cuts where there is no test part. Raises Misconfigured."""
    need(files(folder, name))
    first, *others = files(folder, name)
    train = _rows(_table(first))
    if not others:
        return hold_out(name, train, seed)
    test, left = _rows(_table(others[0])), _table(others[1])[:, 0]
    engine = np.unique(test.unit)
    if len(engine) != len(left):
        raise Rejected(f"{name} has {len(engine)} test units and {len(left)} remaining lives")
    return LifeSet(name, train, test, left, engine)


def whole(folder: Path, name: str) -> LifeRows:
    """The whole training part: engines that all ran to failure. Raises Misconfigured."""
    need(files(folder, name))
    return _rows(_table(files(folder, name)[0]))


def hold_out(name: str, whole: LifeRows, seed: int, engines: int = HELD_OUT, cuts: int = CUTS) -> LifeSet:
    """Hold whole engines out and cut each off `cuts` times, anywhere after its first rows; units are numbered anew."""
    random = np.random.default_rng([seed, 17])
    held = np.sort(random.permutation(np.unique(whole.unit))[:engines])
    rows: list[Ints] = []
    numbers: list[Ints] = []
    left: list[int] = []
    for engine in held.tolist():
        own = np.flatnonzero(whole.unit == engine)
        for end in np.sort(random.choice(np.arange(ROWS_MIN, len(own)), size=cuts, replace=False)).tolist():
            numbers.append(np.full(end, len(left), dtype=np.int64))
            rows.append(own[:end])
            left.append(len(own) - end)
    test = whole.take(np.concatenate(rows))
    return LifeSet(
        name,
        whole.take(np.flatnonzero(~np.isin(whole.unit, held))),
        LifeRows(np.concatenate(numbers), test.cycle, test.values),
        np.array(left, dtype=np.float64),
        np.repeat(held, cuts),
    )


def _rows(table: Floats) -> LifeRows:
    return LifeRows(table[:, 0].astype(np.int64), table[:, 1], table[:, 2:])


def _table(path: Path) -> Floats:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return np.asarray(np.loadtxt(file, ndmin=2), dtype=np.float64)
