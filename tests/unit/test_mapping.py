"""Mapping files: what each word of them does with messages of plants that never heard of ours."""

from typing import Any

import pytest

from edge.mapping.paths import Template, TopicPattern, covers, look, pointed, pointer
from edge.mapping.schema import parse_mapping
from edge.mapping.translator import widest
from shared.errors import Misconfigured
from tests.mapping_messages import NOW_S, NOW_US, at_work, message, reasons, rows, taken

FLAT = """
version: 1
rules:
  - topic: factory/{line}/{machine}/{tag}
    machine: "{machine}"
    name: "{tag}"
    sensors:
      temperature: {unit: degC}
      pressure: {unit: bar, from: kPa}
      running: {unit: "1"}
"""
TIMED = """
version: 1
rules:
  - topic: factory/{line}/{machine}/{tag}
    machine: "{machine}"
    name: "{tag}"
    value: /v
    time: {at: /t, as: s}
    quality: {at: /q, as: opc-da}
    unit_at: /u
    sensors:
      "*": {}
      temperature: {unit: degC}
"""
NESTED = """
version: 1
rules:
  - topic: plant2/{machine}/telemetry
    machine: "{machine}"
    time: {at: /timestamp, as: iso}
    sensors:
      /data/temp/value: {sensor: temp, unit: degC, unit_at: /data/temp/unit}
      /data/rpm: {sensor: speed, unit: rpm}
      /data/raw~1adc: {sensor: level, unit: "%", scale: 0.1, offset: -5}
"""


def test_a_number_on_a_topic_of_its_own() -> None:
    out = taken(at_work(FLAT), message("factory/l1/press3/temperature", "21.5"))
    assert rows(out) == [("press3", "temperature", 21.5, "degC", NOW_US, "good")]
    assert out.live == []  # arrivals say nothing about the device's clock
    assert out.fates == {"readings": 1}


def test_a_value_is_converted_from_the_unit_that_the_mapping_names() -> None:
    out = taken(at_work(FLAT), message("factory/l1/press3/pressure", "250"))
    assert rows(out)[0][2] == pytest.approx(2.5)
    assert rows(out)[0][3] == "bar"


def test_two_arrivals_at_once_are_two_times() -> None:
    out = taken(
        at_work(FLAT),
        message("factory/l1/press3/temperature", "1"),
        message("factory/l1/press3/temperature", "2"),
    )
    assert [row[4] for row in rows(out)] == [NOW_US, NOW_US + 1]


def test_truth_values_are_readings_where_the_unit_says_so() -> None:
    inputs = at_work(FLAT)
    assert rows(taken(inputs, message("factory/l1/press3/running", "true")))[0][2] == 1.0
    assert "truth value" in reasons(taken(inputs, message("factory/l1/press3/temperature", "true")))[0]


def test_value_time_quality_and_unit_of_an_object() -> None:
    said = {"v": 70, "t": NOW_S - 1.25, "q": 64, "u": "°F"}
    out = taken(at_work(TIMED), message("factory/l1/press3/temperature", said))
    [(machine, sensor, value, unit, time_us, quality)] = rows(out)
    assert (machine, sensor, unit, quality) == ("press3", "temperature", "degC", "uncertain")
    assert value == pytest.approx(21.111, abs=1e-3)
    assert time_us == NOW_US - 1_250_000
    assert out.live == [("press3", NOW_US - 1_250_000, NOW_US)]


