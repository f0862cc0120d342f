"""The host without its I/O: names and units, what becomes rows, events and letters, bounds, commands, STATE."""

import re
from typing import Any

import pytest

from gateway.sparkplug.gathered import Gathered
from gateway.sparkplug.host import Bounds, Host, Turn
from gateway.sparkplug.names import Home
from gateway.sparkplug.numbering import Numbering
from shared import names
from shared.dead_letter import DeadLetter
from shared.errors import Rejected
from shared.events import NodeGap, NodeOffline, NodeOnline, SparkplugMetric, parse_event
from shared.frame_codec import decode
from shared.frames import Kind, Quality, Readings
from shared.names import fitted
from shared.sparkplug import codec
from shared.sparkplug.channels import unit_of
from shared.sparkplug.datatypes import DataType, Value
from shared.sparkplug.node import Message, Rules
from shared.sparkplug.payload import DataSet, Metric, Parameter, Property, Template, metric
from shared.sparkplug.topics import MessageType, NodeId, parse_topic
from shared.sparkplug.translate import MAX_EVENT, plain, rebirth
from tests.golden.sparkplug_samples import golden_bytes
from tests.sparkplug_messages import (
    NODE,
    T,
    dbirth,
    ddata,
    definition,
    made,
    nbirth,
    ndata,
    ndeath,
    temp,
)

NOW_US = (T + 100_000) * 1000
NODE_HOME = Home("plant-a", "node-1")
PUMP_HOME = Home("plant-a", "node-1-pump")


class Plant:
    """A host to which messages are told."""

    def __init__(self, bounds: Bounds | None = None, **edges: tuple[str, str]) -> None:
        self.host = Host("host-1", "gateway-1", Rules(), bounds)
        self.now = 0.0
        self.edges = {machine.replace("_", "-"): owner for machine, owner in edges.items()}

    def turn(self) -> Turn:
        self.now += 0.001
        return Turn(NOW_US, self.now, self.edges)

    def tell(self, *messages: Message) -> Gathered:
        return self.raw(*((str(each.topic), each.raw) for each in messages))

    def raw(self, *messages: tuple[str, bytes]) -> Gathered:
        out = Gathered()
        for topic, payload in messages:
            self.host.message(topic, payload, self.turn(), out)
        return out

    def after(self, seconds: float) -> Gathered:
        self.now += seconds
        out = Gathered()
        self.host.tick(self.turn(), out)
        return out


def letters(out: Gathered) -> list[DeadLetter]:
    return [DeadLetter.decode(each.value) for found in out.letters.values() for each in found]


def reasons(out: Gathered) -> str:
    return "\n".join(letter.reason for letter in letters(out))


def rows(out: Gathered, home: Home = NODE_HOME) -> dict[str, float]:
    return {row.sensor: row.value for row in out.rows.get(home, [])}


@pytest.fixture
def plant() -> Plant:
    return Plant()


def test_a_birth_and_data_become_readings_and_an_event(plant: Plant) -> None:
    out = plant.tell(nbirth(definition("Bearing/Temp")), ndata(1))
    assert [(r.sensor, r.unit, r.time_us, r.value) for r in out.rows[NODE_HOME]] == [
        ("bearing-temp", "degC", T * 1000, 20.0),
        ("bearing-temp", "degC", (T + 1001) * 1000, 1.0),
    ]
    [online] = out.events[NODE_HOME]
    assert isinstance(online, NodeOnline)
    assert (online.group, online.node, online.device, online.bd_seq, online.metrics) == (
        "Plant A",
        "Node 1",
        "",
        0,
        3,
    )
    assert out.fates == {"state": 1, "stored": 1}
    assert out.samples["reading"] == 2
    assert out.samples["control"] == 2
    assert not out.letters


def test_a_device_is_a_machine_of_its_own(plant: Plant) -> None:
    out = plant.tell(nbirth(), dbirth(1), ddata(2))
    assert rows(out, PUMP_HOME) == {"temp": 2.0}
    assert len(out.rows[PUMP_HOME]) == 2


