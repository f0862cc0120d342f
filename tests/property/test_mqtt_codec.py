"""Our MQTT codec against paho's bytes, the standard's examples, and any bytes at all."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, cast

import paho.mqtt.client as mqtt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.mqtt import packets
from gateway.mqtt.inbox import Inbox
from gateway.mqtt.packets import Level, Malformed
from gateway.mqtt.properties import read_properties, read_varint, varint
from gateway.mqtt.stream import MOST_BYTES, Stream
from gateway.port import Will

LEVELS: tuple[Level, Level] = (4, 5)
PROTOCOLS = {4: mqtt.MQTTv311, 5: mqtt.MQTTv5}

levels = st.sampled_from(LEVELS)
texts = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0+#"), min_size=1, max_size=20
)
payloads = st.builds(lambda part, times: part * times, st.binary(max_size=20), st.integers(0, 1000))
ids = st.integers(1, 0xFFFF)


class Paho(mqtt.Client):
    """paho, whose packets go nowhere but into `sent`."""

    def __init__(self, level: Level, client_id: str = "c", *, clean: bool = True) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id,
            clean_session=None if level == 5 else clean,
            protocol=PROTOCOLS[level],
        )
        self.sent = b""
        self._sock = cast("Any", object())  # as if connected
        self._clean_start = clean

    def _packet_queue(
        self,
        command: int,
        packet: bytes | bytearray,
        mid: int,
        qos: int,
        info: mqtt.MQTTMessageInfo | None = None,
    ) -> MQTTErrorCode:
        del command, mid, qos, info
        self.sent += bytes(packet)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _sock_close(self) -> None:
        self._sock = None


@given(levels, texts, payloads, st.integers(0, 0xFFFF), st.tuples(st.booleans(), st.booleans()))
def test_publish_is_pahos(
    level: Level, topic: str, payload: bytes, packet_id: int, flags: tuple[bool, bool]
) -> None:
    paho = Paho(level)
    retain, dup = flags[0], flags[1] and packet_id > 0
    paho._send_publish(packet_id, topic.encode(), payload, int(packet_id > 0), retain, dup)
    assert packets.publish(topic, payload, level, packet_id=packet_id, retain=retain, dup=dup) == paho.sent


@given(
    level=levels,
    client_id=texts,
    clean=st.booleans(),
    keepalive=st.integers(0, 0xFFFF),
    username=st.just("") | texts,
    password=texts,
    will=st.none() | st.builds(Will, texts, payloads, st.integers(0, 1), st.booleans()),
    receive_maximum=ids,
    session_seconds=st.integers(0, 2**32 - 1),
)
def test_connect_is_pahos(
    *,
    level: Level,
    client_id: str,
    clean: bool,
    keepalive: int,
    username: str,
    password: str,
    will: Will | None,
    receive_maximum: int,
    session_seconds: int,
) -> None:
    paho = Paho(level, client_id, clean=clean)
    if username:
        paho.username_pw_set(username, password)
    if will is not None:
        paho.will_set(will.topic, will.payload, will.qos, will.retain)
    if level == 5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0 if clean else session_seconds
        properties.ReceiveMaximum = receive_maximum
        paho._connect_properties = properties
    paho._send_connect(keepalive)
    assert paho.sent == packets.connect(
        client_id,
        level,
        clean=clean,
        keepalive=keepalive,
        username=username,
        password=password,
        will=will,
        receive_maximum=receive_maximum,
        session_seconds=session_seconds,
    )


@given(st.lists(ids, min_size=1, max_size=50), st.lists(st.tuples(texts, st.integers(0, 1)), min_size=1))
def test_acknowledgements_and_subscriptions_are_pahos(
    packet_ids: list[int], filters: list[tuple[str, int]]
) -> None:
    paho = Paho(4)
    for each in packet_ids:
        paho._send_puback(each)
    assert packets.pubacks(packet_ids) == paho.sent
    paho.sent = b""
    paho._last_mid = 6
    paho._send_subscribe(False, [(each.encode(), qos) for each, qos in filters])
    assert packets.subscribe(7, filters, 4) == paho.sent


def test_the_standards_examples() -> None:
    # MQTT 3.1.1, figure 3.6 (CONNECT's variable header) and 3.24 (SUBSCRIBE), 5.0 sections 3.12 to 3.14.
    head = packets.connect("", 4, clean=True, keepalive=10, username="u", password="p")
    assert head[2:12] == bytes([0, 4, *b"MQTT", 4, 0xC2, 0, 10])
    assert packets.subscribe(10, [("a/b", 1), ("c/d", 2)], 4)[2:] == b"\0\x0a\0\x03a/b\x01\0\x03c/d\x02"
    assert packets.subscribe(10, [("a/b", 1)], 5) == b"\x82\x09\0\x0a\0\0\x03a/b\x01"
    assert bytes([0xC0, 0]) == packets.PINGREQ
    assert packets.disconnect(4) == packets.disconnect(5) == bytes([0xE0, 0])
    assert packets.pubacks([0x0102]) == bytes([0x40, 2, 1, 2])
    with pytest.raises(ValueError, match="65535"):
        packets.publish("x" * 65_536, b"", 4)


@pytest.mark.parametrize(
    ("number", "coded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (16_383, "ff7f"), (16_384, "808001"), (268_435_455, "ffffff7f")],
)
def test_variable_byte_integers_are_the_standards(number: int, coded: str) -> None:  # MQTT 5.0, table 1-1
    assert varint(number).hex() == coded
    assert read_varint(bytes.fromhex(coded), 0) == (number, len(coded) // 2)


def test_an_integer_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="four bytes"):
        read_varint(b"\xff\xff\xff\xff\x01", 0)
    with pytest.raises(ValueError, match="does not fit"):
        varint(268_435_456)


def test_a_servers_answers_are_read() -> None:
    assert packets.read_connack(b"\x01\x00", 4).session_present
    refused = packets.read_connack(b"\x00\x05", 4)
    assert (refused.code, refused.reason) == (5, "not authorized")
    # keep alive 60, no shared subscriptions, reason "no", a user property
    said = bytes.fromhex("13003c2a001f00026e6f26000161000162")
    answer = packets.read_connack(b"\x00\x87" + varint(len(said)) + said, 5)
    assert (answer.code, answer.keepalive, answer.shares) == (0x87, 60, False)
    assert answer.reason == "not authorized: no"
    assert packets.read_connack(b"\0\x01", 5).code == packets.UNSUPPORTED_VERSION[5]
    assert packets.read_puback(b"\x01\x02", 4) == (0x0102, "")
    assert packets.read_puback(b"\x01\x02\x10", 5) == (0x0102, "")  # no matching subscribers: fine
    assert packets.read_puback(b"\x01\x02\x97\x00", 5) == (0x0102, "quota exceeded")
    assert packets.read_suback(b"\0\x01\x01\x80", 4) == (1, ["", "refused"])
    assert packets.read_suback(b"\0\x01\0\x9e\0", 5) == (1, ["shared subscriptions not supported", ""])
    assert packets.read_disconnect(b"\x8e", 5).startswith("session taken over")
    assert packets.read_disconnect(b"", 5) == "good-bye"


@pytest.mark.parametrize(
    "read",
    [
        lambda: packets.read_connack(b"\x00", 4),
        lambda: packets.read_connack(b"\x02\x00", 4),
        lambda: packets.read_connack(b"\x00\x00\x05\x11", 5),
        lambda: packets.read_connack(b"\x00\x00\x02\x7f\x00", 5),
        lambda: packets.read_connack(b"\x00\x00\x01\x1f", 5),
        lambda: packets.read_connack(b"\x00\x00\x02\x13\x00", 5),
        lambda: packets.read_puback(b"\x01", 4),
        lambda: packets.read_puback(b"\x01\x02\x00", 4),
        lambda: packets.read_suback(b"\x01\x02", 4),
        lambda: packets.read_disconnect(b"", 4),
    ],
)
def test_answers_of_another_shape_are_malformed(read: Callable[[], object]) -> None:
    with pytest.raises(Malformed):
        read()


def test_every_kind_of_property_is_passed_over() -> None:
    data = bytes.fromhex("0b8001080001612600016b00017611000000ff01012101f4")
    found = read_properties(varint(len(data)) + data, 0)
    assert found.numbers == {0x11: 255, 0x01: 1, 0x21: 500}
    assert found.end == len(data) + 1


def run(work: Callable[[], None]) -> None:
    """The inbox needs a loop to wake its taker on."""

    async def within() -> None:
        work()

    asyncio.run(within())


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    marks = sorted({place % (len(data) + 1) for place in places})
    for start, stop in zip([0, *marks], [*marks, len(data)], strict=True):
        yield data[start:stop]


published = st.tuples(
    texts, payloads, st.integers(0, 0xFFFF), st.booleans(), st.binary(max_size=20).map(lambda part: part * 10)
)


@settings(deadline=None)
@given(levels, st.lists(published, max_size=5), st.lists(st.integers(0, 10**6), max_size=8))
def test_messages_come_out_wherever_their_bytes_are_cut(
    level: Level, sent: list[tuple[str, bytes, int, bool, bytes]], places: list[int]
) -> None:
    data = b""
    for topic, payload, packet_id, dup, content_type in sent:
        paho = Paho(level)
        properties = None
        if level == 5 and content_type:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = content_type
        paho._send_publish(
            packet_id,
            topic.encode(),
            payload,
            int(packet_id > 0),
            False,
            dup and packet_id > 0,
            None,
            properties,
        )
        data += paho.sent + b"\xd0\x00" + b"\x40\x02\x00\x09"

    def work() -> None:
        inbox, others = Inbox(10), list[tuple[int, bytes]]()
        stream = Stream(inbox, lambda head, body: others.append((head, body)), level)
        for chunk in cut(data, places):
            stream.feed(chunk)
        assert inbox.topics == [topic for topic, *_ in sent]
        assert inbox.payloads == [payload for _, payload, *_ in sent]
        assert inbox.handles == [packet_id for _, _, packet_id, *_ in sent]
        assert inbox.received == len(sent)
        assert others == [(packets.PINGRESP, b""), (packets.PUBACK, b"\0\x09")] * len(sent)

    run(work)


@settings(deadline=None)
@given(
    levels,
    st.binary(max_size=300) | st.binary(max_size=60).map(lambda tail: b"\x32" + tail),
    st.lists(st.integers(0, 300), max_size=3),
)
def test_any_bytes_are_taken_or_malformed(level: Level, data: bytes, places: list[int]) -> None:
    def work() -> None:
        inbox = Inbox(10)
        stream = Stream(inbox, lambda *_: None, level)
        try:
            for chunk in cut(data, places):
                stream.feed(chunk)
        except Malformed:
            pass
        assert len(inbox.topics) == len(inbox.payloads) == len(inbox.handles)

    run(work)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("36050001610001", "QoS 2"),
        ("32050001610000", "packet id 0"),
        ("32ffffffffff", "four bytes"),
        ("300400096162", "beyond it"),
        ("3003000078", "no topic"),
        ("3203000161", "beyond it"),
        ("90ffff7f", "control packet"),
    ],
)
def test_what_no_server_may_send_is_named(data: str, why: str) -> None:
    def work() -> None:
        with pytest.raises(Malformed, match=why):
            Stream(Inbox(10), lambda *_: None, 4).feed(bytes.fromhex(data))

    run(work)


def test_a_topic_that_is_not_utf8_is_still_a_message() -> None:
    def work() -> None:
        inbox = Inbox(10)
        Stream(inbox, lambda *_: None, 4).feed(b"\x32\x06\0\x01\xff\0\x05x")
        assert (inbox.topics, inbox.payloads, inbox.handles) == (["\N{REPLACEMENT CHARACTER}"], [b"x"], [5])

    run(work)


@pytest.mark.parametrize("chunk", [1000, 65_536, 10**8])
def test_a_message_beyond_all_bounds_arrives_with_its_head_and_the_next_one_whole(chunk: int) -> None:
    huge = packets.publish("t", b"x" * (3 * MOST_BYTES), 4, packet_id=1)
    data = huge + packets.publish("t", b"next", 4, packet_id=2)

    def work() -> None:
        inbox = Inbox(10)
        stream = Stream(inbox, lambda *_: None, 4)
        for at in range(0, len(data), chunk):
            stream.feed(data[at : at + chunk])
        assert inbox.handles == [1, 2]
        assert inbox.payloads[1] == b"next"
        if chunk < len(data):
            assert MOST_BYTES - 100 < len(inbox.payloads[0]) < MOST_BYTES + 2 * chunk

    run(work)
