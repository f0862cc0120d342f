"""What a trainer does, in words: for `train` on a terminal and for `up`."""

from collections.abc import Mapping
from typing import Any, Final

STEPS: Final[Mapping[str, str]] = {
    "open-mlflow": "opening MLflow",
    "fit": "fitting",
    "log-run": "logging the run",
    "register": "registering",
    "promote": "promoting",
    "contest": "holding against the champion",
    "deliver": "delivering",
    "reconciled": "agreed: registry, MLflow and edges",
}
FIGURES: Final = ("panel_found", "panel_false")


def progress(event: Mapping[str, Any]) -> str:
    """A short line on what is going on now; empty where the event says nothing of that."""
    match event["event"]:
        case "waiting":
            return "another trainer works: waiting for it to end"
        case "step":
            about = " ".join(part for part in (event["machine"], event["method"]) if part)
            step = STEPS.get(event["step"], event["step"].replace("-", " "))
            return f"{about}: {step}" if about else step
        case "fitting":
            return f"{event['machine']} {event['method']}: fitting, {event['number']} of {event['of']}"
        case "epoch":
            loss = event["figures"].get("validation_loss", float("nan"))
            return (
                f"{event['machine']} {event['method']}: epoch {event['epoch']} of {event['of']}, "
                f"validation loss {loss:.4g}, at most {event['left_s']:.0f} s left"
            )
        case "trial":
            how = _worth(event["value"])
            return f"{event['machine']} {event['method']}: settings {event['number']} of {event['of']}: {how}"
    return ""


def _worth(value: float | None) -> str:
    """What a search thinks of settings."""
    if value is None:
        return "can't be fitted"
    return "too many false episodes" if value < 0 else f"{value:.0%} found"


def outcome(event: Mapping[str, Any]) -> str:
    """What has come of a step, worth keeping; empty for other events."""
    match event["event"]:
        case "fitted":
            each = "; ".join(_candidate(candidate) for candidate in event["candidates"])
            return (
                f"{event['machine']}: {event['rows']} rows in {event['seconds']:.0f} s: {each}; "
                f"{event['chosen']} is chosen"
            )
        case "decided":
            sensors = f" ({', '.join(event['sensors'])})" if event["sensors"] else ""
            return f"{event['machine']}: {event['triage']}{sensors}: {event['reason']}: {event['action']}"
        case "judged":
            proxy = " by a proxy" if event["proxy"] else ""
            return f"{event['machine']}: challenger {event['sha256'][:12]}{proxy}: {event['outcome']}: {'; '.join(event['reasons'])}"
        case "refused" | "checkpoint":
            return f"{event['machine']}: {event.get('says') or 'no model: ' + event['reason']}"
        case "delivered":
            mark = " (provisional)" if event["provisional"] else ""
            return (
                f"{event['machine']}: {event['model']} v{event['version']}{mark} {event['sha256'][:12]} "
                f"delivered to {event['edge']}"
            )
    return ""


def figures(metrics: Mapping[str, float]) -> str:
    """The figures by which candidates are compared, those that there are."""
    found, false = (metrics.get(name) for name in FIGURES)
    said = [] if found is None else [f"found {found:.0%} of a panel of faults"]
    said += [] if false is None else [f"false {false:g}"]
    return ", ".join(said)


def _candidate(candidate: Mapping[str, Any]) -> str:
    epochs = f"{candidate['epochs']} epochs" if candidate["epochs"] else ""
    said = ", ".join(part for part in (epochs, figures(candidate["metrics"])) if part)
    return f"{candidate['method']} ({said})" if said else str(candidate["method"])