def test_rows_are_numbered_as_an_edge_s_and_events_count_with_them(plant: Plant) -> None:
    numbering = Numbering("gateway-1", bytes(16))
    first = plant.tell(nbirth(), ndata(1)).writes(numbering, NOW_US)
    second = plant.tell(ndata(2)).writes(numbering, NOW_US)
    frames = [
        decode(r.value) for w in (*first, *second) if w.topic == names.SENSOR_READINGS for r in w.records
    ]
    assert [(h.edge, h.site, h.machine, h.kind, h.first, h.count) for h, _ in frames] == [
        ("gateway-1", "plant-a", "node-1", Kind.READINGS, 1, 2),
        ("gateway-1", "plant-a", "node-1", Kind.READINGS, 4, 1),
    ]
    [event] = [r for w in first if w.topic == names.MACHINE_EVENTS for r in w.records]
    assert event.headers[names.HEADER_ROW] == "3"
    assert event.headers[names.HEADER_EPOCH] == frames[0][0].epoch.hex()
    assert isinstance(parse_event(event.value), NodeOnline)
    body = frames[0][1]
    assert isinstance(body, Readings)
    assert body.arrival_us.tolist() == [NOW_US, NOW_US]


def test_more_rows_than_a_frame_holds_are_cut(plant: Plant) -> None:
    many = [definition(f"t{n}", n) for n in range(1001)]
    writes = plant.tell(nbirth(*many)).writes(Numbering("gateway-1", bytes(16)), NOW_US)
    assert [len(decode(r.value)[1]) for r in writes[0].records] == [1000, 1]


NUMBERS: list[tuple[DataType, Value, float]] = [
    (DataType.INT8, -5, -5.0),
    (DataType.UINT64, 2**63, 2.0**63),
    (DataType.FLOAT, 0.5, 0.5),
    (DataType.BOOLEAN, True, 1.0),
]


@pytest.mark.parametrize(("kind", "value", "row"), NUMBERS)
def test_numbers_and_truth_values_are_readings(
    plant: Plant, kind: DataType, value: Value, row: float
) -> None:
    out = plant.tell(nbirth(metric("x", kind, value, timestamp=T)))
    assert [(r.sensor, r.unit, r.value) for r in out.rows[NODE_HOME]] == [("x", "1", row)]


TABLE = DataSet(("a",), (DataType.DOUBLE,), ((float("nan"),), (None,)))
MOTOR = Template(
    (metric("RPM", DataType.INT8, -1), Metric("odd", datatype=99), Metric("null")),
    (Parameter("p", DataType.INT8, 1), Parameter("q", None, "x")),
    "1",
    "Motor",
    is_definition=False,
)
OTHERS: list[tuple[DataType, Value, Any]] = [
    (DataType.STRING, "auto", "auto"),
    (DataType.DATETIME, T, T),
    (DataType.BYTES, b"\0\1", {"base64": "AAE="}),
    (DataType.DOUBLE_ARRAY, (1.0, float("inf")), [1.0, "inf"]),
    (DataType.DATASET, TABLE, {"columns": ["a"], "types": ["DOUBLE"], "rows": [["nan"], [None]]}),
    (
        DataType.TEMPLATE,
        MOTOR,
        {
            "version": "1",
            "ref": "Motor",
            "definition": False,
            "metrics": [
                {"name": "RPM", "datatype": "INT8", "value": -1},
                {"name": "odd", "datatype": "99", "value": None},
                {"name": "null", "datatype": None, "value": None},
            ],
            "parameters": [
                {"name": "p", "datatype": "INT8", "value": 1},
                {"name": "q", "datatype": None, "value": "x"},
            ],
        },
    ),
]


@pytest.mark.parametrize(("kind", "value", "shown"), OTHERS, ids=lambda each: getattr(each, "name", ""))
def test_any_other_value_is_kept_as_an_event(
    plant: Plant, kind: DataType, value: Value, shown: object
) -> None:
    out = plant.tell(nbirth(metric("Folder/X", kind, value, timestamp=T)))
    [event] = [each for each in out.events[NODE_HOME] if isinstance(each, SparkplugMetric)]
    assert (event.metric, event.datatype, event.value) == ("Folder/X", kind.name, shown)
    assert parse_event(event.to_json()) == event
    assert out.samples["event"] == 1