def test_names_that_have_no_row_are_taken_by_the_star_with_the_unit_they_say() -> None:
    out = taken(
        at_work(TIMED), message("factory/l1/press3/Oil Flow", {"v": 3, "t": NOW_S, "q": 192, "u": "L/min"})
    )
    assert rows(out) == [("press3", "oil-flow", 3.0, "l/min", NOW_US, "good")]


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("factory/l1/press3/temperature", {"v": 1, "q": 192}, "no time at '/t'"),
        ("factory/l1/press3/temperature", {"v": 1, "t": "soon", "q": 192}, "not a number of s"),
        ("factory/l1/press3/temperature", {"v": 1, "t": NOW_S * 1000, "q": 192}, "outside the years"),
        ("factory/l1/press3/temperature", {"v": 1, "t": NOW_S + 700, "q": 192}, "10 min ahead"),
        ("factory/l1/press3/temperature", {"v": None, "t": NOW_S, "q": 192}, "null is not a number"),
        ("factory/l1/press3/temperature", {"v": "hot", "t": NOW_S, "q": 192}, "is a text"),
        ("factory/l1/press3/temperature", {"v": [1], "t": NOW_S, "q": 192}, "structure"),
        ("factory/l1/press3/temperature", {"t": NOW_S, "q": 192}, "no value at '/v'"),
        ("factory/l1/press3/temperature", {"v": 1, "t": NOW_S, "q": "fine"}, "no opc-da code"),
        ("factory/l1/press3/temperature", {"v": 1, "t": NOW_S, "u": "furlong"}, "unknown unit 'furlong'"),
        ("factory/l1/press3/temperature", {"v": 1, "t": NOW_S, "u": "bar"}, "'bar' is a pressure"),
        ("factory/l1/press3/flow", {"v": 1, "t": NOW_S}, "there is no unit"),
        ("factory/l1/press3/flow", {"v": 1, "t": NOW_S, "u": 5}, "unit 5 is not a text"),
        ("factory/l1/press9/temperature", {"v": 1, "t": NOW_S}, "not one of this edge's"),
        ("factory/l1/press3/temperature", "{", "not JSON"),
        ("factory/l1/press3/temperature", "NaN", "not JSON"),
        ("factory/l1/press3", {"v": 1}, "fits no rule"),
    ],
)
def test_what_can_not_be_read_is_a_dead_letter_with_its_reason(topic: str, payload: Any, reason: str) -> None:  # noqa: ANN401
    out = taken(at_work(TIMED), message(topic, payload))
    assert out.rows == {}
    [letter] = out.letters
    assert reason in letter.reason
    assert letter.topic == topic
    assert out.fates == {"refused": 1}


def test_several_sensors_in_a_message() -> None:
    said = {
        "timestamp": "2023-11-14T22:13:19.5Z",
        "data": {"temp": {"value": 80.6, "unit": "°F"}, "rpm": 1480, "raw/adc": 550},
        "serial": 12,
    }
    out = taken(at_work(NESTED), message("plant2/mixer-7/telemetry", said))
    assert [(row[1], round(row[2], 6), row[3]) for row in rows(out)] == [
        ("temp", 27.0, "degC"),
        ("speed", 1480.0, "rpm"),
        ("level", 50.0, "%"),
    ]
    assert {row[4] for row in rows(out)} == {NOW_US - 500_000}


def test_one_field_that_is_wrong_does_not_take_the_others_with_it() -> None:
    said = {"timestamp": "2023-11-14T22:13:19Z", "data": {"temp": {"value": "?"}, "rpm": 1480}}
    out = taken(at_work(NESTED), message("plant2/mixer-7/telemetry", said))
    assert [row[1] for row in rows(out)] == ["speed"]
    assert "'/data/temp/value': \"?\" is a text" in reasons(out)[0]


def test_fields_that_are_null_or_absent_say_nothing_and_a_message_without_any_is_refused() -> None:
    stamp = {"timestamp": "2023-11-14T22:13:19Z"}
    inputs = at_work(NESTED)
    out = taken(
        inputs, message("plant2/mixer-7/telemetry", {**stamp, "data": {"rpm": 5, "temp": {"value": None}}})
    )
    assert [row[1] for row in rows(out)] == ["speed"]
    assert out.letters == []
    for empty in ({**stamp, "data": {}}, {**stamp, "data": {"rpm": None}}, stamp):
        assert (
            "none of the mapping's sensors"
            in reasons(taken(inputs, message("plant2/mixer-7/telemetry", empty)))[0]
        )


KEPWARE = """
version: 1
rules:
  - topic: iotgateway/{machine}
    machine: "{machine}"
    each: /values
    name: "{/id}"
    value: /v
    time: {at: /t, as: ms}
    quality: {at: /q, as: bool}
    sensors:
      Line.Press.Temp: {sensor: temp, unit: degC}
      Line.Press.Force: {sensor: force, unit: kN}
    ignore: [Line.Press.Serial]
"""


def test_a_list_of_tags_each_with_its_own_time_or_the_message_s() -> None:
    said = {
        "t": NOW_S * 1000 - 7,
        "values": [
            {"id": "Line.Press.Temp", "v": 41.5, "q": True, "t": NOW_S * 1000 - 3},
            {"id": "Line.Press.Force", "v": 80, "q": False},
            {"id": "Line.Press.Serial", "v": 1234, "q": True},
            {"id": "Line.Press.Other", "v": 1, "q": True},
            17,
        ],
    }
    out = taken(at_work(KEPWARE), message("iotgateway/press3", said))
    assert rows(out) == [
        ("press3", "temp", 41.5, "degC", NOW_US - 3000, "good"),
        ("press3", "force", 80.0, "kN", NOW_US - 7000, "bad"),
    ]
    assert [letter.payload for letter in out.letters] == [b'{"id":"Line.Press.Other","v":1,"q":true}', b"17"]
    assert out.live == []  # a list is a batch


