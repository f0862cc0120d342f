"""A registered version's model card: what it is for, what it was made of, how it did, what it can't do. Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from cloud.training.confusion import CHAMPION, confusion_of, confusion_on_labels, said_of_labels
from industrialmind.model_words import stays_between
from shared.clock import MICROSECONDS
from shared.event import at

_KNOWN = {
    "calibration_max": "largest score of the calibration rows",
    "calibration_median": "median score of the calibration rows",
    "panel_found": "share of a panel of synthetic faults of one sensor that it found",
    "panel_false": "false episodes on the rows held out for the panel",
    "panel_faults": "faults in the panel",
    "panel_hours": "hours held out for the panel",
    "labels_faults": "confirmed faults that it could score",
    "labels_found": "of these, with an anomaly on",
    "labels_healthy": "confirmed healthy stretches that it could score",
    "labels_false": "of these, with an anomaly on",
    "labels_unseen": "confirmed stretches that it could not score",
}
_DIFFERENCES = {
    "found": "share of events found",
    "lead_hours": "hours of lead",
    "false_month": "false episodes a machine-month",
    "panel_found": "share of the panel found",
}


def model_card(model: Mapping[str, Any]) -> str:
    """The card of a version as `/v1/models/{version_hash}` answers it."""
    manifest = model["manifest"]
    parts = [
        f"# {model['name']} v{model['version']}",
        _purpose(model, manifest),
        "## Made of\n\n" + markdown_table(_made_of(manifest)),
        "## Judges\n\n" + _sensors(manifest),
        "## Limit\n\n" + _limit(model, manifest),
        "## Figures\n\n" + _figures(manifest["metrics"]),
        *_confusion(manifest["metrics"]),
        *_on_labels(manifest["metrics"]),
        *_contest(model),
        "## Where it runs\n\n" + markdown_table(_running(model)),
        "## What it does not do\n\n" + _limits(model, manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _purpose(model: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    alias = ", ".join(model["aliases"])
    return (
        f"Finds anomalies of {', '.join(manifest['machines'])} ({manifest['machine_type']}) by {manifest['method']}. "
        f"Version `{model['version_hash']}`{f', the {alias}' if alias else ''}, registered {model['registered_at']}, "
        f"by {manifest['author']}"
        + (f", approved by {manifest['approver']}." if manifest.get("approver") else ".")
    )


def _made_of(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    training, grid = manifest["training"], manifest["grid"]
    left_out = [f"{count} {reason}" for reason, count in sorted(training["excluded"].items()) if count]
    labels = training.get("labels_as_of_us")
    return [
        (
            "rows",
            f"{moment(training['first_us'])} to {moment(training['last_us'])}, {training['rows']} cells",
        ),
        (
            "windows",
            f"{training['windows']} of {grid['window']} cells of {grid['step_us'] / MICROSECONDS:g} s",
        ),
        ("windows left out", ", ".join(left_out) or "none"),
        ("labels as of", "no labels were read" if labels is None else moment(labels)),
        ("hash of the rows", f"`{training['sha256']}`"),
        (
            "descends from",
            f"`{manifest['parent']}`" if manifest.get("parent") else "nothing: its rows are a baseline",
        ),
        ("seed", str(manifest["seed"])),
        ("run", f"`{manifest['run_sha256']}`" if manifest.get("run_sha256") else "not told"),
        (
            "code, lock",
            f"{manifest.get('code_sha') or 'not told'}, {manifest.get('lock_sha256') or 'not told'}",
        ),
    ]


def _sensors(manifest: Mapping[str, Any]) -> str:
    rows = [
        (
            sensor["name"],
            f"{sensor['low']:.4g} to {sensor['high']:.4g} {sensor['unit']}".strip()
            + ("" if sensor["learnt"] else "; never moved: not judged"),
        )
        for sensor in manifest["sensors"]
    ]
    return markdown_table(rows, ("sensor", "seen in training"))


def _limit(model: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    calibration = manifest["calibration"]
    provisional = (
        " It is *provisional*: too few independent rows carry the wanted rate, and the limit is a stand-in."
        if model["provisional"]
        else ""
    )
    calm = calibration.get("calm_windows")
    over = (
        f"{calibration['persistence_n']} windows without one"
        if calm is None
        else f"{calm} windows of at most {calibration['calm_level']:g} of the limit"
    )
    return (
        f"{manifest['limit']:.6g}, by {calibration['method']} on {calibration['rows']} rows of which "
        f"{calibration['n_eff']:.0f} are independent (margin {calibration['margin']:.3g}), for "
        f"{calibration['budget_month']:g} false episodes a machine-month. An episode is "
        f"{calibration['persistence_m']} alarms of {calibration['persistence_n']} windows, and is over after {over}.{provisional}"
    )


def _figures(metrics: Mapping[str, float]) -> str:
    rows = [
        (name, f"{value:.6g}", _KNOWN.get(name.rpartition(".")[2], ""))
        for name, value in sorted(metrics.items())
    ]
    return markdown_table(rows, ("figure", "value", "what it is")) if rows else "None."


def _confusion(metrics: Mapping[str, float]) -> list[str]:
    """What it said on its panel against what was there; nothing where there was no panel."""
    counts = confusion_of(metrics)
    if not counts:
        return []
    rows = [
        ("a fault", str(counts["true_positive"]), str(counts["false_negative"])),
        ("none", str(counts["false_positive"]), "not counted: quiet time is no episode"),
    ]
    return [
        "## Confusion on its panel\n\n" + markdown_table(rows, ("there was", "it alarmed", "it was silent"))
    ]


def _on_labels(metrics: Mapping[str, float]) -> list[str]:
    """What it says of time that people confirmed, and the champion's beside it; nothing where no labels were read."""
    said = said_of_labels(metrics)
    if not said:
        return []
    rows = []
    for name, counts in (
        ("this version", confusion_on_labels(metrics)),
        ("the champion then", confusion_on_labels(metrics, CHAMPION)),
    ):
        if counts and sum(counts.values()):
            rows += [
                (f"a fault, {name}", str(counts["true_positive"]), str(counts["false_negative"])),
                (f"none, {name}", str(counts["false_positive"]), str(counts["true_negative"])),
            ]
    table = "\n\n" + markdown_table(rows, ("there was", "it alarmed", "it was silent")) if rows else ""
    told = " What is confirmed to be healthy may be among the training rows; faults are not." if rows else ""
    return [f"## Confusion on confirmed labels\n\n{said}{told}{table}"]


