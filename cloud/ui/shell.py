"""What is on every page: header, search, the words about the connection, and what the browser and server tell each other."""

from functools import partial
from typing import Any
from uuid import uuid4

from dash import dcc, html
from dash.development.base_component import Component

from cloud.ui.auth import PRINCIPAL
from cloud.ui.parts import attrs, hidden, moment
from cloud.ui.plant import Anomaly, PlantView
from cloud.ui.screen import Part
from cloud.ui.view import Connection, connection, new_anomaly, open_anomalies, search_index


def layout(poll_seconds: float) -> Component:
    """The frame of all pages, for one browser."""
    who = PRINCIPAL.get()
    return html.Div(
        [
            dcc.Location(id="url", refresh=False),
            dcc.Store(id="tab", data=uuid4().hex),
            dcc.Store(id="shown", data=None),
            dcc.Store(id="again", data=0),
            dcc.Store(id="wake", data=None),
            dcc.Store(id="beat", data=None),
            dcc.Store(id="beaten", data=None),
            dcc.Store(id="theme", data=None),
            dcc.Store(id="zoomed", data=None),
            dcc.Store(id="index", data=[]),
            dcc.Store(id="indexed", data=None),
            dcc.Interval(id="poll", interval=round(poll_seconds * 1000), disabled=True),
            html.A("Skip to the page", href="#page", className="skip"),
            _header(who.principal if who else "", who.role if who else ""),
            html.Div(id="lost", className="lost", role="alert"),
            html.Div(id="announce", className="announce", role="alert"),
            html.Main(
                html.P("Loading …", className="loading"), id="page", tabIndex=-1, **attrs(aria_live="off")
            ),
        ],
        id="room",
    )


def _header(principal: str, role: str) -> Component:
    return html.Header(
        [
            html.Div(
                [
                    html.A("IndustrialMind", href="/", className="brand", **attrs(data_nav="1")),
                    html.Span(id="site", className="site"),
                ],
                className="head-brand",
            ),
            html.Div(
                [
                    html.Label("Find a machine or a sensor", htmlFor="search", className="unseen"),
                    dcc.Input(
                        id="search", type="search", placeholder="Find machine or sensor", autoComplete="off"
                    ),
                    html.Kbd("/", **attrs(aria_hidden="true")),
                    html.Div(id="found", className="found"),
                ],
                className="head-search",
                role="search",
            ),
            html.Div(
                [
                    html.Span(id="anomaly-count", className="head-anomalies"),
                    html.Span(id="connection", className="connection", role="status"),
                    html.Span(className="clock", id="clock"),
                ],
                className="head-facts",
            ),
            html.Div(
                [
                    html.Button(
                        "Dark",
                        id="theme-switch",
                        className="quiet",
                        **attrs(aria_label="dark theme", aria_pressed="false"),
                    ),
                    html.Span(
                        [hidden("signed in as "), html.B(principal), f" {role}" if role != principal else ""],
                        className="who",
                    ),
                    html.Form(
                        html.Button("Sign out", type="submit", className="quiet"),
                        action="/logout",
                        method="post",
                    ),
                ],
                className="head-user",
            ),
        ],
        className="head",
    )


def parts(plant: PlantView, now_us: int, site: str) -> list[Part]:
    """What follows the plant on every page."""
    link = connection(plant)
    count = len(open_anomalies(plant))
    newest = new_anomaly(plant, now_us)
    index = search_index(plant)
    said = None if newest is None else newest.id
    # While the API is heard, when it was last heard is no news: the browser then shows the age of its own last beat.
    told = link if not link.connected else Connection(connected=True, heard_s=None)
    site = site or next((machine.status.site for machine in plant.machines.values()), "")
    return [
        Part("connection", "children", told, partial(_connection, link)),
        Part("connection", "className", link.connected, partial(_connection_class, link)),
        Part("anomaly-count", "children", count, partial(_count, count)),
        Part("anomaly-count", "className", count > 0, partial(_count_class, count)),
        Part("announce", "children", said, partial(_announce, newest)),
        Part("index", "data", index, partial(list, index)),
        Part("site", "children", site, partial(str, site)),
    ]


def _connection(link: Connection) -> list[Any]:
    shape = html.Span(className="link-shape", **attrs(aria_hidden="true"))
    if link.connected:
        return [shape, "live · data ", html.Span(className="beat-age figure")]
    if link.heard_s is None:
        return [shape, "no connection to the server yet"]
    return [shape, "no connection to the server · last data ", moment(link.heard_s, kind="age")]


def _connection_class(link: Connection) -> str:
    return f"connection {'connection-live' if link.connected else 'connection-away'}"


def _count(count: int) -> str:
    return f"anomalies: {count}"


def _count_class(count: int) -> str:
    return f"head-anomalies{' some' if count else ''}"


def _announce(newest: Anomaly | None) -> list[Any]:
    if newest is None:
        return []
    lead = max(newest.sensors, key=lambda sensor: sensor.share, default=None)
    more = f": {lead.sensor} leads with {lead.share:.0%}" if lead else ""
    return [
        html.Span(className="shape shape-anomalous", **attrs(aria_hidden="true")),
        html.Span([html.B(f"New anomaly on {newest.machine}"), more]),
        html.A("Open", href=f"/machine/{newest.machine}", className="choice", **attrs(data_nav="1")),
    ]
