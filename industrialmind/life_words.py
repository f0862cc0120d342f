"""Models of remaining life in words: for `models list`, `models show`, and as a model card."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cloud.telemetry.facts import HOUR_US
from industrialmind.model_card import markdown_table, moment

_KNOWN: Final = {
    "held_out_rmse_capped_hours": "root mean square error, lives cut at the knee",
    "held_out_mae_capped_hours": "mean absolute error, the same",
    "held_out_floor_rmse_capped_hours": "root mean square error of what age alone says",
    "held_out_coverage_90": "share of lives that the 90 % interval held; meant are 0.9",
    "held_out_winkler_90_hours": "mean width of that interval and 20 times what it missed by",
    "held_out_floor_winkler_90_hours": "the same of the interval that age alone gives",
}


def listed(models: Sequence[Mapping[str, Any]]) -> Table:
    """A line a version: beside the error and the Winkler score what age alone would have had, in hours of running."""
    names = (
        *("life of", "v", "method", "alias", "error h", "by age", "coverage", "Winkler h", "by age"),
        *("provisional", "hash", "registered"),
    )
    table = Table(*names, box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for model in models:
        metrics = model["metrics"]

        def figure(name: str, metrics: Mapping[str, float] = metrics) -> str:
            value = metrics.get(f"held_out_{name}")
            return "" if value is None else f"{value:.4g}"

        table.add_row(
            model["machine"],
            str(model["version"]),
            model["method"],
            ", ".join(model["aliases"]),
            figure("rmse_capped_hours"),
            figure("floor_rmse_capped_hours"),
            figure("coverage_90"),
            figure("winkler_90_hours"),
            figure("floor_winkler_90_hours"),
            "yes" if model["provisional"] else "no",
            model["version_hash"][:12],
            model["registered_at"][:16],
        )
    return table


def described(model: Mapping[str, Any]) -> Table:
    """Two columns: what, and what it is."""
    table = Table.grid(padding=(0, 2))
    for name, value in [*_identity(model), *_made_of(model["manifest"])]:
        table.add_row(name, value)
    for number, (name, value) in enumerate(sorted(model["manifest"]["metrics"].items())):
        table.add_row("figures" if not number else "", f"{name} {value:.6g}")
    return table


def life_card(model: Mapping[str, Any]) -> str:
    """The card of a version as `/v1/models/{version_hash}` answers it. Markdown."""
    manifest = model["manifest"]
    figures = [
        (name, f"{value:.6g}", _KNOWN.get(name, "")) for name, value in sorted(manifest["metrics"].items())
    ]
    parts = [
        f"# {model['name']} v{model['version']}",
        _purpose(manifest),
        "## Which\n\n" + markdown_table(_identity(model)),
        "## Made of\n\n" + markdown_table(_made_of(manifest)),
        "## Figures, of units held out\n\n"
        + (markdown_table(figures, ("figure", "value", "what it is")) if figures else "None."),
        "## What it does not do\n\n" + _limits(manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _purpose(manifest: Mapping[str, Any]) -> str:
    return (
        f"Tells the remaining life of {', '.join(manifest['machines'])} by {manifest['method']}, until: "
        f"{manifest['failure_criterion']}; at this load: {manifest['load_assumption']}."
    )


def _identity(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("model", f"{model['name']} v{model['version']}"),
        ("hash", model["version_hash"]),
        ("tells its machine's life", "yes" if "champion" in model["aliases"] else "no"),
        ("provisional", "yes: too few units for an honest 95 % interval" if model["provisional"] else "no"),
        ("registered", f"{model['registered_at']}, by {model['manifest']['author']}"),
    ]


def _made_of(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    hours = manifest["cycle_us"] / HOUR_US
    knee = manifest["knee"]
    return [
        ("failure", manifest["failure_criterion"]),
        ("load", manifest["load_assumption"]),
        ("units that failed", str(manifest["units"])),
        *(
            [("units that still ran", str(manifest["running_units"]))]
            if manifest.get("running_units")
            else []
        ),
        ("rows", f"{manifest['rows']}, one each {manifest['step'] * hours:.4g} h of running"),
        ("hash of the rows", manifest["rows_sha256"]),
        ("a cycle is", f"{hours:.4g} h of running"),
        ("knee", "none" if knee is None else f"{knee * hours:.4g} h: no longer life is told"),
        ("intervals", manifest["interval_method"]),
        ("sensors", ", ".join(manifest["sensors"])),
        ("seed", str(manifest["seed"])),
        (
            "code, lock",
            f"{manifest.get('code_sha') or 'not told'}, {manifest.get('lock_sha256') or 'not told'}",
        ),
        ("made", moment(manifest["created_us"])),
    ]


def _limits(manifest: Mapping[str, Any]) -> str:
    lines = [
        f"- It knows the failure that ended its {manifest['units']} units, under loads like theirs, and no other.",
        "- A machine unlike all of them is told to have not enough evidence; its figures are then of age alone.",
        "- Its intervals were judged on half of its units by those of the other half; its own stand on all.",
    ]
    if manifest["provisional"]:
        lines.append("- The ends of its 95 % interval are those of the worst unit.")
    return "\n".join(lines)
