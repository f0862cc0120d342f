"""Files of assets: each mistake is named with its line; what would be huge is refused before it is built."""

import pytest

from cloud.assets.commands import read_file
from cloud.assets.fold import State
from cloud.assets.model import Kind
from cloud.assets.sheet import MAX_BYTES, MAX_FAULTS, Row, plan
from shared.errors import Rejected

BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nsites: [*b, *b]\n"
YAML = [
    ("sites: [{id: a}\n", 2, "no YAML"),
    (BOMB, 1, "anchors"),
    ("sites:\n- id: a\n  name: [1, 2]\n", 3, "one value"),
    ("sites:\n- id: a\n  colour: red\n", 3, "no such field"),
    ("sites:\n- id: a\n  name: x\n  name: y\n", 4, "twice"),
    ("sites:\n- name: x\n", 2, "needs an id"),
    ("sites:\n- a\n", 2, "names and values"),
    ("sites: a\n", 1, "must be a list"),
    ("pumps: []\n", 1, "unknown list"),
    ("version: 2\n", 1, "version '2'"),
    ("machines:\n- id: m\n  attributes: {a: {b: 1}}\n", 3, "one value"),
    ("machines:\n- id: m\n  attributes: !!python/object:os.system {}\n", 2, "attributes"),
    ("[" * 100, 1, "too deep"),
    ("\x00", 1, "no YAML"),
    ("? [a]\n: b\n", 1, "no name"),
]
CSV = [
    ("name,id\n", 1, "'kind' is not among them"),
    ("kind,id,colour\n", 1, "unknown column"),
    ("kind,id,name,name\n", 1, "two columns"),
    ("kind,id\nsite,a\nsite\n", 3, "1 cells"),
    ('kind,id,name\nsite,a,"two\nlines"\nplant,x,y\n', 4, "'plant' is none"),
    ("kind,id,unit\nsite,a,K\n", 2, "no such field"),
    ("kind,id,range_low\nsensor,m.a,low\n", 2, "not a number"),
    ("kind,id,attributes\nmachine,m,{\n", 2, "not JSON"),
    ('kind,id,name\nsite,a,"' + "x" * 70_000 + '"\n', 2, "no CSV"),
]


@pytest.mark.parametrize(
    ("layout", "text", "line", "reason"),
    [("yaml", *case) for case in YAML] + [("csv", *case) for case in CSV],
)
def test_a_mistake_is_named_with_its_line(layout: str, text: str, line: int, reason: str) -> None:
    faults: list[tuple[int, str]] = []
    try:
        rows = read_file(text.encode(), layout)
    except Rejected as error:
        faults.append((getattr(error, "line"), error.reason))  # noqa: B009 - Unreadable's own
    else:
        faults += [(fault.line, fault.reason) for fault in plan(State(), rows).faults]
    assert faults[0][0] == line
    assert reason in faults[0][1]


ROWS = [
    ("site", "a", {"name": "x" * 201}, "name"),
    ("site", "a", {"name": "\x1b[31m"}, "control characters"),
    ("sensor", "m.a", {"range_low": float("inf")}, "finite"),
    ("sensor", "m.a", {"range_low": True}, "number is wanted"),
    ("sensor", "m.a", {"range_low": 2, "range_high": 1}, "above"),
    ("sensor", "m.a", {"component": "other.c"}, "component"),
    ("sensor", "nowhere.a", {}, "no machine 'nowhere'"),
    ("sensor", "a", {}, "no sensor's id"),
    ("machine", "M", {}, "not an id"),
    ("machine", "n", {"installed_at": "soon"}, "installed_at"),
    ("machine", "n", {"area": "elsewhere"}, "area"),
    ("machine", "n", {"attributes": {}}, "attributes"),
    ("machine", "n", {"attributes": {"a b": 1}}, "attributes"),
    ("machine", "n", {"site": "s2", "area": "hall"}, "is in site 's1'"),
    ("area", "z", {"\ud800": 1}, "unicode"),
]


@pytest.mark.parametrize(("kind", "asset", "fields", "reason"), ROWS)
def test_what_no_asset_can_say_is_refused(
    kind: str, asset: str, fields: dict[str, object], reason: str
) -> None:
    base = [
        Row(1, Kind.SITE, "s1", {}),
        Row(2, Kind.SITE, "s2", {}),
        Row(3, Kind.AREA, "hall", {"site": "s1"}),
        Row(4, Kind.MACHINE, "m", {}),
    ]
    [fault] = plan(State(), [*base, Row(7, Kind(kind), asset, fields)]).faults
    assert fault.line == 7
    assert reason in fault.reason


def test_a_file_may_have_so_many_bytes_and_tells_so_many_faults() -> None:
    with pytest.raises(Rejected, match="bytes"):
        read_file(b" " * (MAX_BYTES + 1), "yaml")
    with pytest.raises(Rejected, match="UTF-8"):
        read_file(b"kind,id\n\xff", "csv")
    rows = [Row(n, Kind.SITE, "Not An Id", {}) for n in range(200)]
    assert len(plan(State(), rows).faults) == MAX_FAULTS
    twice = [Row(1, Kind.SITE, "a", {}), Row(2, Kind.SITE, "a", {})]
    assert [fault.reason for fault in plan(State(), twice).faults] == ["site a is in the file twice"]


def test_a_spreadsheet_s_file_is_read_with_its_own_separators() -> None:
    text = "\ufeffkind;id;name;range_low\r\nsensor;m.a;'=x;-5\r\n\r\n;;;\r\n"
    assert read_file(text.encode(), "csv") == [Row(2, Kind.SENSOR, "m.a", {"name": "=x", "range_low": -5.0})]


def test_yaml_keeps_texts_as_written() -> None:
    text = "machines:\n- id: m\n  serial: 007\n  name: no\n  model: null\n  attributes: {on: yes, at: 2024-01-01, n: 3}\nsites:\n"
    assert read_file(text.encode(), "yaml") == [
        Row(2, Kind.MACHINE, "m", {"serial": "007", "name": "no", "model": None, "attributes": {"on": True, "at": "2024-01-01", "n": 3}})
    ]  # fmt: skip
    assert read_file(b"", "yaml") == []
