"""The latest anomalies of a machine."""

from collections.abc import Sequence
from typing import Final

from dash import html
from dash.development.base_component import Component

from cloud.ui.parts import attrs, moment
from cloud.ui.plant import Anomaly
from cloud.ui.route import Route
from cloud.ui.text import number, quantity
from shared.clock import MICROSECONDS
from shared.events import to_us

EPISODES_SHOWN: Final = 8


def leaders(found: Sequence[Anomaly]) -> tuple[str, ...]:
    """The sensors that led when the open episode began, the largest part first; none without one.

    Taken from the onset and not from the newest score, so that rows don't jump about under a reader.
    """
    still = next((each for each in found if each.ended_at is None), None)
    parts = sorted(still.sensors, key=lambda sensor: (-sensor.share, sensor.sensor)) if still else []
    return tuple(part.sensor for part in parts)


def build_episodes(found: Sequence[Anomaly], route: Route) -> list[Component]:
    """A list, each with the way to its time range."""
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
            html.A("Show", id=f"episode-{each.id}", href=around, className="choice", **attrs(data_nav="1")),
        ],
        className="episode",
    )