def _contest(model: Mapping[str, Any]) -> list[str]:
    """How it did as a challenger, and what was decided while it was champion; nothing where it was neither."""
    parts = []
    if (judged := model.get("judged")) is not None:
        figures, proxy = judged["figures"], " by a proxy, synthetic faults" if judged["proxy"] else ""
        rows = [
            (
                _DIFFERENCES[name],
                f"{figures[name]:+.3g}",
                f"{figures[f'{name}.low']:+.3g} to {figures[f'{name}.high']:+.3g}",
            )
            for name in _DIFFERENCES
            if f"{name}.low" in figures
        ]
        parts.append(
            f"## Against the champion\n\n*{judged['outcome']}*{proxy}: {'; '.join(judged['reasons'])}. Champion "
            f"`{judged['champion']}`, {judged['at']}; {figures.get('confirmed', 0):.0f} confirmed events, "
            f"{figures.get('lost', 0):.0f} lost.\n\n"
            + markdown_table(rows, ("challenger less champion", "", "90 %"))
        )
    if (decided := model.get("decided")) is not None:
        parts.append(
            f"## Training again\n\n{decided['at']}: {decided['triage']}: {decided['reason']}. What follows: "
            f"{decided['action']} (asked by {decided['trigger']})."
        )
    return parts


def _running(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("wanted on", ", ".join(model["promoted_to"]) or "no edge"),
        ("runs on", ", ".join(model["running_on"]) or "no edge"),
        *((f"refused by {edge}", reason) for edge, reason in sorted(model["refused"].items())),
    ]


def _limits(model: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    lines = [
        "- Its panel is of synthetic faults of one sensor each: a proxy, which ranks models and promises no rate of detection.",
        "- Whatever was wrong in all of its training rows is normal to it.",
    ]
    point, states = manifest.get("operating"), manifest.get("states")
    if states is not None:
        lines.append(
            f"- It is silent unless {states['sensor']} is steady at one of {len(states['levels'])} set-points."
        )
    elif point is not None:
        low, high = stays_between(point)
        lines.append(f"- It is silent unless {point['sensor']} is between {low:.4g} and {high:.4g}.")
    blind = [sensor["name"] for sensor in manifest["sensors"] if not sensor["learnt"]]
    if blind:
        lines.append(f"- It does not judge {', '.join(blind)}.")
    if model["provisional"]:
        lines.append("- Its rate of false episodes is not known yet.")
    return "\n".join(lines)


def markdown_table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...] = ("", "")) -> str:
    """Rows as a table in Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def moment(time_us: int) -> str:
    """A time in UTC, to the second."""
    return at(time_us).isoformat(timespec="seconds")
