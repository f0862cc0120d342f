"""The fleet: every machine, worst first, as tiles or as a table."""

from collections.abc import Sequence
from functools import partial

from dash import html
from dash.development.base_component import Component

from cloud.ui.pages.fleet_table import LIFE_TITLE, build_table, life_text, table_parts
from cloud.ui.parts import (
    STATE_TEXT,
    attrs,
    badge,
    choice,
    hidden,
    length,
    measured,
    moment,
    score_bar,
    sparkline,
)
from cloud.ui.plant import PlantView, State
from cloud.ui.route import Route
from cloud.ui.screen import Key, Part
from cloud.ui.text import number, unit
from cloud.ui.view import STATES, LifeLine, SensorLead, Spark, Strip, Tile, strip, tile_spark, tiles

LIST: Key = ("fleet-list", "children")
STRIP: Key = ("fleet-strip", "children")


def layout(plant: PlantView, route: Route, now_us: int) -> Component:
    """The page, filled with what is known now."""
    built = {part.key: part for part in parts(plant, route, now_us) if part.inside is None}
    return html.Div(
        [
            html.Div(
                [
                    html.H1("Fleet"),
                    html.Div(
                        [
                            choice(
                                "Tiles",
                                route.to(view="tiles"),
                                chosen=route.view == "tiles",
                                name="view-tiles",
                            ),
                            choice(
                                "Table",
                                route.to(view="table"),
                                chosen=route.view == "table",
                                name="view-table",
                            ),
                        ],
                        className="choices",
                        role="group",
                        **attrs(aria_label="how to show machines"),
                    ),
                ],
                className="page-head",
            ),
            html.Nav(
                built[STRIP].build(),
                id=STRIP[0],
                className="strip",
                **attrs(aria_label="machines by state"),
            ),
            html.Div(built[LIST].build(), id=LIST[0]),
        ],
        className="page fleet",
    )


def parts(plant: PlantView, route: Route, now_us: int) -> list[Part]:
    """What follows the plant on this page."""
    counts = strip(plant, now_us)
    shown = tiles(plant, now_us, route.state)
    found = strip_parts(counts, route)
    if not shown:
        found.append(Part(*LIST, (route, counts.machines == 0), lambda: _empty(counts, route)))
        return found
    order = (route, tuple(each.machine for each in shown))
    if route.view == "table":
        return [*found, Part(*LIST, order, lambda: build_table(shown)), *table_parts(shown, LIST)]
    sparks = {each.machine: tile_spark(plant.machines[each.machine], now_us) for each in shown}
    found.append(Part(*LIST, order, lambda: _tiles(shown, sparks)))
    for each in shown:
        name, spark = each.machine, sparks[each.machine]
        found += [
            Part(f"tile-{name}", "children", each, partial(tile_body, each), inside=LIST),
            Part(f"trend-{name}", "children", spark, partial(trend, spark), inside=LIST),
            Part(f"box-{name}", "className", each.state, partial(box_class, each), inside=LIST),
        ]
    return found


def strip_parts(counts: Strip, route: Route) -> list[Part]:
    """Counts that filter: all machines that run, then each state. The links stay, their numbers change."""
    known = dict(counts.states)
    shown = tuple(state for state in STATES if state != "unknown" or known[state])
    found = [Part(*STRIP, (route, shown), partial(_strip, counts, shown, route))]
    for name, count in (("all", counts.running), *((state, known[state]) for state in shown)):
        lively = name == "anomalous" and count > 0
        found.append(Part(f"count-{name}", "children", count, partial(str, count), inside=STRIP))
        found.append(Part(f"filter-{name}", "className", lively, partial(_cell_class, lively), inside=STRIP))
    found.append(Part("count-of", "children", counts.machines, lambda: f"of {counts.machines}", inside=STRIP))
    return found


def _cell_class(lively: object) -> str:
    return f"cell{' lively' if lively else ''}"


def _strip(counts: Strip, shown: Sequence[State], route: Route) -> list[Component]:
    known = dict(counts.states)

    def cell(count: int, label: str, state: State | None) -> Component:
        chosen = route.state == (state or "")
        name = state or "all"
        return html.A(
            [
                html.Span(str(count), id=f"count-{name}", className="count"),
                html.Span([*_shape(state or ""), label], className="count-label"),
                *(
                    []
                    if state
                    else [html.Span(f"of {counts.machines}", id="count-of", className="count-note")]
                ),
            ],
            id=f"filter-{name}",
            href=route.to(state="" if chosen or state is None else state),
            className=_cell_class(state == "anomalous" and count),
            **(attrs(aria_current="true") if chosen else {}),
            **attrs(data_nav="1"),
        )

    return [
        cell(counts.running, "Running", None),
        *(cell(known[s], "Abnormal" if s == "anomalous" else STATE_TEXT[s], s) for s in shown),
    ]


