"""A model's confusion matrices: on the panel that it was chosen by, and on what people confirmed. Pure."""

from collections.abc import Mapping
from typing import Final

from cloud.training.contest import CONFIRMED_MIN

CHAMPION: Final = "champion."
"""What the champion's figures begin with, among those of the version that is held against it."""
FAULTS: Final = "labels_faults"
FOUND: Final = "labels_found"
HEALTHY: Final = "labels_healthy"
FALSE: Final = "labels_false"
UNSEEN: Final = "labels_unseen"


def confusion_of(metrics: Mapping[str, float]) -> dict[str, int]:
    """Faults found and missed, false episodes; empty where there was no panel.

    There is no count of true negatives: the panel counts episodes, and quiet time has none.
    """
    try:
        faults, found = round(metrics["panel_faults"]), metrics["panel_found"]
        false = round(metrics["panel_false"])
    except KeyError:
        return {}
    hits = round(found * faults)
    return {"true_positive": hits, "false_negative": faults - hits, "false_positive": false}


def confusion_on_labels(metrics: Mapping[str, float], prefix: str = "") -> dict[str, int]:
    """Confirmed stretches by what they were and whether an anomaly was on; empty where no labels were read.

    `prefix` CHAMPION: the champion's on the same labels, empty where there was none.
    """
    if f"{prefix}{FAULTS}" not in metrics:
        return {}
    faults, found, healthy, false = (
        round(metrics[f"{prefix}{name}"]) for name in (FAULTS, FOUND, HEALTHY, FALSE)
    )
    return {
        "true_positive": found,
        "false_negative": faults - found,
        "false_positive": false,
        "true_negative": healthy - false,
    }


def said_of_labels(metrics: Mapping[str, float]) -> str:
    """How much the matrix on labels is worth, in a sentence or two; empty where no labels were read."""
    counts = confusion_on_labels(metrics)
    if not counts:
        return ""
    faults, healthy, unseen = (round(metrics[name]) for name in (FAULTS, HEALTHY, UNSEEN))
    beside = f" {unseen} more had no rows that it could score." if unseen else ""
    if not faults + healthy:
        return f"Nothing of this machine's time that it could be held against is confirmed yet.{beside}"
    told = f"Confirmed: {_count(faults, 'fault')}, {_count(healthy, 'healthy stretch', 'es')}.{beside}"
    if min(faults, healthy) < CONFIRMED_MIN:
        return f"{told} That is too few to go by: fewer than {CONFIRMED_MIN} of the one or the other."
    return told


def _count(number: int, name: str, several: str = "s") -> str:
    return f"{number} {name}{'' if number == 1 else several}"