def test_a_list_of_pairs() -> None:
    text = """
version: 1
rules:
  - {topic: "h/{machine}/{tag}", machine: "{machine}", each: "", name: "{tag}", value: /1, time: {at: /0, as: us}, sensors: {p: {unit: kW}}}
"""
    out = taken(at_work(text), message("h/m1/p", [[NOW_US - 2, 1.5], [NOW_US - 1, 2.5]]))
    assert [(row[2], row[4]) for row in rows(out)] == [(1.5, NOW_US - 2), (2.5, NOW_US - 1)]


TEXTS = """
version: 1
rules:
  - topic: old/{machine}/csv
    machine: "{machine}"
    payload: text
    split: ";"
    decimal: ","
    time: {at: /0, as: "%d.%m.%Y %H:%M:%S", zone: Europe/Berlin}
    sensors:
      /1: {sensor: oil-temp, unit: degC}
      /2: {sensor: power, unit: kW}
  - topic: old/{machine}/state
    machine: "{machine}"
    payload: text
    name: state
    sensors: {state: {unit: "1", words: {ON: 1, OFF: 0}}}
  - topic: old/{machine}/{tag}
    machine: "{machine}"
    payload: text
    decimal: "."
    name: "{tag}"
    sensors: {temp: {unit: degC}, p: {unit: bar}}
"""


def test_texts_with_commas_units_and_words() -> None:
    inputs = at_work(TEXTS)
    out = taken(inputs, message("old/m1/csv", "14.11.2023 23:13:20;23,5;1.250,75 kW"))
    assert [(row[1], row[2], row[4]) for row in rows(out)] == [
        ("oil-temp", 23.5, NOW_US),
        ("power", 1250.75, NOW_US),
    ]
    assert rows(taken(inputs, message("old/m1/state", "ON")))[0][2] == 1.0
    assert rows(taken(inputs, message("old/m1/temp", " 77 °F ")))[0][2] == pytest.approx(25.0)
    assert rows(taken(inputs, message("old/m1/p", "-1,250.5 mbar")))[0][2] == pytest.approx(-1.2505)


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("old/m1/state", "MAYBE", "none of the words OFF, ON"),
        ("old/m1/temp", "23,5", "no number with the decimal mark"),
        ("old/m1/temp", "23.5 parsec", "unknown unit 'parsec'"),
        ("old/m1/temp", "23.5 bar", "'bar' is a pressure"),
        ("old/m1/temp", "1.2.3", "no number"),
        ("old/m1/temp", "inf", "no number"),
        ("old/m1/temp", "1e999", "not finite"),
        ("old/m1/temp", "", "no number"),
        ("old/m1/temp", b"\xff\xfe", "not a text in UTF-8"),
        ("old/m1/csv", "yesterday;1;2", "is not %d.%m.%Y"),
    ],
)
def test_texts_that_are_rubbish(topic: str, payload: Any, reason: str) -> None:  # noqa: ANN401
    out = taken(at_work(TEXTS), message(topic, payload))
    assert out.rows == {}
    assert reason in reasons(out)[0]


def test_a_kept_message_without_a_time_of_its_own_is_refused() -> None:
    out = taken(at_work(FLAT), message("factory/l1/press3/temperature", "21.5", retain=True))
    assert "does not say when" in reasons(out)[0]


def test_two_sources_never_share_a_sensor() -> None:
    inputs = at_work(FLAT)
    out = taken(
        inputs,
        message("factory/l1/press3/temperature", "1"),
        message("factory/l2/press3/temperature", "2"),
        message("factory/l1/press3/temperature", "3"),
    )
    assert [row[2] for row in rows(out)] == [1.0, 3.0]
    assert "{line}/{machine}/{tag} l1 press3" in reasons(out)[0]


