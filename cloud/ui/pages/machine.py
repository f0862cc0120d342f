"""One machine: state, score and limit over time, each sensor with its part in the deviation, model, episodes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from dash import dcc, html
from dash.development.base_component import Component

from cloud.ui.charts import ChartData, marks, tail
from cloud.ui.pages import life_card, model_card
from cloud.ui.pages.episodes import EPISODES_SHOWN, build_episodes, leaders
from cloud.ui.pages.fleet import lead_box
from cloud.ui.pages.sensors import SENSORS, sensor_parts, sensor_rows
from cloud.ui.parts import (
    attrs,
    badge,
    choice,
    moment,
    score_bar,
)
from cloud.ui.plant import MachineNow, PlantView, State
from cloud.ui.route import RANGES, Route
from cloud.ui.screen import Part
from cloud.ui.text import number
from cloud.ui.view import SensorLead, exceedances, leads
from shared.clock import MICROSECONDS

SPAN_TEXT: Final = {"15m": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h", "7d": "7 d"}


@dataclass(frozen=True, slots=True)
class Head:
    """The top of the page."""

    machine: str
    site: str
    edge: str
    state: State
    arrival_s: int | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """Score, limit and persistence. `over` of the last `of` windows are over the limit; `needs` make an anomaly."""

    state: State
    score: float | None
    limit: float | None
    reason: str
    over: int
    needs: int | None
    of: int | None
    lead: SensorLead | None


def layout(plant: PlantView, route: Route, now_us: int, chart: ChartData) -> Component:
    """The page, filled with what is known now and the chart's data."""
    built = {part.key: part for part in parts(plant, route, now_us) if part.inside is None}

    def card(title: str, name: str) -> Component:
        return html.Section(
            [html.H2(title), html.Div(built[name, "children"].build(), id=name)], className=f"card {name}"
        )

    return html.Div(
        [
            html.Nav(
                [
                    html.A("Fleet", href="/", **attrs(data_nav="1")),
                    html.Span("/", **attrs(aria_hidden="true")),
                    route.machine,
                ],
                className="crumbs",
                **attrs(aria_label="where this page is"),
            ),
            html.Div(built["machine-head", "children"].build(), id="machine-head", className="page-head"),
            html.Div(
                [
                    card("Anomaly score", "machine-score"),
                    card("Model", "machine-model"),
                    card("Remaining life", "machine-life"),
                ],
                className="cards",
            ),
            _chart(route, chart),
            html.Section(
                [
                    html.Div(
                        [
                            html.H2("Sensors"),
                            html.P(
                                "The bar's middle half is the range that training saw.", className="muted"
                            ),
                        ],
                        className="section-head",
                    ),
                    html.Div(built[SENSORS].build(), id=SENSORS[0]),
                ],
                className="card sensors",
            ),
            card("Latest anomalies", "machine-episodes"),
        ],
        className="page machine",
    )


def parts(plant: PlantView, route: Route, now_us: int) -> list[Part]:
    """What follows the plant on this page."""
    machine = plant.machines[route.machine]
    state = plant.state(machine, now_us)
    arrival = None if machine.arrival_us is None else machine.arrival_us // MICROSECONDS
    head = Head(route.machine, machine.status.site, machine.status.edge, state, arrival)
    manifest = _manifest(plant, machine)
    judged = judgement(machine, state, manifest)
    card = model_card.card(machine, plant.models.get(_hash(machine), {}))
    refused = model_card.refusal(machine, card)
    episodes = tuple(a for a in plant.anomalies if a.machine == route.machine)
    life = life_card.card(plant.lives, route.machine)
    rows = sensor_rows(machine, route, now_us, first=leaders(episodes))
    episodes = episodes[:EPISODES_SHOWN]
    found = [
        Part("machine-head", "children", head, partial(_head, head)),
        Part("machine-score", "children", judged, partial(_judgement, judged)),
        Part("machine-model", "children", (card, refused), partial(model_card.build, card, refused)),
        Part("machine-life", "children", life, partial(life_card.build, life)),
        Part("machine-episodes", "children", episodes, partial(build_episodes, episodes, route)),
        *sensor_parts(rows),
    ]
    drawn = marks(plant, route.machine)
    found.append(Part("chart-marks", "data", drawn, lambda: [asdict(mark) for mark in drawn]))
    if route.live:
        lines = (machine.score, *(machine.series(sensor) for sensor in route.sensors))
        newest = max((line.last[0] for line in lines if line.last), default=0) // MICROSECONDS
        found.append(
            Part("chart-tail", "data", newest, partial(tail, machine, route))
        )  # once a second is enough
    return found


