"""A machine's remaining life: figure, intervals, failure criterion and load (ISO 13381-1); or why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dash import html
from dash.development.base_component import Component

from cloud.ui.lives import Change, Life, Lives, Span
from cloud.ui.parts import attrs, moment
from cloud.ui.text import lasting
from shared.clock import MICROSECONDS

MINUS: Final = "\u2212"
COVERAGES: Final = (80, 90, 95)
SINCE: Final = {
    "work-order": "its last repair",
    "first-reading": "its first reading",
    "asked": "the given time",
}


@dataclass(frozen=True, slots=True)
class LifeCard:
    """What is known. `life`: the last answer, or why there is no figure, or None; `model`: it has a life model, None: not told yet."""

    machine: str
    life: Life | str | None
    model: bool | None
    away_s: int | None


def card(lives: Lives, machine: str) -> LifeCard:
    """Of a machine."""
    known = None if lives.tellers is None else machine in lives.tellers
    away = None if lives.away_us is None else lives.away_us // MICROSECONDS
    return LifeCard(machine, lives.of(machine), known, away)


def build(shown: LifeCard) -> list[Component]:
    """The card's content."""
    return [*_away(shown), *_content(shown)]


def _content(shown: LifeCard) -> list[Component]:
    match shown.life:
        case Life() as life:
            return _told(life) if life.enough else _strange(life)
        case str() as why:
            return [
                html.P("No figure", className="big plain"),
                html.P(f"It has a life model, but: {why}.", className="muted small"),
            ]
    if shown.model is None:
        return [] if shown.away_s else [html.P("Asking …", className="big plain")]
    return [html.P("Asking …", className="big plain")] if shown.model else _how_to(shown.machine)


def _away(shown: LifeCard) -> list[Component]:
    if shown.away_s is None:
        return []
    old = isinstance(shown.life, Life)
    said = "What follows is its last word. " if old else ""
    return [
        *([] if old else [html.P("Not known now", className="big plain")]),
        html.P(
            [
                "The inference API has been away since ",
                moment(shown.away_s),
                f". {said}It is asked again by itself.",
            ],
            className="life-away small",
        ),
    ]


def _how_to(machine: str) -> list[Component]:
    return [
        html.P("No life model", className="big plain"),
        html.P(
            "One is learnt from at least ten units of its kind that ran to failure:", className="muted small"
        ),
        html.Pre(
            html.Code(
                f'industrialmind life train --train failed.csv --machine {machine} --failure "what counted as failure"'
            ),
            className="command",
            tabIndex=0,
        ),
    ]


def _told(life: Life) -> list[Component]:
    more = life.more_than_hours
    low, high = life.run_hours.interval_90
    head = (
        [html.Span(lasting(life.run_hours.median), className="big figure"), _unit(" run-hours left, median")]
        if more is None
        else [html.Span(["more than ", lasting(more)], className="big figure"), _unit(" run-hours left")]
    )
    reads = (
        f"Nine of ten like it have {_range(low, high)} left, {_range(*life.calendar_days.interval_90)} days at this duty."
        if more is None
        else f"No wear shows yet. At this duty that is more than {lasting(life.calendar_days.interval_90[0])} days."
    )
    return [
        html.P(head),
        interval_bar(life.run_hours, median=more is None),
        html.P(reads, className="small"),
        *_terms(life),
    ]


def _strange(life: Life) -> list[Component]:
    low, high = life.run_hours.interval_90
    unlike = f": {', '.join(life.unusual)}" if life.unusual else ""
    return [
        html.P("Not enough evidence", className="big plain"),
        html.P(f"{life.reason[:1].upper()}{life.reason[1:]}{unlike}.", className="small"),
        html.P(
            f"By its age alone {lasting(life.run_hours.median)} run-hours, {_range(low, high)} for nine of ten: "
            "don't plan by that.",
            className="muted small",
        ),
        *_terms(life),
    ]


def _unit(said: str) -> Component:
    return html.Span(said, className="muted")


def _range(low: float, high: float) -> str:
    return f"{lasting(low)} to {lasting(high)}"


