"""Discovery: styles of the wild become mappings that read them rightly; what can't be read is told, and nothing crashes."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.discover.dry_run import dry_run
from edge.discover.nodes import unborn
from edge.discover.propose import propose
from edge.discover.seen import Seen
from edge.discover.words import told_unit, usual_unit
from edge.discover.write import written
from edge.mapping.schema import parse_mapping
from shared.errors import Misconfigured
from shared.sparkplug.topics import NodeId
from tests.discovery import three_styles
from tests.mapping_messages import NOW_US, message
from tests.plant_styles import STYLES, heard, messages
from tests.servers import NatsServer

LAST = 5  # the number of the last round
AT = NOW_US + LAST * 1_000_000
ARRIVED = AT + 50_000
T = NOW_US // 1000

# Style: units that a person must write, and the newest readings once they are there: (machine, sensor) to value, unit, time.
WANTED = {
    "flat": (
        {"pressure": "bar"},
        {
            ("press3", "temperature"): (40.5, "degC", ARRIVED),
            ("press4", "speed-rpm"): (1485.0, "rpm", ARRIVED),
            ("press5", "pressure"): (5.625, "bar", ARRIVED),
        },
    ),
    "flat_objects": (
        {},
        {("m1", "motor-temp-c"): (55.0, "degC", AT), ("m2", "flow-lpm"): (17.5, "l/min", AT)},
    ),
    "nested": (
        {},
        {
            ("mixer-7", "temp"): (66.5, "degC", AT),
            ("mixer-7", "pressure"): (255.0, "kPa", AT),
            ("mixer-8", "shaft-rpm"): (905.0, "rpm", AT),
        },
    ),
    "kepware": (
        {},
        {
            ("iotgateway", "line-press-oiltemp-c"): (45.5, "degC", AT),
            ("iotgateway", "line-press-force-kn"): (85.0, "kN", AT),
        },
    ),
    "zigbee": (
        {},
        {
            ("boiler", "temperature"): (75.5, "degC", ARRIVED),
            ("boiler", "humidity"): (45.0, "%", ARRIVED),
            ("fan", "current"): (6.5, "A", ARRIVED),
            ("fan", "state"): (1.0, "1", ARRIVED),
        },
    ),
    "tasmota": (
        {"/ENERGY/Power": "W"},
        {
            ("compressor", "energy-power"): (1205.0, "W", AT),
            ("compressor", "ds18b20-temperature"): (56.5, "degC", AT),
        },
    ),
    "shelly": (
        {"relay/0/power": "W"},
        {
            ("pm1", "relay-0-power"): (105.5, "W", ARRIVED),
            ("pm1", "relay-0"): (1.0, "1", ARRIVED),
            ("pm2", "relay-0"): (0.0, "1", ARRIVED),
            ("pm2", "temperature"): (36.25, "degC", ARRIVED),
        },
    ),
    "shelly2": (
        {},
        {
            ("shellypro3em", "em-0-a-current"): (9.5, "A", AT),
            ("shellypro3em", "em-0-total-act-power-kw"): (7.5, "kW", AT),
        },
    ),
    "opc_ua": ({}, {("press", "press-temp-degc"): (46.5, "degC", AT)}),
    "german": (
        {},
        {("ofen", "temp"): (85.5, "degC", ARRIVED), ("ofen", "leistung"): (1255.75, "kW", ARRIVED)},
    ),
    "csv": (
        {"/1": "degC", "/2": "bar"},
        {("pump9", "1"): (25.5, "degC", AT), ("pump9", "2"): (8.25, "bar", AT)},
    ),
    "pairs": ({}, {("m4", "vibration-mms"): (7.5, "mm/s", AT)}),
    "sparkplug": (
        {},
        {
            ("press-7", "supply-temp"): (26.0, "degC", (T + 5005) * 1000),
            ("press-7-pump", "flow"): (7.0, "m3/h", (T + 5006) * 1000),
        },
    ),
}


def edited(text: str, units: dict[str, str]) -> str:
    """The proposal with the units that it could not know."""
    for key, unit in units.items():
        text, count = re.subn(rf'(?m)^(\s+"?{re.escape(key)}"?: .*unit: )"\?"', rf"\1{unit}", text)
        assert count == 1, text
    return text


@pytest.mark.parametrize("style", WANTED)
def test_a_style_of_the_wild_is_read_rightly(style: str) -> None:
    units, wanted = WANTED[style]
    seen = heard(style)
    proposal = propose(seen)
    text = written(proposal)
    assert proposal.unknown == len(units)
    if units:
        with pytest.raises(Misconfigured, match="is not known yet"):
            parse_mapping(text)
    tried = dry_run(parse_mapping(edited(text, units)), seen.samples)
    newest = {key: found for topic in tried for key, found in topic.examples.items()}
    assert {key: newest.get(key) for key in wanted} == wanted
    assert {key[0] for key in newest} == set(proposal.machines)
    unmapped = set(proposal.unread)
    assert {topic.topic for topic in tried if topic.reasons} <= unmapped


def test_several_styles_on_one_broker_do_not_disturb_each_other() -> None:
    seen = heard(*STYLES)
    text = written(propose(seen))
    for units, _ in WANTED.values():
        text = edited(text, units)
    newest = {
        key: found
        for topic in dry_run(parse_mapping(text), seen.samples)
        for key, found in topic.examples.items()
    }
    for _, wanted in WANTED.values():
        assert {key: newest.get(key) for key in wanted} == wanted


def test_rubbish_is_not_mapped_and_told_with_its_reason() -> None:
    proposal = propose(heard("rubbish"))
    assert (proposal.rules, proposal.nodes) == ([], [])
    assert set(proposal.unread) == {"junk/binary", "junk/words", "junk/empty", "junk/text"}
    assert "no number" in proposal.unread["junk/words"]


def test_a_quality_lowers_its_reading_and_a_zone_is_named() -> None:
    text = written(propose(heard("opc_ua")))
    assert "quality: {at: /StatusCode, as: opc-ua}" in text
    assert 'zone: "+01:00"' in written(propose(heard("tasmota")))


def test_a_node_without_births_is_told_and_could_be_asked() -> None:
    seen = Seen()
    for each, at_us in messages("sparkplug"):
        if "BIRTH" not in each.topic:
            seen.take(each, at_us)
    proposal = propose(seen)
    assert proposal.nodes == []
    assert "no birth" in proposal.unread["spBv1.0/Hall A/NDATA/Press 7"]
    assert unborn(seen.sparkplug) == {NodeId("Hall A", "Press 7")}


def test_topics_of_a_rule_that_nothing_can_be_made_of_are_ignored() -> None:
    seen = heard("shelly")
    seen.take(message("shellies/pm1/info", b"all is well"), NOW_US)
    text = written(propose(seen))
    assert "ignore:\n  - shellies/pm1/info\n" in text
    assert parse_mapping(edited(text, {"relay/0/power": "W"})).ignore == ("shellies/pm1/info",)


def test_what_is_kept_is_bounded_and_plain_topics_are_only_counted() -> None:
    seen = Seen(max_topics=2, max_bytes=1000)
    for topic in ("a", "b", "c", "plant/s1/m1/x", "im/v1/s1/e1/frames"):
        seen.take(message(topic, b"1"), NOW_US)
    for _ in range(200):
        seen.take(message("a", b"12345678"), NOW_US)
    seen.take(message("b", b"x" * 2000), NOW_US)
    assert set(seen.topics) == {"a", "b"}
    assert seen.not_kept == 2
    assert len(seen.plain) == 2
    assert len(seen.topics["a"].samples) == 12


@pytest.mark.parametrize(
    ("name", "told", "usual"),
    [
        ("pressure_bar", ("bar", True), None),
        ("MotorTempC", ("degC", False), None),
        ("phase_a", ("A", False), None),
        ("temperature", None, "degC"),
        ("oilTemp", None, "degC"),
        ("pressure", None, None),
        ("bar", None, None),
        ("flow_m3_h", ("m3/h", True), None),
    ],
)
def test_units_by_name(name: str, told: tuple[str, bool] | None, usual: str | None) -> None:
    assert told_unit(name) == told
    if told is None:
        assert usual_unit(name) == usual


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.lists(
                st.sampled_from(["a", "b", "data", "0", "x y", "ö", "{z}", '"q', "", "temp"]),
                min_size=1,
                max_size=4,
            ).map("/".join),
            st.sampled_from(
                [
                    b"1",
                    b"true",
                    b"null",
                    b'"ON"',
                    b"on",
                    b"1,5 bar",
                    b"",
                    b"\xff",
                    b"{}",
                    b"[]",
                    b"[1,2]",
                    b"[[1,2]]",
                    b'{"v":1}',
                    b"1;2;x",
                ]
            )
            | st.dictionaries(
                st.sampled_from(["v", "t", "ts", "name", "id", "q", "unit", "a/b", "x"]),
                st.sampled_from(["1", '"x"', "1700000000", '"°C"', "null", "[1]", '{"v":2}', "true"]),
                max_size=4,
            ).map(
                lambda fields: (
                    "{" + ",".join(f'"{key}":{raw}' for key, raw in fields.items()) + "}"
                ).encode()
            ),
        ),
        max_size=8,
    )
)
def test_whatever_is_heard_the_proposal_is_a_mapping(said: list[tuple[str, bytes]]) -> None:
    seen = Seen()
    for topic, payload in said:
        seen.take(message(topic, payload), NOW_US)
    proposal = propose(seen)
    if proposal.rules or proposal.nodes:
        tried = dry_run(parse_mapping(written(proposal), draft=True), seen.samples)
        assert all(topic.readings or topic.reasons or topic.fates["ignored"] for topic in tried)


async def test_three_styles_on_a_broker_are_discovered_mapped_and_read(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", sync="10s", max_ack_pending=2000).start()
    try:
        await three_styles(server.mqtt_port, "admin", "secret", tmp_path)
    finally:
        server.stop()
