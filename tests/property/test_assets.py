"""Assets: the fold does not mind what comes twice, files lose nothing, and no cell is a formula."""

import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.assets.commands import read_file
from cloud.assets.csv_file import neutral, restored, write_csv
from cloud.assets.fold import State
from cloud.assets.logic import (
    Ask,
    decide_change,
    decide_creation,
    decide_observed,
    decide_restoration,
    decide_retirement,
)
from cloud.assets.model import Kind
from cloud.assets.orders import (
    decide_cancelling,
    decide_closing,
    decide_count,
    decide_opening,
    decide_order_change,
    decide_reset,
    decide_start,
)
from cloud.assets.sheet import Row, decide_import, plan, rows_of
from cloud.assets.yaml_file import write_yaml
from shared.errors import IndustrialMindError
from shared.event import Event
from shared.events import parse_event

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GOLDEN = Path(__file__).parents[1] / "golden" / "events"

texts = st.text(
    st.one_of(
        st.sampled_from("=+-@'\"\t\r\n,;:#&*!|>%{}[] 07eE.yno~"),
        st.characters(exclude_categories=("Cs", "Cc")),
    ),
    min_size=1,
    max_size=20,
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
attributes = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True),
    st.one_of(texts, numbers, st.booleans(), st.integers(-(2**53), 2**53)),
    min_size=1,
    max_size=4,
)
machine_fields = st.fixed_dictionaries(
    {},
    optional={
        "name": texts, "description": texts, "type": texts, "serial": texts, "model": texts,
        "criticality": st.sampled_from("ABC"), "attributes": attributes,
        "installed_at": st.dates().map(str), "site": st.just("s1"), "area": st.just("hall"),
    },
)  # fmt: skip
sensor_fields = st.fixed_dictionaries(
    {},
    optional={
        "name": texts, "unit": texts, "range_low": numbers, "normal_high": numbers,
        "interval_seconds": st.floats(0.001, 1e6), "component": st.just("m1.c1"), "attributes": attributes,
    },
)  # fmt: skip
plants = st.fixed_dictionaries(
    {"m1": machine_fields, "m2": machine_fields, "m1.flow": sensor_fields, "m1.temp": sensor_fields}
)


def ask(number: int) -> Ask:
    return Ask("ada", NOW, f"key-{number}", f"digest-{number}")


def taken(state: State, events: list[Event]) -> list[Event]:
    """As they come back from the log."""
    read = [parse_event(event.to_json()) for event in events]
    for event in read:
        assert state.take(event) is not None
    return read


def told(state: State) -> tuple[object, ...]:
    return state.assets, state.counters, state.orders, state.requests


# A person and the plant do things in any order; what is not allowed is refused and makes no event.

small = st.integers(0, 2)
STEPS = {
    "see": lambda s, n, _: decide_observed(s, {(Kind.MACHINE, "m1"): {"type": f"t{n}"}, (Kind.SENSOR, "m1.flow"): {"unit": "K"}}, NOW, 9),
    "site": lambda s, n, a: decide_creation(s, Kind.SITE, f"s{n}", {"name": "x"}, a),
    "create": lambda s, n, a: decide_creation(s, Kind.MACHINE, f"m{n}", {"site": f"s{n}"}, a),
    "change": lambda s, n, a: decide_change(s, Kind.SENSOR, "m1.flow", {"normal_low": float(n) or None}, a),
    "retire": lambda s, n, a: decide_retirement(s, Kind.MACHINE, f"m{n}", "old", a),
    "restore": lambda s, n, a: decide_restoration(s, Kind.MACHINE, f"m{n}", a),
    "count": lambda s, n, a: decide_count(s, "m1.run-hours", float(n), NOW, a),
    "reset": lambda s, n, a: decide_reset(s, "m1.run-hours", f"new {n}", a),
    "open": lambda s, n, a: decide_opening(s, "m1", {"title": f"t{n}"}, a),
    "word": lambda s, n, a: decide_order_change(s, f"wo-{n}", {"priority": "high"}, a),
    "start": lambda s, n, a: decide_start(s, f"wo-{n}", a),
    "close": lambda s, n, a: decide_closing(s, f"wo-{n}", "VIB", "done", a),
    "cancel": lambda s, n, a: decide_cancelling(s, f"wo-{n}", "no", a),
}  # fmt: skip


