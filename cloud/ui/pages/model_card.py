"""What runs for a machine: name, version, hash, how it was judged, where it runs; and what an edge kept out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dash import html
from dash.development.base_component import Component

from cloud.ui.parts import attrs, moment, short_hash
from cloud.ui.plant import MachineNow
from cloud.ui.text import number
from shared.clock import MICROSECONDS

COMPARED: Final = {"panel_found": "found", "panel_false": "false"}
"""Figures that candidates are compared by, and how they are headed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that an edge kept out, since when and why."""

    version: int
    edge: str
    reason: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Card:
    """The model that runs, and what is registered of it."""

    name: str
    version: int
    version_hash: str
    provisional: bool
    method: str
    runs_on: tuple[str, ...]
    aliases: tuple[str, ...]
    limit_from: str
    p99_ms: float | None
    metrics: tuple[tuple[str, float], ...]


def card(machine: MachineNow, registered: Mapping[str, Any]) -> Card | None:
    """The running model; None while there is none. `registered` is `/v1/models/{hash}`, or nothing yet."""
    model = machine.status.model
    if model is None:
        return None
    manifest = registered.get("manifest") or {}
    calibration = manifest.get("calibration") or {}
    metrics = manifest.get("metrics") or registered.get("metrics") or {}
    return Card(
        model.name,
        model.version,
        model.version_hash,
        model.provisional,
        str(manifest.get("method") or registered.get("method") or ""),
        tuple(registered.get("running_on") or ((machine.status.edge,) if machine.status.edge else ())),
        tuple(registered.get("aliases") or ()),
        str(calibration.get("method", "")),
        manifest.get("p99_ms"),
        tuple(sorted((str(k), float(v)) for k, v in metrics.items())),
    )


def refusal(machine: MachineNow, shown: Card | None) -> Refusal | None:
    """What the machine's edge last kept out, as long as nothing was activated since and what runs is not what is wanted."""
    told = max(machine.moments("model.refused"), key=lambda each: each[1], default=None)
    if told is None or (shown is not None and "champion" in shown.aliases):
        return None
    data, at_us = told[0]["data"], told[1]
    if any(activated_us > at_us for _, activated_us in machine.moments("model.activated")):
        return None
    return Refusal(int(data["model_version"]), str(data["edge"]), str(data["reason"]), at_us)


def build(shown: Card | None, refused: Refusal | None = None) -> list[Component]:
    """The card's content."""
    if shown is None:
        hope = html.P(
            "The first model is fitted and delivered without further action.", className="muted small"
        )
        return [html.P("None yet", className="big plain"), *(_refused(refused) or [hope])]
    facts: list[tuple[str, Any]] = [
        ("Name", shown.name),
        ("Hash", short_hash(shown.version_hash)),
        ("Runs on", ", ".join(shown.runs_on) or "not told"),
    ]
    if shown.method:
        facts.insert(1, ("Method", shown.method))
    if shown.limit_from:
        facts.append(("Limit by", shown.limit_from))
    if shown.p99_ms is not None:
        facts.append(("A window takes", f"{number(shown.p99_ms)} ms (p99)"))
    marks = [html.Span(alias, className="mark") for alias in shown.aliases]
    if shown.provisional:
        marks.append(
            html.Span(
                "provisional",
                className="mark mark-provisional",
                title="its limit stands on little data so far",
            )
        )
    return [
        html.P([html.Span(f"v{shown.version}", className="big figure"), *marks], className="model-version"),
        *_refused(refused),
        html.Dl([html.Div([html.Dt(name), html.Dd(value)]) for name, value in facts], className="details"),
        *_metrics(shown),
    ]


def _refused(refused: Refusal | None) -> list[Component]:
    if refused is None:
        return []
    return [
        html.P(
            [
                html.Strong(f"v{refused.version} is refused"),
                f" by {refused.edge} since ",
                moment(refused.at_us / MICROSECONDS),
                f": {refused.reason}",
            ],
            className="refused small",
        )
    ]


def candidates(shown: Card) -> list[tuple[str, dict[str, float]]]:
    """The chosen method and those beside it, each with the figures that all of them have: `other.figure` is another's."""
    others: dict[str, dict[str, float]] = {}
    for name, value in shown.metrics:
        method, dot, figure = name.partition(".")
        if dot:
            others.setdefault(method, {})[figure] = value
    own = dict(shown.metrics)
    compared = [figure for figure in COMPARED if figure in own and all(figure in o for o in others.values())]
    if not others or not compared:
        return []
    rows = [(shown.method.partition("/")[0], own), *sorted(others.items())]
    return [(method, {figure: values[figure] for figure in compared}) for method, values in rows]


def _candidates(shown: Card) -> list[Component]:
    rows = candidates(shown)
    if not rows:
        return []
    return [
        html.Table(
            [
                html.Caption("The candidates on the same panel of synthetic faults", className="unseen"),
                html.Thead(
                    html.Tr(
                        [
                            html.Th(name, scope="col")
                            for name in ("Candidate", *(COMPARED[f] for f in rows[0][1]))
                        ]
                    )
                ),
                html.Tbody(
                    [
                        html.Tr(
                            [
                                html.Th(method, scope="row"),
                                *(html.Td(_figure(f, v)) for f, v in figures.items()),
                            ],
                            className="" if place else "chosen",
                        )
                        for place, (method, figures) in enumerate(rows)
                    ]
                ),
            ],
            className="candidates",
        )
    ]


def _figure(name: str, value: float) -> str:
    if name == "panel_found":
        return f"{value:.0%}"
    return str(int(value)) if value.is_integer() else number(value)


def _metrics(shown: Card) -> list[Component]:
    if not shown.metrics:
        return []
    return [
        *_candidates(shown),
        html.Details(
            [
                html.Summary("Figures it was judged by", id="figures"),
                html.Dl(
                    [
                        html.Div(
                            [
                                html.Dt(name.replace("_", " ").replace(".", ": ")),
                                html.Dd(_figure("", value), className="figure"),
                            ]
                        )
                        for name, value in shown.metrics
                    ],
                    className="details",
                    **attrs(aria_label="figures"),
                ),
            ]
        ),
    ]
