"""TEP: the simulated Tennessee Eastman plant, 52 columns, a row every 3 minutes without times, faults 1 to 10.

Every fault is fitted on the normal run d00 alone; its test run has 960 rows, faulty from row 160 on.
"""

import gzip
from pathlib import Path
from typing import Final

import numpy as np

from cloud.training.datasets.run import AnomalySet, Run, need, seconds
from shared.windows import Floats

FAULTS: Final = range(1, 11)
HARD: Final = ("d03_te", "d09_te")  # practically undetectable: shown with and without
FAULT_ROW: Final = 160
COLUMNS: Final = 52
MEASURED: Final = 41  # XMEAS; the others are XMV


def files(folder: Path) -> list[Path]:
    """What the protocol reads."""
    base = folder / "TEP"
    tests = [base / f"d{fault:02}_te.dat.gz" for fault in (0, *FAULTS)]
    return [base / "d00.dat.gz", *tests]


def load(folder: Path) -> AnomalySet:
    """The ten faults, and the normal test run as healthy. Raises Misconfigured."""
    need(files(folder))
    base = folder / "TEP"
    fit = _table(base / "d00.dat.gz")
    fit = fit.T if fit.shape[0] == COLUMNS else fit  # d00 alone is stored transposed
    runs = tuple(_run(base, fit, f"d{fault:02}_te", FAULT_ROW) for fault in FAULTS)
    return AnomalySet("TEP", runs, (_run(base, fit, "d00_te", None),))


def _run(base: Path, fit: Floats, name: str, fault_row: int | None) -> Run:
    test = _table(base / f"{name}.dat.gz")
    anomaly = np.arange(len(test)) >= (len(test) if fault_row is None else fault_row)
    sensors = [f"XMEAS{number}" for number in range(1, MEASURED + 1)]
    sensors += [f"XMV{number}" for number in range(1, COLUMNS - MEASURED + 1)]
    return Run(name, tuple(sensors), seconds(len(fit)), fit, seconds(len(test), len(fit)), test, anomaly)


def _table(path: Path) -> Floats:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return np.asarray(np.loadtxt(file), dtype=np.float64)
