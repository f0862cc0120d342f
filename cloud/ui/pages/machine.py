"""One machine: state, score and limit over time, each sensor with its part in the deviation, model, episodes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from dash import dcc, html
from dash.development.base_component import Component

from cloud.ui.charts import ChartData, marks, tail
from cloud.ui.pages import model_card
from cloud.ui.pages.fleet import lead_box
from cloud.ui.parts import (
    attrs,
    badge,
    choice,
    level_bar,
    measured,
    moment,
    score_bar,
    share_bar,
    sparkline,
)
from cloud.ui.plant import Anomaly, MachineNow, PlantView, State
from cloud.ui.route import RANGES, Route
from cloud.ui.screen import Key, Part
from cloud.ui.text import number, quantity
from cloud.ui.view import SensorLead, Spark, exceedances, leads, sensor_spark
from shared.clock import MICROSECONDS
from shared.events import to_us

SENSORS: Key = ("sensor-list", "children")
SPAN_TEXT: Final = {"15m": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h", "7d": "7 d"}
EPISODES_SHOWN: Final = 8


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


@dataclass(frozen=True, slots=True)
class SensorRow:
    """A sensor: its newest value over its normal band, its trend, its part in the deviation."""

    sensor: str
    unit: str
    value: float | None
    low: float | None
    high: float | None
    share: float
    seen: float | None
    expected: float | None
    chosen: bool
    spark: Spark | None
    href: str


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
                [card("Anomaly score", "machine-score"), card("Model", "machine-model"), _life()],
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
    rows = sensor_rows(machine, route, now_us)
    episodes = tuple(a for a in plant.anomalies if a.machine == route.machine)[:EPISODES_SHOWN]
    order = tuple(row.sensor for row in rows)
    found = [
        Part("machine-head", "children", head, partial(_head, head)),
        Part("machine-score", "children", judged, partial(_judgement, judged)),
        Part("machine-model", "children", card, partial(model_card.build, card)),
        Part("machine-episodes", "children", episodes, partial(_episodes, episodes, route)),
        Part(*SENSORS, order, partial(_sensors, rows)),
    ]
    drawn = marks(plant, route.machine)
    found.append(Part("chart-marks", "data", drawn, lambda: [asdict(mark) for mark in drawn]))
    found += [
        Part(f"sensor-{row.sensor}", "children", row, partial(_sensor, row), inside=SENSORS) for row in rows
    ]
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


def sensor_rows(machine: MachineNow, route: Route, now_us: int) -> tuple[SensorRow, ...]:
    """Every sensor; those that lead a deviation first, then by name."""
    leading = {lead.sensor: lead for lead in leads(machine)}
    found = []
    for sensor in set(machine.sensors) | set(machine.bands):
        lead, band = leading.get(sensor), machine.bands.get(sensor)
        last = machine.sensors[sensor].last if sensor in machine.sensors else None
        known = band is not None and band.learnt
        share = lead.share if lead else machine.contributions.get(sensor, 0.0)
        found.append(
            SensorRow(
                sensor,
                machine.unit(sensor),
                None if last is None else last[1],
                band.low if band and known else None,
                band.high if band and known else None,
                round(share, 3),
                lead.seen if lead else None,
                lead.expected if lead else None,
                sensor in route.sensors,
                sensor_spark(machine, sensor, now_us),
                route.toggled(sensor),
            )
        )
    first = set(leading) if machine.status.state == "anomalous" else set()
    return tuple(sorted(found, key=lambda row: (-row.share if row.sensor in first else 0.0, row.sensor)))


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


def _life() -> Component:
    return html.Section(
        [
            html.H2("Remaining life"),
            html.P("Not enough evidence", className="big plain"),
            html.P(
                "No failure of this kind of machine has been recorded, so no life model runs and no figure is shown.",
                className="muted small",
            ),
        ],
        className="card machine-life",
    )


def _chart(route: Route, chart: ChartData) -> Component:
    spans = [
        choice(
            text, route.to(span=name, start_us=None, end_us=None), chosen=route.live and route.span == name
        )
        for name, text in SPAN_TEXT.items()
        if name in RANGES
    ]
    if not route.live:
        spans.append(choice("Chosen range", route.url(), chosen=True))
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


def _sensors(rows: Sequence[SensorRow]) -> Component:
    if not rows:
        return html.P("No reading yet.", className="muted")
    return html.Ul(
        [
            html.Li(html.Div(_sensor(row), id=f"sensor-{row.sensor}", className="sensor"), key=row.sensor)
            for row in rows
        ],
        className="sensor-rows",
    )


def _sensor(row: SensorRow) -> list[Component]:
    band = (
        f"normal {number(row.low)} to {quantity(row.high, row.unit)}"
        if row.low is not None and row.high is not None
        else "normal band not learnt"
    )
    seen = (
        [
            html.Span(["seen ", measured(row.seen, row.unit)]),
            html.Span(["expected ", measured(row.expected, row.unit)]),
        ]
        if row.expected is not None
        else [html.Span("as expected" if row.share < 0.005 else "no expected value told", className="muted")]  # noqa: PLR2004 - rounds to 0 %
    )
    return [
        html.Div([html.H3(row.sensor), html.Span(band, className="muted small")], className="sensor-name"),
        html.Div(measured(row.value, row.unit), className="sensor-value"),
        level_bar(row.value, row.low, row.high, row.unit),
        sparkline(row.spark, marked=row.chosen),
        html.Button(
            [
                share_bar(row.share),
                html.Span(f"{row.share:.0%}", className="figure"),
                html.Span("shown" if row.chosen else "show", className="toggle-word"),
            ],
            className="contribution",
            **attrs(
                data_nav=row.href,
                aria_pressed="true" if row.chosen else "false",
                aria_label=f"{row.sensor}: {row.share:.0%} of the deviation; lay its trend over the chart",
            ),
        ),
        html.Div(seen, className="sensor-seen"),
    ]


def _episodes(found: Sequence[Anomaly], route: Route) -> list[Component]:
    if not found:
        return [html.P("None has been recorded for this machine.", className="muted")]
    return [html.Ul([_episode(each, route) for each in found], className="episodes")]


def _episode(each: Anomaly, route: Route) -> Component:
    begin, end = to_us(each.onset), None if each.ended_at is None else to_us(each.ended_at)
    lead = max(each.sensors, key=lambda sensor: sensor.share, default=None)
    length = 600 * MICROSECONDS if end is None else max(60 * MICROSECONDS, end - begin)
    around = route.to(
        start_us=begin - length,
        end_us=(end or begin + length) + length,
        sensors=(lead.sensor,) if lead else (),
    )
    still = end is None
    return html.Li(
        [
            html.Span(
                className=f"shape shape-{'anomalous' if still else 'ended'}", **attrs(aria_hidden="true")
            ),
            html.Div(
                [
                    html.Span(
                        [
                            moment(begin // MICROSECONDS, kind="date"),
                            " to ",
                            html.B("now") if end is None else moment(end // MICROSECONDS),
                        ]
                    ),
                    html.Span(
                        f"score {number(each.score)} of limit {number(each.limit)}"
                        + (
                            f" · {lead.sensor} led with {lead.share:.0%}: "
                            f"seen {quantity(lead.seen, lead.unit)}, expected {quantity(lead.expected, lead.unit)}"
                            if lead
                            else ""
                        ),
                        className="muted",
                    ),
                ],
                className="episode-text",
            ),
            html.A("Show", href=around, className="choice", **attrs(data_nav="1")),
        ],
        className="episode",
    )
