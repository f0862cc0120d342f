"""What a labelled recording is to whoever judges models: rows to learn from, rows to score, and labels for scoring alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.clock import MICROSECONDS
from shared.errors import Misconfigured, Rejected
from shared.windows import Floats, Ints

Bools = npt.NDArray[np.bool_]

HINT: Final = "set IM_DATASETS to the folder that holds the data sets; `industrialmind datasets list` says what is there"


@dataclass(frozen=True, slots=True)
class Segment:
    """An anomalous stretch of TEST rows [begin, end), and the numbers of the sensors that a person blamed for it."""

    begin: int
    end: int
    sensors: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Run:
    """One recording, split.

    Attributes:
        name: Of the file or files.
        sensors: Names of the S columns, as `industrialmind score` would read them.
        fit_us: int64[m], times of the rows to learn from. Where the source has no times a row is a second, which is
            what `industrialmind score` makes of whole numbers.
        fit: float64[m, S].
        test_us: int64[n], times of the rows to score.
        test: float64[n, S].
        anomaly: bool[n], the labels. No detector may see them.
        blamed: Who was guilty, where the source says.
    """

    name: str
    sensors: tuple[str, ...]
    fit_us: Ints
    fit: Floats
    test_us: Ints
    test: Floats
    anomaly: Bools
    blamed: tuple[Segment, ...] = ()

    def __post_init__(self) -> None:
        width, rows = len(self.sensors), len(self.test_us)
        shapes = (self.fit.shape, self.test.shape, self.anomaly.shape)
        if shapes != ((len(self.fit_us), width), (rows, width), (rows,)):
            raise Rejected(
                f"{self.name}: times, sensors, rows and labels of shapes {shapes} don't fit together"
            )

    @property
    def step_us(self) -> int:
        """The usual interval between rows to score."""
        return int(np.median(np.diff(self.test_us)))

    def cut(self, *, skip: int = 0, rows: int | None = None) -> "Run":
        """The same run without the first `skip` FIT rows, and with the first `rows` TEST rows alone."""
        part = slice(rows)
        return Run(
            self.name,
            self.sensors,
            self.fit_us[skip:],
            self.fit[skip:],
            self.test_us[part],
            self.test[part],
            self.anomaly[part],
        )


@dataclass(frozen=True, eq=False)
class AnomalySet:
    """Runs that are judged together, and runs without a fault, which only false alarms are counted on."""

    name: str
    runs: tuple[Run, ...]
    healthy: tuple[Run, ...] = ()


def seconds(rows: int, begin: int = 0) -> Ints:
    """Times of rows that have none: a second each."""
    return (np.arange(rows, dtype=np.int64) + begin) * MICROSECONDS


def need(paths: Sequence[Path]) -> None:
    """Raises Misconfigured naming what is missing."""
    lost = [path for path in paths if not path.is_file()]
    if lost:
        raise Misconfigured(f"no data: {', '.join(map(str, lost[:3]))} is not there", hint=HINT)
