"""Sparkplug nodes that the edge reads itself."""

from pathlib import Path

import pytest

from edge.input_limits import InputLimits
from edge.mapping.gathered import Gathered
from edge.mapping.inputs import MappedInputs, open_mapping
from shared.errors import Misconfigured
from shared.paho import MqttMessage
from shared.sparkplug.datatypes import DataType
from shared.sparkplug.node import Message
from shared.sparkplug.payload import Property, metric
from shared.sparkplug.topics import MessageType, NodeId
from tests.mapping_messages import at_work, message, reasons, rows, taken
from tests.sparkplug_messages import T, definition, made, nbirth, ndata, temp

NODE = NodeId("Hall A", "Press 7")
ALL = """
version: 1
sparkplug:
  - {group: Hall A, node: Press 7, machine: press-7}
  - group: Hall A
    node: Press 7
    device: Pump
    machine: press-7-pump
    metrics:
      Flow/Main: {sensor: flow, unit: m3/h}
      Mode: {}
"""
NOW_US = (T + 5000) * 1000


def as_mqtt(*messages: Message, connection: int = 1) -> list[MqttMessage]:
    return [message(str(each.topic), each.raw, connection=connection) for each in messages]


def ddata(seq: int, *metrics: object) -> Message:
    return made(MessageType.DDATA, *metrics, seq=seq, device="Pump", node=NODE, sent=T + 2000)  # type: ignore[arg-type]


def dbirth(seq: int) -> Message:
    flow = metric(
        "Flow/Main",
        DataType.DOUBLE,
        1.0,
        alias=7,
        timestamp=T,
        properties={"engUnit": Property(DataType.STRING, "L/min")},
    )
    mode = metric("Mode", DataType.STRING, "auto", alias=8, timestamp=T)
    other = metric("Other", DataType.DOUBLE, 1.0, alias=9, timestamp=T)
    return made(MessageType.DBIRTH, flow, mode, other, seq=seq, device="Pump", node=NODE)


def heard(inputs: MappedInputs, *messages: Message, connection: int = 1, now_us: int = NOW_US) -> Gathered:
    return taken(inputs, *as_mqtt(*messages, connection=connection), now_us=now_us)


def test_births_and_data_become_readings_in_the_mapping_s_units() -> None:
    inputs = at_work(ALL)
    out = heard(
        inputs,
        nbirth(definition("Supply/Temp", unit="°C"), node=NODE),
        dbirth(1),
        ndata(2, temp(21.5, at=T + 1000), node=NODE),
    )
    assert rows(out) == [
        ("press-7", "supply-temp", 20.0, "degC", T * 1000, "good"),
        ("press-7", "supply-temp", 21.5, "degC", (T + 1000) * 1000, "good"),
        ("press-7-pump", "flow", pytest.approx(0.06), "m3/h", T * 1000, "good"),
    ]
    assert out.letters == []
    assert [event.type for event in out.events["press-7"]] == ["node.online"]
    assert [event.type for event in out.events["press-7-pump"]] == ["node.online", "sparkplug.metric"]
    assert out.live == [("press-7", (T + 1000) * 1000, NOW_US)]


def test_a_metric_that_the_mapping_does_not_name_is_left_alone_and_null_says_nothing() -> None:
    inputs = at_work(ALL)
    heard(inputs, nbirth(node=NODE), dbirth(1))
    out = heard(
        inputs,
        ddata(2, metric(None, DataType.DOUBLE, 5.0, alias=9, timestamp=T + 2000, typeless=True)),
        ddata(3, metric(None, DataType.DOUBLE, None, alias=7, timestamp=T + 2000, typeless=True)),
    )
    assert (out.rows, out.letters) == ({}, [])


def test_data_before_a_birth_is_refused_and_the_node_asked_for_its_births() -> None:
    inputs = at_work(ALL)
    out = heard(inputs, ndata(3, node=NODE))
    assert "no birth of the node was heard" in reasons(out)[0]
    assert [topic for topic, _ in out.commands] == ["spBv1.0/Hall A/NCMD/Press 7"]


def test_a_node_is_asked_at_the_start_and_after_an_absence() -> None:
    inputs = at_work(ALL)
    out = Gathered()
    inputs.tick(NOW_US, 1.0, out)
    inputs.tick(NOW_US, 1.5, out)
    assert len(out.commands) == 1
    heard(inputs, nbirth(node=NODE))
    lost = heard(inputs, ndata(1, node=NODE), connection=2, now_us=NOW_US + 60_000_000)
    assert "node.offline" in [event.type for event in lost.events["press-7"]]
    again = Gathered()
    inputs.tick(NOW_US, NOW_US / 1e6 + 120, again)
    assert len(lost.commands) + len(again.commands) == 1


def test_a_gap_is_told_and_what_follows_is_uncertain() -> None:
    inputs = at_work(ALL)
    heard(inputs, nbirth(node=NODE))
    heard(inputs, ndata(4, temp(1.0, at=T + 3000), node=NODE))
    out = Gathered()
    inputs.tick(NOW_US, NOW_US / 1e6 + 6, out)
    assert [(row[2], row[5]) for row in rows(out)] == [(1.0, "uncertain")]
    assert "node.gap" in [event.type for event in out.events["press-7"]]


def test_units_that_are_unknown_or_of_another_dimension_refuse_the_metric_once() -> None:
    inputs = at_work(ALL)
    out = heard(inputs, nbirth(definition(unit="furlong"), node=NODE), ndata(1, node=NODE))
    assert reasons(out) == ["'Temp' unknown unit 'furlong'"]
    wrong = at_work(
        "version: 1\nsparkplug: [{group: Hall A, node: Press 7, machine: m1, metrics: {Temp: {unit: bar}}}]\n"
    )
    assert "'degC' is a temperature" in reasons(heard(wrong, nbirth(node=NODE)))[0]


def test_rubbish_and_strangers_are_dead_letters() -> None:
    inputs = at_work(ALL)
    for topic, payload in (
        ("spBv1.0/Hall A/NBIRTH/Press 7", b"\xff\xff"),
        ("spBv1.0/Hall A/NBIRTH/Press 8", b""),
        ("spBv1.0/Hall A/NONSENSE/Press 7", b""),
        ("spBv1.0/STATE/host", b"{}"),
    ):
        out = taken(inputs, message(topic, payload))
        assert len(out.letters) == 1
        assert out.fates == {"refused": 1}


def test_a_mapping_for_another_edge_s_machines_or_of_plain_topics_is_misconfigured(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(ALL)
    with pytest.raises(Misconfigured, match="press-7-pump, which this edge does not speak for"):
        open_mapping(path, ["press-7"], InputLimits(), edge="e1", taken="plant/s1/")
    path.write_text("version: 1\nrules: [{topic: plant/s1/m1/x, machine: m1, sensors: {/v: {unit: bar}}}]\n")
    with pytest.raises(Misconfigured, match="plain JSON of this site"):
        open_mapping(path, ["m1"], InputLimits(), edge="e1", taken="plant/s1/")
    with pytest.raises(Misconfigured, match="No such file"):
        open_mapping(tmp_path / "none.yaml", ["m1"], InputLimits(), edge="e1", taken="plant/s1/")
