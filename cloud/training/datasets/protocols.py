"""The sets that anomaly models are judged on, by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from cloud.training.datasets import nab, skab, smd, tep
from cloud.training.datasets.run import AnomalySet

ANOMALY_SETS: Final[dict[str, Callable[[Path], AnomalySet]]] = {
    "SKAB": skab.load,
    "SMD": smd.load,
    "TEP": tep.load,
    "NAB": nab.load,
}