def test_a_template_s_member_that_is_not_of_its_type_is_shown_as_it_travelled() -> None:
    odd = metric("x", DataType.STRING, "text")
    wrong = Metric("x", datatype=int(DataType.INT8), carried=odd.carried)
    assert plain(Template((wrong,)))["metrics"][0]["value"] == {"string": "text"}


def test_a_value_too_large_for_an_event_is_a_dead_letter(plant: Plant) -> None:
    out = plant.tell(nbirth(metric("x", DataType.STRING, "x" * MAX_EVENT, timestamp=T)))
    assert "as an event: the most is" in reasons(out)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_a_dead_letter(plant: Plant, value: float) -> None:
    out = plant.tell(nbirth(), ndata(1, temp(value)))
    assert reasons(out) == "'Temp' is not finite"
    assert letters(out)[0].payload == ndata(1, temp(value)).raw
    assert out.fates["refused"] == 1


@pytest.mark.parametrize(
    ("at", "said"), [(1, "outside the years"), (T + 10_000_000, "ahead of this clock"), (2**63, "outside")]
)
def test_a_time_far_off_is_a_dead_letter(plant: Plant, at: int, said: str) -> None:
    assert said in reasons(plant.tell(nbirth(), ndata(1, temp(1.0, at=at))))


def test_a_value_with_no_time_at_all_is_a_dead_letter(plant: Plant) -> None:
    bare = made(
        MessageType.NDATA, metric(None, DataType.DOUBLE, 1.0, alias=1, typeless=True), seq=1, sent=None
    )
    assert "has no time" in reasons(plant.tell(nbirth(), bare))


def coded(code: int | None) -> Metric:
    properties = {} if code is None else {"Quality": Property(DataType.INT32, code)}
    return metric(None, DataType.DOUBLE, 1.0, alias=1, timestamp=T, typeless=True, properties=properties)


@pytest.mark.parametrize(
    ("code", "quality"),
    [
        (None, Quality.GOOD),
        (192, Quality.GOOD),
        (0, Quality.BAD),
        (500, Quality.UNCERTAIN),
        (64, Quality.UNCERTAIN),
    ],
)
def test_quality_codes(plant: Plant, code: int | None, quality: Quality) -> None:
    plant.tell(nbirth())
    assert plant.tell(ndata(1, coded(code))).rows[NODE_HOME][0].quality is quality


def test_what_came_after_a_gap_is_at_best_uncertain(plant: Plant) -> None:
    plant.tell(nbirth(), ndata(2, coded(192)), ndata(3, coded(0)))
    out = plant.after(6)
    assert [row.quality for row in out.rows[NODE_HOME]] == [Quality.UNCERTAIN, Quality.BAD]
    [gap] = out.events[NODE_HOME]
    assert isinstance(gap, NodeGap)
    assert (gap.expected, gap.found, gap.missed, out.gaps, out.missed) == (1, 2, 1, 1, 1)
    assert out.commands == [rebirth(NODE, NOW_US)]


def test_nulls_and_transient_values_are_counted_only(plant: Plant) -> None:
    null = metric(None, DataType.DOUBLE, None, alias=1, typeless=True)
    transient = Metric(alias=1, is_transient=True, carried=temp(1.0).carried)
    plant.tell(nbirth())
    out = plant.tell(ndata(1, null), ndata(2, transient), made(MessageType.NDATA, seq=3))
    assert (out.samples["null"], out.samples["transient"], out.fates["ignored"]) == (1, 1, 3)


def test_history_is_counted_apart(plant: Plant) -> None:
    plant.tell(nbirth())
    out = plant.tell(ndata(1, temp(1.0, at=T - 5, historical=True)))
    assert out.samples["historical"] == 1
    assert out.rows[NODE_HOME][0].time_us == (T - 5) * 1000


