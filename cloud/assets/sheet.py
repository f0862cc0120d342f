"""Assets as rows of a file, and what a file makes of the plant. Pure; `yaml_file.py` and `csv_file.py` have the layouts.

A row names an asset and fields. A field that is not there is left as it is, null goes back to what is observed.
Nothing is retired for not being in a file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

from cloud.assets.fold import State, merged
from cloud.assets.logic import (
    Ask,
    check_fields,
    check_references,
    done_before,
    edited,
    restored,
)
from cloud.assets.model import FIELDS, Asset, Fields, Kind
from cloud.assets.port import Difference, Fault
from shared.errors import Rejected
from shared.event import Event

MAX_BYTES: Final = 4 << 20
MAX_ROWS: Final = 50_000
MAX_FAULTS: Final = 100
"""Faults that are told; more are not looked for."""


@dataclass(frozen=True, slots=True)
class Row:
    """An asset's line in a file. Texts may stand for numbers."""

    line: int
    kind: Kind
    id: str
    fields: Fields


class Unreadable(Rejected):
    """A file that is none of ours; `line` is where."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.why = reason


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import does: `differences` as people see them, or the `faults` for which it does nothing."""

    differences: Sequence[Difference]
    faults: Sequence[Fault]


def rows_of(state: State) -> list[Row]:
    """Every asset in use with what holds of it, in the order in which they can be made."""
    return [
        Row(0, kind, asset.id, {name: asset.fields[name] for name in FIELDS[kind].model_fields if name in asset.fields})
        for kind in Kind
        for asset in sorted(state.live(kind), key=lambda asset: asset.id)
    ]  # fmt: skip


def is_text(kind: Kind, name: str) -> bool:
    """Whether a field holds text, not a number or attributes: a text stays one if it looks like a number."""
    parts = _leaves(FIELDS[kind].model_fields[name].annotation)
    return float not in parts and dict not in parts


def _leaves(annotation: Any) -> set[Any]:  # noqa: ANN401 - any type
    origin = getattr(annotation, "__origin__", None)
    if origin is dict:
        return {dict}
    inner = get_args(annotation) if not isinstance(annotation, type) else ()
    return {leaf for part in inner for leaf in _leaves(part)} or {annotation}


def plan(state: State, rows: Sequence[Row]) -> Plan:
    """Compare a file with the plant; every row is checked as the plant would be with all of them."""
    faults: list[Fault] = []
    differences: list[Difference] = []
    future: dict[tuple[Kind, str], Fields] = {}
    checked: list[tuple[Row, Fields]] = []
    for row in rows:
        try:
            fields = check_fields(row.kind, row.id, row.fields)
        except Rejected as error:
            faults.append(Fault(row.line, error.reason))
            continue
        if (row.kind, row.id) in future:
            faults.append(Fault(row.line, f"{row.kind} {row.id} is in the file twice"))
        else:
            asset = state.assets.get((row.kind, row.id)) or Asset(row.kind, row.id)
            checked.append((row, _news(asset, fields)))
            future[row.kind, row.id] = merged(asset.observed, merged(asset.edited, checked[-1][1]))

    def look(kind: Kind, asset: str) -> Fields | None:
        found = future.get((kind, asset))
        return state.fields(kind, asset) if found is None else found

    for row, news in checked:
        try:
            check_references(row.kind, row.id, future[row.kind, row.id], look)
        except Rejected as error:
            faults.append(Fault(row.line, error.reason))
        difference = _difference(state, row, news)
        if difference is not None:
            differences.append(difference)
    faults.sort(key=lambda fault: fault.line)
    return Plan(differences, faults[:MAX_FAULTS])


def decide_import(state: State, rows: Sequence[Row], ask: Ask) -> list[Event]:
    """The events of an import, in an order in which each can be made; the last one has the request's digest.

    Killed in between, the rest is written when it is asked for again. Raises Conflict (the key), Rejected.
    """
    if done_before(state, ask) is not None:
        return []
    made = plan(state, rows)
    if made.faults:
        raise Rejected(f"line {made.faults[0].line}: {made.faults[0].reason}")
    order = list(Kind)
    given = {(row.kind, row.id): row for row in rows}
    events: list[Event] = []
    silent = replace(ask, digest="")
    for difference in sorted(made.differences, key=lambda one: (order.index(one.kind), one.id)):
        asset = state.assets.get((difference.kind, difference.id)) or Asset(difference.kind, difference.id)
        if asset.retired_at is not None:
            events.append(restored(asset, silent))
            asset = replace(asset, revision=asset.revision + 1)
        news = _news(asset, check_fields(asset.kind, asset.id, given[asset.kind, asset.id].fields))
        if news or not asset.revision:
            events.append(edited(asset, news, silent))
    if events:
        events[-1] = events[-1].model_copy(update={"request": ask.digest})
    return events


def _news(asset: Asset, fields: Fields) -> dict[str, Any]:
    """What differs: an unchanged export makes no word of a person out of what is observed."""
    held = asset.fields
    return {
        name: value
        for name, value in fields.items()
        if (name in asset.edited if value is None else held.get(name) != value)
    }


def _difference(state: State, row: Row, news: Fields) -> Difference | None:
    asset = state.assets.get((row.kind, row.id))
    if asset is None:
        action, held = "create", Asset(row.kind, row.id)
    elif asset.retired_at is not None:
        action, held = "restore", asset
    elif news:
        action, held = "change", asset
    else:
        return None
    after: Mapping[str, Any] = merged(held.observed, merged(held.edited, news))
    fields = {name: (held.fields.get(name), after.get(name)) for name in news}
    return Difference(row.line, row.kind, row.id, action, fields)
