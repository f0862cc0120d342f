"""Sparkplug under any input: the codec gives back what it took, a session answers for every message and never gives a
value to the wrong metric, and the host stores, answers or refuses whatever bytes come on whatever topic."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gateway.sparkplug.gathered import Gathered
from gateway.sparkplug.host import Host, Turn
from gateway.sparkplug.numbering import Numbering
from shared import names
from shared.dead_letter import DeadLetter
from shared.errors import Rejected
from shared.events import parse_event
from shared.frame_codec import decode as decode_frame
from shared.frames import Readings
from shared.sparkplug import codec
from shared.sparkplug import session as sessions
from shared.sparkplug.datatypes import CELLS, DataType, Value, carry, typed
from shared.sparkplug.node import Born, Data, Died, Effect, Gap, Ignored, Message, Refused, Rules, Session
from shared.sparkplug.payload import (
    DataSet,
    MetaData,
    Metric,
    Parameter,
    Payload,
    Property,
    Template,
    metric,
)
from shared.sparkplug.topics import MessageType, NodeTopic, parse_topic
from tests.golden.sparkplug_samples import SAMPLES, golden_bytes
from tests.sparkplug_messages import NODE, T, made, number


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A golden payload with some bytes changed, cut or put in."""
    data = bytearray(golden_bytes(draw(st.sampled_from(sorted(SAMPLES)))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(data)


# Values by type

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
words = st.integers(0, 2**64 - 1)
INTEGERS = {
    DataType.INT8: (8, True),
    DataType.INT16: (16, True),
    DataType.INT32: (32, True),
    DataType.INT64: (64, True),
    DataType.UINT8: (8, False),
    DataType.UINT16: (16, False),
    DataType.UINT32: (32, False),
    DataType.UINT64: (64, False),
    DataType.DATETIME: (64, False),
}
ARRAYS = {
    DataType.INT8_ARRAY: DataType.INT8,
    DataType.INT16_ARRAY: DataType.INT16,
    DataType.INT32_ARRAY: DataType.INT32,
    DataType.INT64_ARRAY: DataType.INT64,
    DataType.UINT8_ARRAY: DataType.UINT8,
    DataType.UINT16_ARRAY: DataType.UINT16,
    DataType.UINT32_ARRAY: DataType.UINT32,
    DataType.UINT64_ARRAY: DataType.UINT64,
    DataType.FLOAT_ARRAY: DataType.FLOAT,
    DataType.DOUBLE_ARRAY: DataType.DOUBLE,
    DataType.BOOLEAN_ARRAY: DataType.BOOLEAN,
    DataType.STRING_ARRAY: DataType.STRING,
    DataType.DATETIME_ARRAY: DataType.DATETIME,
}


def of(kind: DataType) -> st.SearchStrategy[Value]:
    """Values of a type."""
    if kind in INTEGERS:
        bits, signed = INTEGERS[kind]
        low = -(2 ** (bits - 1)) if signed else 0
        return st.integers(low, low + 2**bits - 1)
    if kind in ARRAYS:
        return st.lists(of(ARRAYS[kind]), max_size=10).map(tuple)  # type: ignore[arg-type]
    simple: dict[DataType, st.SearchStrategy[Value]] = {
        DataType.FLOAT: st.floats(width=32, allow_nan=False),
        DataType.DOUBLE: st.floats(allow_nan=False),
        DataType.BOOLEAN: st.booleans(),
        DataType.STRING: texts,
        DataType.TEXT: texts,
        DataType.UUID: st.uuids().map(str),
        DataType.BYTES: st.binary(max_size=20),
        DataType.FILE: st.binary(max_size=20),
        DataType.DATASET: datasets(),
        DataType.TEMPLATE: st.deferred(templates),
    }
    return simple[kind]


cell_types = st.sampled_from(sorted(CELLS))


@st.composite
def datasets(draw: st.DrawFn) -> DataSet:
    types = tuple(draw(st.lists(cell_types, max_size=3)))
    columns = tuple(draw(st.lists(texts, min_size=len(types), max_size=len(types))))
    row = st.tuples(*(st.none() | of(kind) for kind in types))
    return DataSet(columns, types, tuple(draw(st.lists(row, max_size=3))))


@st.composite
def cells(draw: st.DrawFn) -> tuple[DataType, Value]:
    kind = draw(cell_types)
    return kind, draw(of(kind))


properties = st.recursive(
    cells().map(lambda each: Property(each[0], each[1])) | st.just(Property(DataType.STRING, None)),  # type: ignore[arg-type]
    lambda inner: (
        st.dictionaries(texts, inner, max_size=2).map(lambda d: Property(DataType.PROPERTY_SET, d))
        | st.lists(st.dictionaries(texts, inner, max_size=2), max_size=2).map(
            lambda many: Property(DataType.PROPERTY_SET_LIST, tuple(many))
        )
    ),
    max_leaves=4,
)


flat_types = st.sampled_from(sorted(CELLS | set(ARRAYS) | {DataType.DATASET, DataType.UUID}))


@st.composite
def metrics(draw: st.DrawFn, kinds: st.SearchStrategy[DataType] = flat_types) -> Metric:
    kind = draw(kinds)
    null = draw(st.booleans())
    return Metric(
        name=draw(st.none() | texts.filter(bool)),
        alias=draw(st.none() | words),
        timestamp=draw(st.none() | words),
        datatype=draw(st.none() | st.just(int(kind))),
        is_historical=draw(st.booleans()),
        is_transient=draw(st.booleans()),
        is_null=null,
        metadata=draw(
            st.none() | st.builds(MetaData, content_type=texts, size=words, is_multi_part=st.booleans())
        ),
        properties=draw(st.dictionaries(texts, properties, max_size=2)),
        carried=None if null else carry(draw(of(kind)), kind),
    )


def templates() -> st.SearchStrategy[Template]:
    parameter = st.builds(lambda name, each: Parameter(name, each[0], each[1]), texts.filter(bool), cells())
    return st.builds(
        Template,
        metrics=st.lists(metrics(), max_size=2).map(tuple),
        parameters=st.lists(parameter, max_size=2).map(tuple),
        version=st.none() | texts,
        template_ref=st.none() | texts,
        is_definition=st.none() | st.booleans(),
    )


payloads = st.builds(
    Payload,
    timestamp=st.none() | words,
    metrics=st.lists(metrics(st.sampled_from(sorted(DataType)[1:20])), max_size=3).map(tuple),
    seq=st.none() | words,
    uuid=st.none() | texts,
    body=st.none() | st.binary(max_size=10),
)


@given(payloads)
def test_a_payload_comes_back_as_it_went(payload: Payload) -> None:
    assert codec.decode(codec.encode(payload)) == payload


@given(st.sampled_from(sorted(CELLS | set(ARRAYS))).flatmap(lambda kind: st.tuples(st.just(kind), of(kind))))
def test_a_value_comes_back_as_it_went(each: tuple[DataType, Value]) -> None:
    kind, value = each
    assert typed(carry(value, kind), kind) == value


@given(st.binary(max_size=200) | mutated())
def test_any_bytes_are_a_payload_or_rejected(data: bytes) -> None:
    try:
        payload = codec.decode(data)
    except Rejected:
        return
    for each in payload.metrics:
        assert each.fault or each.carried is None or each.carried.value is not None


# A node's sessions over a channel that loses, doubles and swaps


@dataclass(frozen=True)
class Sent:
    """A message and what its value truly is: the metric that its alias means in its session."""

    message: Message
    metric: str = ""
    value: float = 0.0


def history(lengths: list[int], aliases: list[int]) -> list[list[Sent]]:
    """Sessions of one node: births with an alias table of each session's own, data, and the broker's word of its end."""
    told, when, value = [], T, 0.0
    for bd_seq, (length, shift) in enumerate(zip(lengths, aliases, strict=True)):
        by_alias = {alias: f"m{(alias + shift) % 3}" for alias in range(3)}
        defined = (metric(name, DataType.DOUBLE, 0.0, alias=alias) for alias, name in by_alias.items())
        birth = made(MessageType.NBIRTH, number(bd_seq), *defined, seq=0, sent=when)
        session = [Sent(birth)]
        for seq in range(1, length + 1):
            when, value = when + 1, value + 1
            alias = seq % 3
            data = metric(None, DataType.DOUBLE, value, alias=alias, timestamp=when, typeless=True)
            message = made(MessageType.NDATA, data, seq=seq % 256, sent=when)
            session.append(Sent(message, by_alias[alias], value))
        session.append(Sent(made(MessageType.NDEATH, number(bd_seq))))
        told.append(session)
        when += 1
    return told


lengths = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 2)), min_size=1, max_size=4)