@pytest.mark.parametrize(
    ("properties", "unit"),
    [
        ({}, "1"),
        ({"engUnit": Property(DataType.STRING, "bar")}, "bar"),
        ({"Engineering Units": Property(DataType.STRING, " °C ")}, "degC"),
        ({"eng_units": Property(None, "")}, "1"),
        ({"engUnit": Property(DataType.STRING, None)}, "1"),
        ({"Quality": Property(DataType.INT32, 0)}, "1"),
    ],
)
def test_units_are_those_of_the_table_in_any_usual_spelling(
    properties: dict[str, Property], unit: str
) -> None:
    assert unit_of(properties) == unit


def test_a_metric_of_unknown_unit_is_refused_once_with_its_birth(plant: Plant) -> None:
    out = plant.tell(nbirth(definition("Good", 1), definition("Odd", 2, unit="furlong")))
    assert reasons(out) == "'Odd' unknown unit 'furlong'"
    assert rows(out) == {"good": 20.0}
    odd = metric(None, DataType.DOUBLE, 1.0, alias=2, timestamp=T, typeless=True)
    out = plant.tell(ndata(1, odd), ndata(2, temp(3.0), odd))
    assert not out.letters
    assert out.samples["refused"] == 2
    assert rows(out) == {"good": 3.0}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("pump-01", "pump-01"),
        ("Folder 1/Metric A", "folder-1-metric-a"),
        ("x" * 40, "x" * 40),
        ("x" * 41, "x" * 31),
        ("温度", "x"),
        ("-", "x"),
    ],
)
def test_names_become_ids_and_those_that_do_not_fit_end_in_a_hash(name: str, kept: str) -> None:
    made_id = fitted(name)
    assert names.is_id(made_id)
    assert made_id == kept or re.fullmatch(rf"{kept}-[0-9a-f]{{8}}", made_id)
    assert (made_id == kept) == (names.slug(name) == kept and kept != "x" and len(name) <= 40)


def test_names_that_differ_only_at_the_end_do_not_meet() -> None:
    assert fitted("x" * 45 + "a") != fitted("x" * 45 + "b")
    assert fitted("温度") != fitted("圧力")


@pytest.mark.parametrize("order", [1, -1])
def test_two_metrics_of_one_id_are_never_merged(plant: Plant, order: int) -> None:
    both = [definition("Temp 1", 1, value=1.0), definition("temp/1", 2, value=2.0)][::order]
    out = plant.tell(nbirth(*both))
    assert reasons(out) == "'temp/1' would be sensor temp-1, which is 'Temp 1'"
    assert rows(out) == {"temp-1": 1.0}


def test_two_nodes_of_one_id_are_never_merged(plant: Plant) -> None:
    twin = NodeId("Plant B", "node.1")
    out = plant.tell(nbirth(), nbirth(node=twin), ndata(1, node=twin))
    said = "Plant B/node.1 would be machine node-1, which is Plant A/Node 1: rename one"
    assert reasons(out) == f"{said}\n{said}"
    assert len(out.rows[NODE_HOME]) == 1
    assert out.fates == {"state": 1, "refused": 2}
    assert not plant.tell(ndeath(node=twin)).events


def test_a_machine_that_an_edge_watches_is_left_to_it() -> None:
    plant = Plant(node_1=("s1", "e1"))
    assert "which edge s1/e1 watches" in reasons(plant.tell(nbirth()))


def test_a_death_is_told_for_the_node_and_its_devices(plant: Plant) -> None:
    out = plant.tell(nbirth(), dbirth(1), ndeath())
    offline = [each for found in out.events.values() for each in found if isinstance(each, NodeOffline)]
    assert {(each.subject, each.reason) for each in offline} == {
        ("node-1", "NDEATH"),
        ("node-1-pump", "NDEATH"),
    }
    assert plant.host.online == 0


def test_a_lost_broker_is_told_and_births_are_asked_for(plant: Plant) -> None:
    plant.tell(nbirth())
    out = Gathered()
    plant.host.lose(plant.turn(), out)
    assert [type(each) for each in out.events[NODE_HOME]] == [NodeOffline]
    assert plant.after(0).commands == [rebirth(NODE, NOW_US)]


