"""A model's confusion matrix on the panel that it was chosen by (`cloud.training.compare`). Pure."""

from collections.abc import Mapping


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