def interval_bar(span: Span, *, median: bool) -> Component:
    """Intervals that hold 95, 90 and 80 of a hundred, on a scale from 0 to the widest one's end; `median`: with its mark."""
    most = max(span.interval_95[1], 1e-9)
    layers: list[Component] = [
        html.Div(
            className=f"life-{coverage}",
            style={"left": f"{low / most:.1%}", "right": f"{max(0.0, 1 - high / most):.1%}"},
        )
        for coverage, (low, high) in reversed(_intervals(span))
    ]
    if median:
        layers.append(
            html.Div(className="life-median", style={"left": f"{min(1.0, span.median / most):.1%}"})
        )
    middle = f"median {lasting(span.median)} run-hours, " if median else ""
    said = f"{middle}90 % interval {_range(*span.interval_90)} run-hours"
    return html.Div(
        [
            html.Div(layers, className="life-bar", role="img", **attrs(aria_label=said)),
            html.Div(
                [
                    html.Span("0"),
                    html.Span("hold 80, 90, 95 of 100"),
                    html.Span(f"{lasting(most)} h"),
                ],
                className="life-scale",
                **attrs(aria_hidden="true"),
            ),
        ]
    )


def _intervals(span: Span) -> Sequence[tuple[int, tuple[float, float]]]:
    return tuple(zip(COVERAGES, (span.interval_80, span.interval_90, span.interval_95), strict=True))


def _terms(life: Life) -> list[Component]:
    since = SINCE.get(life.renewed_by, life.renewed_by)
    age: list[Component | str] = [f"{lasting(life.age_hours)} run-hours since {since}"]
    if life.since_us is not None:
        age += [", ", moment(life.since_us // MICROSECONDS, kind="date")]
    facts: list[tuple[str, list[Component | str]]] = [
        ("Failure means", [life.failure_criterion]),
        ("Load", [life.load_assumption]),
        ("Duty", [f"{life.duty:.0%} of the time, last four weeks"]),
        ("Age", age),
        ("Learnt from", [f"{life.model.units} units that failed", *_provisional(life)]),
        ("Model", [f"{life.model.name} v{life.model.version}"]),
    ]
    if life.silent:
        facts.append(("Silent", [", ".join(life.silent)]))
    if life.at_us is not None:
        facts.append(("As of", [moment(life.at_us // MICROSECONDS, kind="date")]))
    return [
        html.Dl([html.Div([html.Dt(name), html.Dd(value)]) for name, value in facts], className="details"),
        html.Details(
            [
                html.Summary(
                    "Intervals and a day's change" if life.change else "Intervals", id="life-intervals"
                ),
                _table(life),
                *_changed(life.change),
            ]
        ),
    ]


def _provisional(life: Life) -> list[Component | str]:
    if not life.model.provisional:
        return []
    return [
        " ",
        html.Span(
            "provisional",
            className="mark mark-provisional",
            title="too few units for an honest 95 % interval",
        ),
    ]


def _table(life: Life) -> Component:
    rows = [
        ("Median", lasting(life.run_hours.median), lasting(life.calendar_days.median)),
        *(
            (f"{coverage} of 100", _range(*hours), _range(*days))
            for (coverage, hours), (_, days) in zip(
                _intervals(life.run_hours), _intervals(life.calendar_days), strict=True
            )
        ),
    ]
    return html.Table(
        [
            html.Caption("Remaining life in run-hours and in days", className="unseen"),
            html.Thead(html.Tr([html.Th(name, scope="col") for name in ("", "Run-hours", "Days")])),
            html.Tbody(
                [
                    html.Tr([html.Th(name, scope="row"), html.Td(hours), html.Td(days)])
                    for name, hours, days in rows
                ]
            ),
        ],
        className="candidates",
    )


def _changed(change: Change | None) -> list[Component]:
    if change is None:
        return []
    because = ", ".join(f"{each.sensor} {_signed(each.hours)} h" for each in change.because)
    bounded = "within" if change.bounded else "outside"
    return [
        html.P(
            f"A day before it ran {lasting(change.ran_hours)} h less; the median moved by {_signed(change.moved_hours)} h, {bounded} "
            f"the 80 % interval of then.{f' What moved it: {because}.' if because else ''}",
            className="muted small",
        )
    ]


def _signed(hours: float) -> str:
    return f"{'+' if hours > 0 else MINUS}{lasting(abs(hours))}"