def judgement(machine: MachineNow, state: State, manifest: Mapping[str, Any]) -> Judgement:
    """The score as it stands, with the persistence that makes an anomaly of it."""
    status = machine.status
    calibration = manifest.get("calibration") or {}
    needs, of = calibration.get("persistence_m"), calibration.get("persistence_n")
    over = exceedances(machine.score.recent, status.limit, of) if of else 0
    lead = next(iter(leads(machine)), None) if status.state == "anomalous" else None
    return Judgement(state, status.score, status.limit, status.unscored_reason, over, needs, of, lead)


def _hash(machine: MachineNow) -> str:
    return machine.status.model.version_hash if machine.status.model else ""


def _manifest(plant: PlantView, machine: MachineNow) -> Mapping[str, Any]:
    found: Mapping[str, Any] = plant.models.get(_hash(machine), {}).get("manifest") or {}
    return found


def _head(head: Head) -> list[Component]:
    where = " · ".join(part for part in (head.site, head.edge) if part)
    return [
        html.Div([html.H1(head.machine), badge(head.state)], className="title"),
        html.Div(
            [html.Span(where), html.Span(["data ", moment(head.arrival_s, kind="age")])],
            className="muted facts",
        ),
    ]


def _judgement(judged: Judgement) -> list[Component]:
    if judged.score is None or judged.limit is None:
        why = judged.reason or "the first model is fitted once enough has been recorded"
        said = "Learning" if judged.state in {"learning", "unknown"} else "Not scored"
        return [html.P(said, className="big"), html.P(f"{why}.", className="muted")]
    needed = (
        f"{judged.over} of the last {judged.of} windows over the limit; {judged.needs} of {judged.of} make an anomaly"
        if judged.needs and judged.of
        else "how many windows make an anomaly is not known yet"
    )
    over = " over" if judged.score > judged.limit else ""
    return [
        html.P(
            [
                html.Span(number(judged.score), className=f"big figure{over}"),
                html.Span(
                    [" of limit ", html.Span(number(judged.limit), className="figure")], className="muted"
                ),
            ]
        ),
        score_bar(judged.score, judged.limit, judged.state),
        html.P(
            [
                html.B(f"{judged.needs} of {judged.of}" if judged.needs else "persistence"),
                html.Span(f" · {needed}", className="muted"),
            ],
            className="small",
        ),
        *([lead_box(judged.lead)] if judged.lead else []),
    ]


def _chart(route: Route, chart: ChartData) -> Component:
    spans = [
        choice(
            text,
            route.to(span=name, start_us=None, end_us=None),
            chosen=route.live and route.span == name,
            name=f"range-{name}",
        )
        for name, text in SPAN_TEXT.items()
        if name in RANGES
    ]
    if not route.live:
        spans.append(choice("Chosen range", route.url(), chosen=True, name="range-chosen"))
    return html.Section(
        [
            html.Div(
                [
                    html.H2("Score over time"),
                    html.Div(spans, className="choices", role="group", **attrs(aria_label="time range")),
                ],
                className="section-head",
            ),
            dcc.Store(id="chart-data", data=chart.to_json()),
            dcc.Store(id="chart-tail", data=None),
            dcc.Store(id="chart-marks", data=None),
            html.Div(
                dcc.Graph(
                    id="chart",
                    config={"displayModeBar": False, "responsive": True, "doubleClick": "autosize"},
                    className=f"chart chart-{len(chart.overlays)}",
                ),
                role="img",
                **attrs(aria_label=chart.said()),
            ),
            html.P(chart.note(), className="muted small"),
            html.Details(
                [html.Summary("The same as a table"), html.Div(id="chart-rows")],
                className="chart-table",
                id="chart-table",
            ),
        ],
        className="card trend",
    )
