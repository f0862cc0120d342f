"""Whatever a plant publishes: a mapped message is readings, a dead letter, or rightly passed over; never a crash."""

import contextlib
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.mapping.schema import parse_mapping
from shared.errors import Misconfigured
from shared.frame_codec import decode_body, encode_body
from shared.frames import Kind
from tests.mapping_messages import at_work, message, taken
from tests.unit.test_mapping import FLAT, KEPWARE, NESTED, TEXTS, TIMED

ALL = (
    "version: 1\nrules:\n"
    + "".join(
        text.split("rules:\n", 1)[1]
        for text in (TIMED, NESTED, KEPWARE, TEXTS, FLAT.replace("factory/", "flat/"))
    )
    + "sparkplug: [{group: g, node: n, machine: m1}]\n"
)
TOPICS = [
    "factory/l1/press3/temperature",
    "plant2/mixer-7/telemetry",
    "iotgateway/press3",
    "old/m1/csv",
    "old/m1/state",
    "old/m1/temp",
    "flat/l1/press3/pressure",
    "spBv1.0/g/NBIRTH/n",
    "spBv1.0/g/NDATA/n",
]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["21,5", "2023-11-14T22:13:20Z", "°C", "ON", 1_700_000_000, 1_700_000_000_000, 192, "good"]
    )
)
KEYS = st.sampled_from(
    ["v", "t", "q", "u", "timestamp", "data", "temp", "value", "unit", "rpm", "raw/adc", "values", "id"]
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=25,
)


def as_json(value: Any) -> bytes:  # noqa: ANN401
    try:
        return orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return repr(value).encode("utf-8", "replace")


@settings(max_examples=300)
@given(
    topic=st.sampled_from(TOPICS) | st.text(max_size=30),
    payload=JSON.map(as_json)
    | st.binary(max_size=60)
    | st.text(max_size=30).map(lambda text: text.encode("utf-8", "replace")),
    retain=st.booleans(),
)
def test_any_message_is_readings_or_a_dead_letter(topic: str, payload: bytes, *, retain: bool) -> None:
    out = taken(at_work(ALL), message(topic, payload, retain=retain))
    assert sum(out.fates.values()) == 1
    assert out.fates["refused"] == 0 or out.letters
    assert out.rows or out.letters or out.fates["ignored"] or out.fates["state"]
    for rows in out.rows.values():
        readings = rows.readings()
        assert len(decode_body(Kind.READINGS, encode_body(readings))) == len(readings)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "version",
                        "rules",
                        "topic",
                        "machine",
                        "sensors",
                        "time",
                        "at",
                        "as",
                        "unit",
                        "sparkplug",
                        "name",
                    ]
                )
                | st.text(max_size=4),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    ).map(lambda data: orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS).decode())
    | st.text(max_size=80)
)
def test_any_file_is_a_mapping_or_misconfigured(text: str) -> None:
    with contextlib.suppress(Misconfigured):
        parse_mapping(text)
