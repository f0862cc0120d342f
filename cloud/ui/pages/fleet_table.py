"""The fleet as a table. Its rows stay where they are; what changes is in their cells."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from dash import html
from dash.development.base_component import Component

from cloud.ui.parts import attrs, badge, moment, table
from cloud.ui.screen import Key, Part
from cloud.ui.text import NOTHING, lasting, number, quantity
from cloud.ui.view import LifeLine, Tile

HEAD = ("Machine", "State", "Score", "Limit", "Leading sensor", "Seen", "Expected", "Life", "Model", "Data")
LIFE_TITLE: Final = "lower end of the 90 % interval of its remaining life"


def life_text(life: LifeLine) -> str:
    """A remaining life in a line; "old" while the inference API is away."""
    old = ", old" if life.old else ""
    if life.hours is None or life.days is None:
        return f"not enough evidence{old}"
    least = "more than" if life.more else "at least"
    return f"{least} {lasting(life.hours)} h · {lasting(life.days)} d{old}"


def build_table(shown: Sequence[Tile]) -> Component:
    """All rows, worst first."""
    return table("Machines, worst first", HEAD, [_row(each) for each in shown], name="fleet-table")


def table_parts(shown: Sequence[Tile], inside: Key) -> list[Part]:
    """Every cell but the first."""
    return [
        Part(f"cell-{each.machine}-{column}", "children", model, partial(build, model), inside=inside)
        for each in shown
        for column, (model, build) in _cells(each).items()
    ]


def _row(each: Tile) -> Component:
    name = each.machine
    link = html.A(name, id=f"box-{name}", href=f"/machine/{name}", **attrs(data_nav="1"))
    cells = [
        html.Td(build(model), id=f"cell-{name}-{column}") for column, (model, build) in _cells(each).items()
    ]
    return html.Tr([html.Th(link, scope="row"), *cells], key=name)


def _cells(each: Tile) -> dict[str, tuple[Any, Any]]:
    """Column to what it shows, and what makes that of it."""
    lead, model = each.lead, each.model
    told = f"v{model.version}{' provisional' if model.provisional else ''}" if model else NOTHING
    return {
        "state": (each.state, badge),
        "score": (each.score, number),
        "limit": (each.limit, number),
        "lead": (lead.sensor if lead else NOTHING, str),
        "seen": (quantity(lead.seen, lead.unit) if lead else NOTHING, str),
        "expected": (quantity(lead.expected, lead.unit) if lead else NOTHING, str),
        "life": (each.life, _life),
        "model": (told, str),
        "age": (each.arrival_s, _age),
    }


def _age(seconds: int | None) -> Component:
    return moment(seconds, kind="age")


def _life(life: LifeLine | None) -> Component | str:
    return NOTHING if life is None else html.Span(life_text(life), title=LIFE_TITLE)
