"""Devices' JSON: exact times, limits, and a reason for all that is not accepted."""

import numpy as np
import orjson
import pytest

from shared.device_json import MAX_BATCH, MAX_PAYLOAD, parse_device
from shared.errors import Rejected
from shared.frames import Quality
from shared.names import DeviceTopic

TOPIC = DeviceTopic("s1", "pump-01", "inlet-pressure")
NOW_US = 1_800_000_000_000_000
GOOD = {"ts": 1_700_000_000_000, "value": 1.5, "unit": "bar", "quality": "good"}


def one(**changed: object) -> bytes:
    return orjson.dumps({key: value for key, value in {**GOOD, **changed}.items() if value is not ...})


def reason_of(payload: bytes) -> str:
    parsed = parse_device(TOPIC, payload, now_us=NOW_US)
    assert len(parsed.readings) == 0
    (reject,) = parsed.rejects
    assert reject.index == 0
    return reject.reason


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        (b"1700000000123", 1_700_000_000_123_000),
        (b"1700000000123.456", 1_700_000_000_123_456),
        (b"1700000000123.999", 1_700_000_000_123_999),
        (b"1.7e12", 1_700_000_000_000_000),
        (b"946684800000", 946_684_800_000_000),
        (b'"2023-11-14T22:13:20.123456Z"', 1_700_000_000_123_456),
        (b'"2023-11-14t22:13:20z"', 1_700_000_000_000_000),
        (b'"2023-11-14 23:13:20.5+01:00"', 1_700_000_000_500_000),
        (b'"2023-11-14T22:13:20.1234569Z"', 1_700_000_000_123_456),
        (b"1800000600000", 1_800_000_600_000_000),
    ],
)
def test_times_are_exact_microseconds(ts: bytes, expected: int) -> None:
    parsed = parse_device(TOPIC, b'{"ts":%s,"value":1,"unit":"bar"}' % ts, now_us=NOW_US)
    assert parsed.rejects == ()
    assert parsed.readings.time_us.tolist() == [expected]
    assert parsed.readings.arrival_us.tolist() == [NOW_US]


def test_every_microsecond_of_a_float_is_kept() -> None:
    for at_ms in (946_684_800_000, 1_700_000_000_000, 1_799_999_999_998):
        expected = [at_ms * 1000 + us for us in range(1000)]
        text = ",".join(f'{{"ts":{us // 1000}.{us % 1000:03d},"value":1,"unit":"1"}}' for us in expected)
        parsed = parse_device(TOPIC, f"[{text}]".encode(), now_us=NOW_US)
        assert parsed.readings.time_us.tolist() == expected


def test_a_single_reading() -> None:
    parsed = parse_device(TOPIC, one(quality="bad"), now_us=NOW_US)
    assert not parsed.batch
    assert parsed.readings.sensor_names == ("inlet-pressure",)
    assert parsed.readings.units == ("bar",)
    assert parsed.readings.value.tolist() == [1.5]
    assert parsed.readings.quality.tolist() == [Quality.BAD]


def test_quality_is_good_unless_said_and_more_keys_are_ignored() -> None:
    parsed = parse_device(TOPIC, one(quality=..., serial="x"), now_us=NOW_US)
    assert parsed.readings.quality.tolist() == [Quality.GOOD]


def test_a_batch_keeps_its_good_items_and_names_the_others() -> None:
    items = [GOOD, {**GOOD, "unit": "ell"}, {**GOOD, "value": 7, "unit": "kPa"}, "x", {**GOOD, "value": 3}]
    parsed = parse_device(TOPIC, orjson.dumps(items), now_us=NOW_US)
    assert parsed.batch
    assert parsed.readings.value.tolist() == [1.5, 7.0, 3.0]
    units = np.array(parsed.readings.units)[parsed.readings.sensor]
    assert units.tolist() == ["bar", "kPa", "bar"]
    assert [reject.index for reject in parsed.rejects] == [1, 3]
    assert parsed.rejects[0].reason == "unknown unit 'ell'"
    assert orjson.loads(parsed.rejects[0].item) == items[1]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (one(ts=...), "there is no ts"),
        (one(ts=True), "ts is true, not a time"),
        (one(ts=[1]), "ts is [1], not a time"),
        (one(ts="yesterday"), 'ts "yesterday" is not RFC 3339'),
        (one(ts="2023-11-14T22:13:20"), "is not RFC 3339 with its offset"),
        (one(ts="2023-02-30T22:13:20Z"), "is no time"),
        (one(ts="2023-11-14T22:13:60Z"), "is no time"),
        (one(ts="0001-01-01T00:00:00+23:59"), "outside the years 2000 to 2100"),
        (one(ts=946_684_799_999), "outside the years 2000 to 2100"),
        (one(ts=4_133_980_800_000), "outside the years 2000 to 2100"),
        (one(ts=-1e300), "outside the years 2000 to 2100"),
        (one(ts=2**64 - 1), "outside the years 2000 to 2100"),
        (one(ts=1_800_000_600_001), "more than 10 min ahead"),
        (one(value=...), "there is no value"),
        (one(value=None), "value is null, not a number"),
        (one(value="1.5"), 'value is "1.5", not a number'),
        (one(value=True), "value is true, not a number"),
        (one(value={"x": "y" * 100}), "not a number"),
        (one(unit=...), "there is no unit"),
        (one(unit=["bar"]), 'unit is ["bar"], not a text'),
        (one(unit="furlong"), "unknown unit 'furlong'"),
        (one(quality="fine"), 'quality is "fine"'),
        (one(quality=[]), "quality is []"),
        (b"3", "a reading is an object, not 3"),
        (b"null", "a reading is an object, not null"),
    ],
)
def test_reasons(payload: bytes, reason: str) -> None:
    assert reason in reason_of(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"ts":1700000000000,"value":NaN,"unit":"bar"}',
        b'{"ts":1700000000000,"value":Infinity,"unit":"bar"}',
        b"[]",
        b"[" * 2000,
        b"[" + b",".join([b"1"] * (MAX_BATCH + 1)) + b"]",
        b" " * (MAX_PAYLOAD + 1),
    ],
)
def test_unreadable_payloads_are_rejected_as_a_whole(payload: bytes) -> None:
    with pytest.raises(Rejected):
        parse_device(TOPIC, payload, now_us=NOW_US)


def test_a_number_too_large_for_a_float_never_becomes_a_reading() -> None:
    payload = b'{"ts":1700000000000,"value":1e999,"unit":"bar"}'
    try:
        parsed = parse_device(TOPIC, payload, now_us=NOW_US)
    except Rejected:
        return
    assert len(parsed.readings) == 0