@given(
    steps=st.lists(st.tuples(st.sampled_from(sorted(STEPS)), small, st.integers(0, 12)), max_size=25),
    data=st.data(),
)
def test_events_that_come_again_anywhere_change_nothing(
    steps: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    state = State()
    events: list[Event] = []
    for name, number, key in steps:
        try:
            made = STEPS[name](state, number, ask(100 * key + len(name) + 7 * number))  # type: ignore[no-untyped-call]
        except IndustrialMindError:
            continue
        events += taken(state, made)
    twice = State()
    for place, event in enumerate(events):
        twice.take(event)
        for again in data.draw(st.lists(st.integers(0, place), max_size=2)):
            assert twice.take(events[again]) is None
    assert told(twice) == told(state)
    assert len({event.id for event in events}) == len(events)


def test_the_golden_files_of_every_shipped_version_fold() -> None:
    state = State()
    files = sorted(
        path for kind in ("asset", "counter", "work-order") for path in GOLDEN.glob(f"{kind}.*.json")
    )
    events = sorted((parse_event(path.read_bytes()) for path in files), key=lambda e: getattr(e, "revision"))  # noqa: B009 - of any class
    assert sum(state.take(event) is not None for event in events) == 10  # wo-18's first event has no file
    assert state.assets[Kind.SENSOR, "pump-01.flow"].fields["normal_low"] == 36.0
    assert state.orders["wo-17"].failure_code == "VIB"
    assert state.counters["pump-01.de-bearing.run-hours"].resets[0].value == 8120.0


def plant_of(said: dict[str, dict[str, object]]) -> State:
    """A plant of these words on top of what was seen."""
    state = State()
    seen = {
        (Kind.SITE, "s1"): {},
        (Kind.MACHINE, "m1"): {"site": "s1"},
        (Kind.SENSOR, "m1.flow"): {"unit": "K"},
    }
    taken(state, decide_observed(state, seen, NOW, 9))
    taken(state, decide_creation(state, Kind.AREA, "hall", {"site": "s1"}, ask(1)))
    taken(state, decide_creation(state, Kind.MACHINE, "m2", {}, ask(2)))
    taken(state, decide_creation(state, Kind.COMPONENT, "m1.c1", {}, ask(3)))
    taken(state, decide_creation(state, Kind.SENSOR, "m1.temp", {}, ask(4)))
    for number, (asset, fields) in enumerate(said.items(), 5):
        kind = Kind.SENSOR if "." in asset else Kind.MACHINE
        taken(state, decide_change(state, kind, asset, fields, ask(number)))
    return state


@pytest.mark.parametrize("layout", ["yaml", "csv"])
@given(said=plants)
def test_what_is_exported_and_imported_elsewhere_is_exported_the_same(
    layout: str, said: dict[str, dict[str, object]]
) -> None:
    state = plant_of(said)
    write = write_csv if layout == "csv" else write_yaml
    text = write(rows_of(state))
    rows = read_file(text.encode(), layout)
    assert not plan(state, rows).differences  # to the plant that it came from it says nothing new
    empty = State()
    assert not plan(empty, rows).faults
    taken(empty, decide_import(empty, rows, ask(50)))
    assert write(rows_of(empty)) == text
    assert decide_import(empty, rows, ask(51)) == []


@given(text=texts)
def test_no_text_begins_as_a_formula_and_every_one_comes_back(text: str) -> None:
    cell = neutral(text)
    assert cell[0] not in "=+-@\t\r\n"
    assert restored(cell) == text


def test_numbers_stay_numbers_and_texts_are_neutralised() -> None:
    rows = [
        Row(
            0,
            Kind.SENSOR,
            "m.s",
            {"name": "=cmd|' /C calc'!A0", "unit": "-", "range_low": -5.5, "normal_low": 1e-9},
        )
    ]
    [cells] = csv.DictReader(io.StringIO(write_csv(rows)))
    assert (cells["name"][:2], cells["unit"], cells["range_low"], cells["normal_low"]) == (
        "'=",
        "'-",
        "-5.5",
        "1e-09",
    )


@given(st.binary(max_size=300), st.sampled_from(["yaml", "csv"]))
def test_any_bytes_are_rows_or_are_refused(data: bytes, layout: str) -> None:
    try:
        rows = read_file(data, layout)
    except IndustrialMindError:
        return
    plan(State(), rows)