def test_a_rebirth_is_asked_for_as_the_specification_says() -> None:
    topic, payload = rebirth(NODE, T * 1000)
    assert topic == "spBv1.0/Plant A/NCMD/Node 1"
    parsed = parse_topic(topic)
    assert getattr(parsed, "kind", None) is MessageType.NCMD
    [ask] = codec.decode(payload).metrics
    [wanted] = codec.decode(golden_bytes("ncmd-rebirth")).metrics
    assert (ask.name, ask.datatype, ask.carried) == (wanted.name, wanted.datatype, wanted.carried)
    assert codec.decode(payload).timestamp == T
    assert codec.decode(payload).seq is None


@pytest.mark.parametrize(
    ("topic", "payload", "announce", "fate"),
    [
        ("spBv1.0/STATE/host-1", b'{"online":false,"timestamp":1}', True, "state"),
        ("spBv1.0/STATE/host-1", b'{"online":true,"timestamp":1}', False, "state"),
        ("spBv1.0/STATE/other", b'{"online":false,"timestamp":1}', False, "state"),
        ("spBv1.0/STATE/host-1", b"OFFLINE", False, "refused"),
    ],
)
def test_a_host_that_is_said_to_be_offline_says_otherwise(
    plant: Plant, topic: str, payload: bytes, *, announce: bool, fate: str
) -> None:
    out = plant.raw((topic, payload))
    assert out.announce is announce
    assert out.fates == {fate: 1}


@pytest.mark.parametrize(
    ("topic", "payload"), [("spBv1.0/g/NDATA", b""), ("spBv1.0/g/NDATA/n", b"\xff"), ("x", b"")]
)
def test_what_is_no_message_is_a_dead_letter(plant: Plant, topic: str, payload: bytes) -> None:
    out = plant.raw((topic, payload))
    assert (letters(out)[0].topic, letters(out)[0].payload) == (topic, payload)
    assert out.fates == {"refused": 1}


def test_a_node_too_many_takes_the_place_of_one_that_is_down_or_is_refused() -> None:
    plant = Plant(Bounds(nodes=2))
    first, second, third = (NodeId("g", each) for each in ("n1", "n2", "n3"))
    plant.tell(nbirth(node=first), nbirth(node=second))
    assert "no room for node g/n3: 2 are up" in reasons(plant.tell(nbirth(node=third)))
    plant.tell(ndata(3, node=second), ndeath(node=second))
    assert plant.tell(nbirth(node=third)).fates == {"state": 1}
    assert plant.tell(ndata(1, node=first)).fates == {"stored": 1}


def test_all_metrics_and_all_that_waits_are_bounded() -> None:
    other = NodeId("g", "n2")
    plant = Plant(Bounds(metrics=4))
    assert "no room for 3 metrics: 1 fit" in reasons(plant.tell(nbirth(), nbirth(node=other)))
    plant.tell(ndeath())
    assert not plant.tell(nbirth(node=other)).letters
    plant = Plant(Bounds(waiting_bytes=100))
    out = plant.tell(nbirth(), *(ndata(n) for n in range(2, 8)))
    assert out.gaps == 1
    assert plant.host.waiting <= 3


def test_names_of_machines_are_bounded(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.sparkplug.names.MAX_HOMES", 1)
    assert "one more than the 1" in reasons(plant.tell(nbirth(), dbirth(1)))


def test_many_faults_are_named_in_one_letter(plant: Plant) -> None:
    odd = [definition(f"m{n}", n, unit="furlong") for n in range(8)]
    [letter] = letters(plant.tell(nbirth(*odd)))
    assert letter.reason.count("furlong") == 5
    assert letter.reason.endswith("and 3 more")


def test_an_unknown_unit_is_rejected_by_name() -> None:
    with pytest.raises(Rejected, match="furlong"):
        unit_of({"unit": Property(DataType.STRING, "furlong")})
