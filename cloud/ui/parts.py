"""Shared parts of the pages: badge, bars, sparkline, times. Shape and text with every colour; each says itself aloud.

A sparkline's line is an SVG used as a mask over the theme's line colour, so that no colour is fixed here.
"""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from dash import html
from dash.development.base_component import Component

from cloud.ui.plant import State
from cloud.ui.text import iso, number, quantity, unit, utc
from cloud.ui.view import SPARK_HEIGHT, SPARK_WIDTH, Spark

STATE_TEXT: Final[dict[State, str]] = {
    "anomalous": "Anomalous",
    "stale": "Stale",
    "learning": "Learning",
    "normal": "Normal",
    "unknown": "No data yet",
}
_HOUR: Final = 60
_LINE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" preserveAspectRatio="none">'
    '<path d="{d}" fill="none" stroke="#000" stroke-width="1.6" stroke-linejoin="round" '
    'vector-effect="non-scaling-stroke"/></svg>'
)


def attrs(**more: str) -> dict[str, Any]:
    """Attributes with dashes in their names, as keywords of a component: `aria_label` is `aria-label`."""
    return {name.replace("_", "-"): value for name, value in more.items()}


def hidden(text: str) -> Component:
    """Text for the ear alone."""
    return html.Span(text, className="unseen")


def badge(state: State) -> Component:
    """A machine's state: shape and text."""
    return html.Span(
        [html.Span(className=f"shape shape-{state}", **attrs(aria_hidden="true")), STATE_TEXT[state]],
        className=f"badge badge-{state}",
    )


def moment(seconds: float | None, *, kind: str = "time") -> Component:
    """A time that the browser shows in the viewer's zone, UTC on hover. `kind` "age": how long ago; "date": with the day."""
    if seconds is None:
        return html.Span("never", className="muted")
    said = utc(seconds)
    return html.Time(said, dateTime=iso(seconds), title=said, **attrs(**{f"data_{kind}": str(seconds)}))


def score_bar(score: float | None, limit: float | None, state: State) -> Component:
    """The score against its limit, which stands at 60 % of the bar's length."""
    if score is None or not limit:
        return html.Div(
            html.Div(className="bar-empty"), className="bar", role="img", **attrs(aria_label="no score")
        )
    share = min(1.0, score / limit * 0.6)
    over = " over" if score > limit else ""
    return html.Div(
        [
            html.Div(className=f"bar-fill{over}", style={"width": f"{share:.1%}"}),
            html.Div(className="bar-limit", style={"left": "60%"}),
        ],
        className=f"bar bar-{state}",
        role="img",
        **attrs(aria_label=f"score {number(score)} of limit {number(limit)}"),
    )


def level_bar(value: float | None, low: float | None, high: float | None, unit_name: str) -> Component:
    """An analogue bar: the value's mark over the normal band, which takes the middle half."""
    if value is None or low is None or high is None or high <= low:
        said = "normal band not learnt"
        return html.Div(
            html.Div(className="bar-empty"), className="level", role="img", **attrs(aria_label=said)
        )
    share = min(0.99, max(0.01, 0.25 + 0.5 * (value - low) / (high - low)))
    inside = low <= value <= high
    where = "inside" if inside else "above" if value > high else "below"
    said = (
        f"{quantity(value, unit_name)}, {where} the normal band {number(low)} to {quantity(high, unit_name)}"
    )
    return html.Div(
        [
            html.Div(className="level-band"),
            html.Div(className=f"level-mark{'' if inside else ' out'}", style={"left": f"{share:.1%}"}),
        ],
        className="level",
        role="img",
        title=said,
        **attrs(aria_label=said),
    )


def share_bar(share: float) -> Component:
    """A contribution: its part of the whole."""
    return html.Span(
        html.Span(className="share-fill", style={"width": f"{min(1.0, max(0.0, share)):.1%}"}),
        className="share",
        **attrs(aria_hidden="true"),
    )


def sparkline(spark: Spark | None, *, marked: bool = False) -> Component:
    """A line over its normal band or under its limit, read out as lowest, highest, last."""
    if spark is None:
        return html.Div("no history yet", className="spark spark-none")
    svg = _LINE.format(w=SPARK_WIDTH, h=SPARK_HEIGHT, d=spark.path)
    mask = f'url("data:image/svg+xml,{quote(svg)}")'
    layers: list[Component] = []
    if spark.band is not None:
        top, bottom = spark.band
        layers.append(html.Div(className="spark-band", style=_box(top, bottom)))
    if spark.line is not None:
        layers.append(html.Div(className="spark-limit", style={"top": _percent(spark.line)}))
    layers.append(html.Div(className="spark-line", style={"maskImage": mask, "WebkitMaskImage": mask}))
    said = (
        f"{spark.label}, last {length(spark.minutes)}: lowest {number(spark.low)}, highest {number(spark.high)}, "
        f"now {quantity(spark.last, spark.unit)}"
    )
    return html.Div(
        layers,
        className=f"spark{' spark-marked' if marked else ''}",
        role="img",
        title=said,
        **attrs(aria_label=said),
    )


def length(minutes: int) -> str:
    """How long a sparkline is."""
    return f"{minutes} min" if minutes < _HOUR else f"{minutes / _HOUR:.0f} h"


def _percent(height: int) -> str:
    return f"{min(100.0, max(0.0, height / SPARK_HEIGHT * 100)):.1f}%"


def _box(top: int, bottom: int) -> dict[str, str]:
    top, bottom = max(0, top), min(SPARK_HEIGHT, bottom)
    return {"top": _percent(top), "height": _percent(max(1, bottom - top))}


def measured(value: float | None, unit_name: str) -> Component:
    """A number and its unit, aligned; all its digits on hover."""
    return html.Span(
        [
            html.Span(number(value), className="figure", title=None if value is None else repr(value)),
            html.Span(unit(unit_name), className="unit"),
        ],
        className="measured",
    )


def short_hash(version_hash: str) -> Component:
    """A hash's head; whole on hover, and to the clipboard by its button."""
    return html.Span(
        [
            html.Code(version_hash[:12], title=version_hash, id="model-hash"),
            html.Button(
                "Copy",
                className="quiet",
                **attrs(aria_label="copy the whole hash"),
                **attrs(data_copy=version_hash),
            ),
        ],
        className="hash",
    )


def choice(label: str, href: str, *, chosen: bool, name: str) -> Component:
    """A link that is one of several ways to look; the chosen one says so. `name` is its id: it keeps the focus."""
    said = attrs(aria_current="true") if chosen else {}
    return html.A(label, id=name, href=href, className="choice", **said, **attrs(data_nav="1"))


def table(caption: str, head: Sequence[str], rows: Sequence[Component], *, name: str = "") -> Component:
    """A real table in a box that scrolls by itself."""
    return html.Div(
        html.Table(
            [
                html.Caption(caption, className="unseen"),
                html.Thead(html.Tr([html.Th(title, scope="col") for title in head])),
                html.Tbody(list(rows)),
            ]
        ),
        id=f"{name}-box",
        className=f"table {name}",
        tabIndex=0,
        role="region",
        **attrs(aria_label=caption),
    )
