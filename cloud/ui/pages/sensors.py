"""A machine's sensors: value over normal band, trend, part in the deviation.

A row stays where it is while its cells change: Dash makes anew whatever is inside a changed `children`, and a button
made anew each second could not keep the focus.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from dash import html
from dash.development.base_component import Component

from cloud.ui.parts import attrs, level_bar, measured, share_bar, sparkline
from cloud.ui.plant import MachineNow
from cloud.ui.route import Route
from cloud.ui.screen import Key, Part
from cloud.ui.text import number, quantity
from cloud.ui.view import Spark, leads, sensor_spark

SENSORS: Key = ("sensor-list", "children")


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


def sensor_rows(
    machine: MachineNow, route: Route, now_us: int, *, first: Sequence[str] = ()
) -> tuple[SensorRow, ...]:
    """Every sensor: those of `first` in their order, then by name."""
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
                round(share, 2),
                lead.seen if lead else None,
                lead.expected if lead else None,
                sensor in route.sensors,
                sensor_spark(machine, sensor, now_us),
                route.toggled(sensor),
            )
        )
    rank = {sensor: place for place, sensor in enumerate(first)}
    return tuple(sorted(found, key=lambda row: (rank.get(row.sensor, len(rank)), row.sensor)))


def sensor_parts(rows: Sequence[SensorRow]) -> list[Part]:
    """The list, and of each row what changes."""
    # What is not in a cell of its own makes the list anew: order, bands, which trends are laid over the chart.
    order = tuple((row.sensor, row.unit, row.low, row.high, row.chosen, row.href) for row in rows)
    found = [Part(*SENSORS, order, partial(_list, rows))]
    for row in rows:
        found += [
            Part(f"{name}-{row.sensor}", "children", model, partial(build, row), inside=SENSORS)
            for name, (model, build) in _cells(row).items()
        ]
        found.append(
            Part(f"overlay-{row.sensor}", "aria-label", row.share, partial(_overlay, row), inside=SENSORS)
        )
    return found


def _cells(row: SensorRow) -> dict[str, tuple[Any, Any]]:
    """Cell to what it shows, and what makes its content of the row."""
    return {
        "value": (row.value, lambda row: measured(row.value, row.unit)),
        "level": (row.value, lambda row: level_bar(row.value, row.low, row.high, row.unit)),
        "line": (row.spark, lambda row: sparkline(row.spark, marked=row.chosen)),
        "share": (row.share, _share),
        "seen": ((row.seen, row.expected, row.share), _seen),
    }


def _list(rows: Sequence[SensorRow]) -> Component:
    if not rows:
        return html.P("No reading yet.", className="muted")
    return html.Ul([html.Li(_row(row), key=row.sensor) for row in rows], className="sensor-rows")


def _row(row: SensorRow) -> Component:
    band = (
        f"normal {number(row.low)} to {quantity(row.high, row.unit)}"
        if row.low is not None and row.high is not None
        else "normal band not learnt"
    )
    built = {name: build(row) for name, (_, build) in _cells(row).items()}

    def cell(name: str) -> Component:
        return html.Div(built[name], id=f"{name}-{row.sensor}", className=f"sensor-{name}")

    return html.Div(
        [
            html.Div(
                [html.H3(row.sensor), html.Span(band, className="muted small")], className="sensor-name"
            ),
            cell("value"),
            cell("level"),
            cell("line"),
            html.Button(
                [
                    html.Span(built["share"], id=f"share-{row.sensor}", className="sensor-share"),
                    html.Span("shown" if row.chosen else "show", className="toggle-word"),
                ],
                id=f"overlay-{row.sensor}",
                className="contribution",
                **attrs(
                    data_nav=row.href,
                    aria_pressed="true" if row.chosen else "false",
                    aria_label=_overlay(row),
                ),
            ),
            cell("seen"),
        ],
        id=f"sensor-{row.sensor}",
        className="sensor",
    )


def _overlay(row: SensorRow) -> str:
    return f"{row.sensor}: {row.share:.0%} of the deviation; lay its trend over the chart"


def _share(row: SensorRow) -> list[Component]:
    return [share_bar(row.share), html.Span(f"{row.share:.0%}", className="figure")]


def _seen(row: SensorRow) -> list[Component]:
    if row.expected is not None:
        return [
            html.Span(["seen ", measured(row.seen, row.unit)]),
            html.Span(["expected ", measured(row.expected, row.unit)]),
        ]
    return [html.Span("no expected value told" if row.share else "as expected", className="muted")]