@st.composite
def channel(draw: st.DrawFn, sent: list[Sent], *, lossy: bool) -> list[Sent]:
    """What arrives of a session's births and data: doubled and swapped nearby, and if `lossy` with losses."""
    out: list[tuple[float, int, Sent]] = []
    for index, each in enumerate(sent):
        if lossy and draw(st.integers(0, 9)) == 0:
            continue
        late = draw(st.sampled_from([0, 0, 0, 1.5, 3.5])) if index else 0
        out.append((index + late, index, each))
        if draw(st.integers(0, 9)) == 0:
            out.append((index + late + draw(st.integers(1, 5)), index, each))
    return [each for _, _, each in sorted(out, key=lambda item: item[:2])]


def run(arrivals: list[Sent], rules: Rules, *, wait: float) -> list[Effect]:
    """All effects of the arrivals, `wait` seconds apart, and of the time after them."""
    session, now, effects = Session(NODE), 0.0, []
    for each in arrivals:
        now += wait
        session, ticked = sessions.tick(session, now, rules)
        session, came = sessions.receive(session, each.message, now, rules)
        effects += [*ticked, *came]
    session, ticked = sessions.tick(session, now + 100, rules)
    assert not session.waiting
    return [*effects, *ticked]


def answered(effects: list[Effect]) -> Counter[int]:
    """How often each message was answered for."""
    return Counter(
        id(each.message)
        for each in effects
        if isinstance(each, Born | Data | Died | Refused | Ignored) and each.message
    )