def _shape(state: str) -> list[Component]:
    return [html.Span(className=f"shape shape-{state}", **attrs(aria_hidden="true"))] if state else []


def _tiles(shown: Sequence[Tile], sparks: dict[str, Spark | None]) -> Component:
    return html.Ul(
        [
            html.Li(
                html.A(
                    [
                        html.Div(tile_body(each), id=f"tile-{each.machine}", className="tile-body"),
                        html.Div(
                            trend(sparks[each.machine]), id=f"trend-{each.machine}", className="tile-trend"
                        ),
                    ],
                    id=f"box-{each.machine}",
                    href=f"/machine/{each.machine}",
                    className=box_class(each),
                    **attrs(data_nav="1"),
                ),
                key=each.machine,
            )
            for each in shown
        ],
        className="tiles",
    )


def box_class(each: Tile) -> str:
    """A tile's frame says its state too."""
    return f"tile tile-{each.state}"


def tile_body(each: Tile) -> list[Component]:
    """State, score against limit, what leads, model and age."""
    model = each.model
    return [
        html.Div([html.H2(each.machine, className="tile-name"), badge(each.state)], className="tile-head"),
        html.Div(
            [
                score_bar(each.score, each.limit, each.state),
                html.Div(
                    [
                        html.Span(["score ", html.B(number(each.score), className="figure")]),
                        html.Span(["limit ", html.Span(number(each.limit), className="figure")]),
                    ]
                    if each.score is not None
                    else [html.Span(_unscored(each))],
                    className="tile-score",
                ),
            ]
        ),
        html.Div(className="tile-lead-none") if each.lead is None else lead_box(each.lead),
        *([] if each.life is None else [_life(each.life)]),
        html.Div(
            [
                html.Span(
                    [hidden("model "), f"v{model.version}{' · provisional' if model.provisional else ''}"]
                )
                if model
                else html.Span("no model yet"),
                html.Span(["data ", moment(each.arrival_s, kind="age")]),
            ],
            className="tile-foot",
        ),
    ]


def _life(life: LifeLine) -> Component:
    said = life_text(life)
    return html.Div(
        [html.Span("life"), html.Span(said, className="figure", title=LIFE_TITLE)],
        className=f"tile-life{' old' if life.old else ''}",
    )


def _unscored(each: Tile) -> str:
    if each.state == "learning" or each.model is None:
        return "learning: no score yet"
    return f"not scored: {each.reason}" if each.reason else "not scored yet"


def lead_box(lead: SensorLead) -> Component:
    """What leads a deviation: seen beside expected."""
    return html.Div(
        [
            html.Div(
                [html.B(lead.sensor), html.Span(f"{lead.share:.0%} of the deviation")], className="lead-name"
            ),
            html.Div(
                [
                    html.Span(["seen ", measured(lead.seen, lead.unit)]),
                    html.Span(["expected ", measured(lead.expected, lead.unit)]),
                ],
                className="lead-values",
            ),
        ],
        className="tile-lead",
    )


def trend(spark: Spark | None) -> list[Component]:
    """A sparkline with what it is of, and how long."""
    if spark is None:
        return [sparkline(None)]
    label = html.Div(
        [
            html.Span(f"{spark.label}{' ' + unit(spark.unit) if spark.unit else ''}"),
            html.Span(f"last {length(spark.minutes)}"),
        ],
        className="trend-label",
        **attrs(aria_hidden="true"),
    )
    return [label, sparkline(spark)]


def _empty(counts: Strip, route: Route) -> Component:
    if counts.machines:
        return html.Div(
            [
                html.H2("No machine is in this state"),
                html.P(html.A("Show all machines", href=route.to(state=""), **attrs(data_nav="1"))),
            ],
            className="empty",
        )
    return html.Div(
        [
            html.H2("No machine yet"),
            html.P("A machine appears here as soon as its first reading has reached the log."),
            html.P(["For a demonstration, start ", html.Code("industrialmind up"), "."]),
            html.P(
                [
                    "For a machine of your own, let it publish to ",
                    html.Code("plant/SITE/MACHINE/SENSOR"),
                    " on the plant's MQTT broker.",
                ]
            ),
        ],
        className="empty",
    )
