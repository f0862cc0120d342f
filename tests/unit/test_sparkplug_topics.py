"""Sparkplug's topics: the grammar, what may not stand in an id, what a host listens to, and its STATE."""

import pytest

from shared.errors import Rejected
from shared.sparkplug.state import HostState
from shared.sparkplug.topics import (
    MessageType,
    NodeId,
    NodeTopic,
    StateTopic,
    check_sparkplug_id,
    host_filters,
    parse_topic,
)

NODE = NodeId("Plant A", "Node.1")


@pytest.mark.parametrize("kind", MessageType)
def test_topics_of_every_type_are_written_and_read(kind: MessageType) -> None:
    topic = NodeTopic(NODE, kind, "Pump" if kind.of_device else "")
    assert parse_topic(str(topic)) == topic
    assert str(topic).split("/")[:4] == ["spBv1.0", "Plant A", kind.value, "Node.1"]


def test_a_device_is_named_where_the_type_is_a_device_s_and_nowhere_else() -> None:
    for kind in MessageType:
        wrong = f"spBv1.0/g/{kind}/n" + ("" if kind.of_device else "/d")
        with pytest.raises(Rejected, match="names"):
            parse_topic(wrong)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "spBv1.0",
        "spAv1.0/g/NBIRTH/n",
        "spbv1.0/g/NBIRTH/n",
        "spBv1.0/g/NBIRTH",
        "spBv1.0/g/nbirth/n",
        "spBv1.0/g/OTHER/n",
        "spBv1.0/g/DDATA/n/d/e",
        "spBv1.0//NBIRTH/n",
        "spBv1.0/g/NBIRTH/",
        "spBv1.0/g/DBIRTH/n/",
        "spBv1.0/STATE",
        "spBv1.0/STATE/",
        "spBv1.0/STATE/NBIRTH/n",
        "spBv1.0/g/NBIRTH/a+b",
        "spBv1.0/g#/NBIRTH/n",
        "spBv1.0/g/NBIRTH/\N{REPLACEMENT CHARACTER}",
        f"spBv1.0/{'g' * 201}/NBIRTH/n",
    ],
)
def test_any_other_topic_is_refused(topic: str) -> None:
    with pytest.raises(Rejected):
        parse_topic(topic)


def test_ids_are_case_sensitive() -> None:
    assert parse_topic("spBv1.0/g/NDATA/N") != parse_topic("spBv1.0/g/NDATA/n")


def test_a_device_id_may_be_that_of_another_node_s_device() -> None:
    first, second = parse_topic("spBv1.0/g/DDATA/n1/pump"), parse_topic("spBv1.0/g/DDATA/n2/pump")
    assert isinstance(first, NodeTopic)
    assert isinstance(second, NodeTopic)
    assert first.device == second.device
    assert first.node != second.node


def test_a_host_listens_to_its_own_state_first_and_then_to_births_deaths_and_data() -> None:
    filters = host_filters("Host 1")
    assert filters[0] == str(StateTopic("Host 1")) == "spBv1.0/STATE/Host 1"
    assert parse_topic(filters[0]) == StateTopic("Host 1")
    heard = {"NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH", "DDATA"}
    assert set(filters[1:]) == {f"spBv1.0/+/{kind}/#" for kind in heard}


def test_a_host_s_id_follows_the_same_rule() -> None:
    assert check_sparkplug_id("Host 1", "host") == "Host 1"
    with pytest.raises(Rejected, match="host"):
        check_sparkplug_id("a/b", "host")


@pytest.mark.parametrize("online", [True, False])
def test_state_is_json_with_online_and_timestamp(*, online: bool) -> None:
    state = HostState(online, 1_700_000_000_000)
    assert state.encode() == b'{"online":%b,"timestamp":1700000000000}' % str(online).lower().encode()
    assert HostState.decode(state.encode()) == state


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"ONLINE",
        b"[]",
        b"{}",
        b'{"online":1,"timestamp":1}',
        b'{"online":true}',
        b'{"online":true,"timestamp":true}',
        b'{"online":true,"timestamp":-1}',
        b'{"online":true,"timestamp":"1"}',
        b"\xff",
    ],
)
def test_any_other_state_is_refused(payload: bytes) -> None:
    with pytest.raises(Rejected, match="STATE"):
        HostState.decode(payload)