@given(lengths, st.data(), st.sampled_from([0.0, 0.1, 2.0]))
def test_every_message_is_answered_for_and_no_value_is_another_metric_s(
    shape: list[tuple[int, int]], data: st.DataObject, wait: float
) -> None:
    story = history([length for length, _ in shape], [shift for _, shift in shape])
    arrivals: list[Sent] = []
    for session in story:
        arrivals += data.draw(channel(session[:-1], lossy=True))
        arrivals.append(session[-1])  # a will is QoS 1: it is not lost
    effects = run(arrivals, Rules(), wait=wait)
    assert answered(effects) == Counter(id(each.message) for each in arrivals)
    truth = {each.value: each.metric for session in story for each in session if each.metric}
    kept = [s for each in effects if isinstance(each, Data) for s in each.contents.samples]
    assert all(truth[float(s.value)] == s.name for s in kept)  # type: ignore[arg-type]


@given(st.integers(0, 600), st.data())
def test_what_only_came_twice_or_in_disorder_is_taken_once_in_order(length: int, data: st.DataObject) -> None:
    [session] = history([length], [0])
    arrivals = data.draw(channel(session[:-1], lossy=False)) if length < 60 else session[:-1]
    effects = run(arrivals, Rules(), wait=0.01)
    kept = [s for each in effects if isinstance(each, Data) for s in each.contents.samples]
    assert [s.value for s in kept] == [float(n) for n in range(1, length + 1)]
    assert not any(s.suspect for s in kept)
    assert not any(isinstance(each, Gap | Refused) for each in effects)


@given(st.sets(st.integers(1, 60), max_size=30))
def test_what_is_missing_is_counted(lost: set[int]) -> None:
    [session] = history([60], [0])
    arrivals = [each for seq, each in enumerate(session[:-1]) if seq not in lost]
    effects = run(arrivals, Rules(), wait=10.0)
    last = max((seq for seq in range(1, 61) if seq not in lost), default=0)
    assert sum(each.missed for each in effects if isinstance(each, Gap)) == len([n for n in lost if n < last])


# The host under any bytes on any topic

topics = st.one_of(
    st.sampled_from([str(NodeTopic(NODE, kind, "d" if kind.of_device else "")) for kind in MessageType]),
    st.sampled_from(["spBv1.0/STATE/h", "spBv1.0/STATE/x", "spBv1.0/g/NDATA", "spBv1.0", "a/b"]),
    st.text(max_size=20),
    st.builds("spBv1.0/{}/{}/{}".format, texts, st.sampled_from(sorted(MessageType)), texts),
)


messages = st.lists(
    st.tuples(topics, mutated() | payloads.map(codec.encode) | st.binary(max_size=60)), max_size=12
)


@given(messages)
def test_the_host_stores_answers_or_refuses_whatever_comes(heard: list[tuple[str, bytes]]) -> None:
    host, out, numbering = Host("h", "gateway-1", Rules()), Gathered(), Numbering("gateway-1", bytes(16))
    for seconds, (topic, payload) in enumerate(heard):
        host.message(topic, payload, Turn((T + 1000) * 1000, float(seconds)), out)
        host.tick(Turn((T + 1000) * 1000, float(seconds)), out)
    host.lose(Turn((T + 1000) * 1000, 1000.0), out)
    assert sum(out.fates.values()) == len(heard)
    for write in out.writes(numbering, (T + 1000) * 1000):
        for record in write.records:
            match write.topic:
                case names.SENSOR_READINGS:
                    body = decode_frame(record.value)[1]
                    assert isinstance(body, Readings)
                    assert np.isfinite(body.value).all()
                case names.MACHINE_EVENTS:
                    parse_event(record.value)
                case names.DEAD_LETTER:
                    DeadLetter.decode(record.value)
    for topic, payload in out.commands:
        assert isinstance(parse_topic(topic), NodeTopic)
        codec.decode(payload)
