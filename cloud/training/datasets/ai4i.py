"""AI4I 2020: 10,000 synthetic rows of a milling machine without time, each failed or not. For classification, 5-fold.

The kinds of failure are the label under other names, so they are no features and are not read.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cloud.training.datasets.run import Bools, need
from shared.errors import Rejected
from shared.windows import Floats, Ints

LABEL: Final = "Machine failure"
TYPES: Final = ("L", "M", "H")  # of the product's quality, in order
FOLDS: Final = 5


@dataclass(frozen=True, eq=False)
class Classified:
    """Rows with a label each, and the fold that each is tested in.

    Attributes:
        columns: Names of the features.
        values: float64[n, S].
        failed: bool[n].
        fold: int64[n], 0 to 4; each fold has its share of the failures.
    """

    columns: tuple[str, ...]
    values: Floats
    failed: Bools
    fold: Ints


def files(folder: Path) -> list[Path]:
    """What the protocol reads."""
    return [folder / "AI4I2020" / "ai4i2020.csv"]


def load(folder: Path, seed: int = 0) -> Classified:
    """All rows. Raises Misconfigured."""
    need(files(folder))
    with files(folder)[0].open(newline="", encoding="utf-8-sig") as file:
        header, *rows = csv.reader(file)
    if LABEL not in header:
        raise Rejected(f"{files(folder)[0]} has no column {LABEL!r}")
    kind, label = header.index("Type"), header.index(LABEL)
    numbers = list(range(kind + 1, label))
    values = np.array([[float(TYPES.index(row[kind])), *(float(row[at]) for at in numbers)] for row in rows])
    failed = np.array([row[label] == "1" for row in rows])
    columns = (header[kind], *(header[at] for at in numbers))
    return Classified(columns, values, failed, stratified(failed, seed))


def stratified(label: Bools, seed: int, folds: int = FOLDS) -> Ints:
    """A fold a row, failures and the others spread evenly."""
    random = np.random.default_rng([seed, 19])
    fold = np.zeros(len(label), dtype=np.int64)
    for part in (np.flatnonzero(label), np.flatnonzero(~label)):
        fold[random.permutation(part)] = np.arange(len(part)) % folds
    return fold