def test_ignored_topics_and_rules_in_order() -> None:
    text = FLAT + "ignore: [factory/+/press3/pressure]\n"
    out = taken(at_work(text), message("factory/l1/press3/pressure", "rubbish"))
    assert out.fates == {"ignored": 1}
    assert out.letters == []


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (
            "version: 1\nrules:\n  - topic: a/{b}\n    machine: '{c}'\n    sensors: {x: {unit: bar}}\n",
            3,
            "level 'c'",
        ),
        (
            "version: 1\nrules:\n  - topic: a/#\n    machine: m\n    sensors: {/x: {unit: bar}}\n",
            3,
            "a level is",
        ),
        (
            "version: 1\nrules:\n  - topic: a\n    machine: m\n    sensors:\n      /x: {unit: furlong}\n",
            6,
            "unknown unit",
        ),
        (
            "version: 1\nrules:\n  - topic: a\n    machine: m\n    sensors:\n      /x: {unit: '?'}\n",
            6,
            "not known yet",
        ),
        (
            "version: 1\nrules:\n  - topic: a\n    machine: m\n    sensors:\n      x: {unit: bar}\n",
            3,
            "no JSON pointer",
        ),
        (
            "version: 1\nrules:\n  - topic: a\n    machine: m\n    sensors:\n      /x: {}\n",
            3,
            "neither `unit`",
        ),
        (
            "version: 1\nrules:\n  - topic: a\n    machine: m\n    sensors: {/x: {unit: bar}}\n    colour: red\n",
            6,
            "colour",
        ),
        ("version: 1\nrules:\n  - topic: a\n    topic: b\n", 4, "there twice"),
        ("version: 1\nrules:\n  - topic: [a\n", 4, "expected"),
        ("version: 2\nrules: []\n", 1, "version"),
        ("version: 1\n", 1, "maps nothing"),
        ("just words\n", 1, "begins with"),
        (
            "version: 1\nrules:\n  - topic: a\n    machine: m\n    sensors:\n      /x: {unit: bar, from: degC}\n",
            6,
            "'degC' is a temperature",
        ),
        (
            "version: 1\nrules:\n  - topic: a\n    machine: m\n    time: {at: /t, as: ticks}\n    sensors: {/x: {unit: bar}}\n",
            5,
            "none of s, ms",
        ),
        (
            (
                "version: 1\nrules:\n  - topic: a\n    machine: m\n    time:\n      at: /t\n      as: iso\n      zone: Mars/Base\n"
                "    sensors: {/x: {unit: bar}}\n"
            ),
            8,
            "no time zone",
        ),
        (
            "version: 1\nrules:\n  - topic: a\n    machine: m\n    sensors:\n      /A b: {unit: bar}\n      /a-b: {unit: bar}\n",
            3,
            "are both the sensor",
        ),
    ],
)
def test_a_wrong_file_says_what_and_on_which_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(Misconfigured, match=rf"map\.yaml, line {line}: ") as raised:
        parse_mapping(text, "map.yaml")
    assert reason in str(raised.value)


def test_words_of_yaml_stay_words() -> None:
    text = "version: 1\nrules:\n  - {topic: a, machine: m1, payload: text, name: x, sensors: {x: {unit: '1', words: {ON: 1, no: 0, 12:30: 2}}}}\n"
    inputs = at_work(text)
    assert [rows(taken(inputs, message("a", word)))[0][2] for word in ("ON", "no", "12:30")] == [
        1.0,
        0.0,
        2.0,
    ]


def test_aliases_without_end_are_refused() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(Misconfigured, match="more than"):
        parse_mapping(bomb)


def test_pointers_patterns_templates_and_filters() -> None:
    assert pointed(pointer("/a~1b/~0/0")) == "/a~1b/~0/0"
    assert look({"a/b": {"~": [5]}}, pointer("/a~1b/~0/0")) == 5
    pattern = TopicPattern.parse("shellies/{machine}/{*tag}")
    assert pattern.filter == "shellies/+/#"
    assert pattern.match("shellies/pm1/relay/0/power") == {"machine": "pm1", "tag": "relay/0/power"}
    assert pattern.match("shellies/pm1") is None
    assert Template.parse("{a}-{/b/0}").fill({"a": "x"}, {"b": [3]}, None) == "x-3"
    assert Template.parse("{a}-{/b/0}").fill({"a": "x"}, {}, {}) is None
    assert widest(["a/+/c", "a/#", "b/c", "b/c"]) == ["a/#", "b/c"]
    assert covers("a/+", "a/b")
    assert not covers("a/+", "a/b/c")
    assert not covers("a/b", "a/+")
