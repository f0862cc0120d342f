"""SKAB: a pump and valve test rig, about 1 Hz. A run is fitted on its first 400 rows and scored on the others."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from cloud.training.datasets.run import AnomalySet, Run, need
from shared.clock import MICROSECONDS

FIT_ROWS: Final = 400
RUNS: Final = 16
LABELS: Final = 2  # columns at the end: anomaly, change point


def files(folder: Path) -> list[Path]:
    """What the protocol reads."""
    return [folder / "SKAB" / "valve1" / f"{number}.csv" for number in range(RUNS)]


def load(folder: Path) -> AnomalySet:
    """The runs of valve1. Raises Misconfigured."""
    need(files(folder))
    return AnomalySet("SKAB", tuple(_run(path) for path in files(folder)))


def _run(path: Path) -> Run:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, delimiter=";")
    moments = [datetime.fromisoformat(row[0]).replace(tzinfo=UTC).timestamp() for row in rows]
    times = np.array(moments, dtype=np.float64) * MICROSECONDS
    table = np.array([[float(cell) for cell in row[1:]] for row in rows])
    times_us, values = times.astype(np.int64), table[:, :-LABELS]
    return Run(
        path.stem,
        tuple(header[1:-LABELS]),
        times_us[:FIT_ROWS],
        values[:FIT_ROWS],
        times_us[FIT_ROWS:],
        values[FIT_ROWS:],
        table[FIT_ROWS:, -LABELS] > 0,
    )
