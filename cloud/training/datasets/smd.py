"""SMD: three servers, 38 metrics scaled to [0, 1], a row a minute without times. Training part, then test part."""

import gzip
from pathlib import Path
from typing import Final

import numpy as np

from cloud.training.datasets.run import AnomalySet, Run, Segment, need, seconds
from shared.windows import Floats

MACHINES: Final = ("machine-1-6", "machine-2-1", "machine-3-3")


def files(folder: Path) -> list[Path]:
    """What the protocol reads."""
    base = folder / "SMD"
    parts = [("train", "csv.gz"), ("test", "csv.gz"), ("test_label", "txt"), ("interpretation_label", "txt")]
    return [base / part / f"{machine}.{kind}" for machine in MACHINES for part, kind in parts]


def load(folder: Path) -> AnomalySet:
    """The three servers. Raises Misconfigured."""
    need(files(folder))
    return AnomalySet("SMD", tuple(_run(folder / "SMD", machine) for machine in MACHINES))


def _run(base: Path, machine: str) -> Run:
    fit = _table(base / "train" / f"{machine}.csv.gz")
    test = _table(base / "test" / f"{machine}.csv.gz")
    anomaly = np.loadtxt(base / "test_label" / f"{machine}.txt", delimiter=",") > 0
    sensors = tuple(f"m{number}" for number in range(1, fit.shape[1] + 1))
    blamed = (base / "interpretation_label" / f"{machine}.txt").read_text(encoding="utf-8")
    return Run(
        machine,
        sensors,
        seconds(len(fit)),
        fit,
        seconds(len(test), len(fit)),
        test,
        anomaly,
        tuple(_segment(line) for line in blamed.splitlines() if line.strip()),
    )


def _segment(line: str) -> Segment:
    """`begin-end:sensor,sensor`: rows from 0, the end not among them (as in the labels); sensors from 1."""
    span, sensors = line.split(":")
    begin, end = span.split("-")
    return Segment(int(begin), int(end), tuple(int(sensor) - 1 for sensor in sensors.split(",")))


def _table(path: Path) -> Floats:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return np.asarray(np.loadtxt(file, delimiter=","), dtype=np.float64)
