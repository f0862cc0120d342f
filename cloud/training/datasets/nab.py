"""NAB machine temperature: one sensor, a row every 5 minutes; the first 15 % are FIT, three of four windows lie in TEST."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from cloud.training.datasets.run import AnomalySet, Run, need
from shared.clock import MICROSECONDS

FIT_SHARE: Final = 0.15


def files(folder: Path) -> list[Path]:
    """What the protocol reads."""
    base = folder / "NAB"
    return [base / "machine_temperature_system_failure.csv", base / "machine_temperature_windows.json"]


def load(folder: Path) -> AnomalySet:
    """The one series. Raises Misconfigured."""
    need(files(folder))
    series, windows = files(folder)
    with series.open(newline="", encoding="utf-8") as file:
        (_, sensor), *rows = csv.reader(file)
    times_us = np.array([_time(row[0]) for row in rows], dtype=np.int64)
    values = np.array([[float(row[1])] for row in rows])
    anomaly = np.zeros(len(rows), dtype=np.bool_)
    for begin, end in json.loads(windows.read_text(encoding="utf-8"))["windows"]:
        anomaly |= (times_us >= _time(begin)) & (times_us <= _time(end))
    cut = int(len(rows) * FIT_SHARE)
    run = Run(
        "machine_temperature",
        (sensor,),
        times_us[:cut],
        values[:cut],
        times_us[cut:],
        values[cut:],
        anomaly[cut:],
    )
    return AnomalySet("NAB", (run,))


def _time(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * MICROSECONDS)
