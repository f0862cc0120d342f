import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import names
from shared.errors import (
    Conflict,
    IndustrialMindError,
    Misconfigured,
    NotFound,
    Rejected,
    Unavailable,
)
from shared.names import DeviceTopic, UplinkTopic, check_id, is_id, slug, slugs


@pytest.mark.parametrize("text", ["a", "0", "pump-01", "a-", "a" * 40, "7-of-9"])
def test_ids(text: str) -> None:
    assert check_id(text) == text
    assert is_id(text)


@pytest.mark.parametrize("text", ["", "-a", "A", "a_b", "a b", "a/b", "a" * 41, "pump\n", "ü", "+", "a.b"])
def test_what_is_no_id_is_rejected_by_name(text: str) -> None:
    assert not is_id(text)
    with pytest.raises(Rejected, match=r"machine .* is not an id") as caught:
        check_id(text, "machine")
    assert caught.value.reason == str(caught.value)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("Accelerometer1RMS", "accelerometer1rms"),
        ("Volume Flow RateRMS", "volume-flow-raterms"),
        ("  T [°C] ", "t-c"),
        ("???", "x"),
        ("a" * 39 + " b", "a" * 39),
    ],
)
def test_slug(text: str, made: str) -> None:
    assert slug(text) == made


def test_slugs_tell_colliding_names_apart() -> None:
    long = "a" * 45
    assert slugs(["T 1", "t-1", "T_1", long, long + "b"]) == [
        "t-1",
        "t-1-2",
        "t-1-3",
        "a" * 40,
        "a" * 38 + "-2",
    ]


def test_a_made_suffix_does_not_collide_with_a_real_name() -> None:
    assert slugs(["a", "a-2", "a", "a"]) == ["a", "a-2", "a-3", "a-4"]


@given(st.lists(st.text(max_size=50), max_size=20))
def test_slugs_are_ids_and_differ(texts: list[str]) -> None:
    made = slugs(texts)
    assert all(is_id(text) for text in made)
    assert len(set(made)) == len(texts)


def test_device_topic() -> None:
    topic = DeviceTopic.parse("plant/s1/pump-01/flow")
    assert topic == DeviceTopic("s1", "pump-01", "flow")
    assert str(topic) == "plant/s1/pump-01/flow"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plant",
        "plant/s1/pump",
        "plant/s1/p/s/wave",
        "Plant/s1/p/s",
        "plant/S1/p/s",
        "plant/s1//s",
        "im/v1/s/e",
    ],
)
def test_other_topics_are_no_device_topics(text: str) -> None:
    with pytest.raises(Rejected):
        DeviceTopic.parse(text)


@pytest.mark.parametrize("channel", ["frames", "urgent", "acks"])
def test_uplink_topic(channel: str) -> None:
    topic = UplinkTopic.parse(f"im/v1/s1/edge-1/{channel}")
    assert (topic.site, topic.edge, topic.channel) == ("s1", "edge-1", channel)
    assert str(topic) == f"im/v1/s1/edge-1/{channel}"


@pytest.mark.parametrize("text", ["im/v2/s/e/frames", "im/v1/s/e/other", "im/v1/s/E/acks", "im/v1/s/e"])
def test_other_topics_are_no_uplink_topics(text: str) -> None:
    with pytest.raises(Rejected):
        UplinkTopic.parse(text)


def test_bucket_names_carry_the_edge() -> None:
    assert names.desired_bucket("e1") == "desired-e1"
    assert names.reported_bucket("e1") == "reported-e1"
    assert names.direct_edge(2) == "gateway-2"


def test_errors_say_what_the_caller_does() -> None:
    assert Unavailable("away").retry_after == 1.0
    assert Unavailable("away", retry_after=7).retry_after == 7
    assert str(Misconfigured("no such log", hint="use nats://")) == "no such log\n  hint: use nats://"
    for error in (Unavailable, Rejected, Conflict, NotFound, Misconfigured):
        assert issubclass(error, IndustrialMindError)
