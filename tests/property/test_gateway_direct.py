"""The gateway's columns give what one look at each message gives; and every message is stored or dead-lettered."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.direct_plan import DirectPlanner
from gateway.frames_plan import plan_frames
from gateway.one_row import OneRowFrames, varints
from gateway.port import Arrivals
from gateway.singles import parse_singles
from shared import frame_pb2 as pb
from shared import names
from shared.dead_letter import MAX_PAYLOAD, DeadLetter
from shared.device_json import parse_device
from shared.errors import Rejected
from shared.frame_codec import decode, encode
from shared.frames import Header, Kind, Readings
from shared.names import DeviceTopic
from shared.units import UNITS

NOW_US = 1_800_000_000_000_000
ASSIGNED = {"m1": ("s1", "e1")}
Message = tuple[str, bytes]
Row = tuple[str, str, str, str, int, float, int]
"""Site, machine, sensor, unit, time, value, quality."""

times = (
    st.integers(1_699_999_999_999, 1_700_000_000_001)
    | st.floats(1.6e12, 1.7e12)
    | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
)
strange: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, -1, 2**63, 2**64 - 1, 1e308, "", "NaN", [], {}, 1.5, "ell", 946_684_799_999, 946_684_800_000]
)  # fmt: skip
values = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1)
good = st.fixed_dictionaries(
    {"ts": times, "value": values, "unit": st.sampled_from(sorted(UNITS))},
    optional={"quality": st.sampled_from(["good", "uncertain", "bad"]), "more": strange},
)
usual = st.fixed_dictionaries(
    {"ts": st.integers(1_700_000_000_000, 1_700_000_009_999), "value": values, "unit": st.just("degC")}
)
bad = st.fixed_dictionaries(
    {},
    optional={"ts": times | strange, "value": values | strange, "unit": strange, "quality": strange},
)
objects = usual | good | bad | strange
payloads = (
    objects.map(orjson.dumps)
    | st.lists(objects, max_size=4).map(orjson.dumps)
    | st.binary(max_size=30)
    | st.sampled_from([b'{"ts":1700000000000,"value":1e999,"unit":"1"}', b"x" * (256 * 1024 + 1)])
)
topics = st.sampled_from(
    [
        "plant/s1/x1/temp",
        "plant/s1/x1/flow",
        "plant/s2/x1/temp",
        "plant/s1/x2/temp",
        "plant/s1/m1/temp",
        "plant/s1/m1/A",
        "plant/s1/x1",
        "plant/S/x1/temp",
        "plant/s1/x2/a/b",
        "",
        "\N{REPLACEMENT CHARACTER}",
    ]
) | st.text(max_size=20)
batches = st.lists(st.lists(st.tuples(topics, payloads), max_size=12), max_size=3)
steady = st.lists(
    st.lists(st.tuples(st.sampled_from(["plant/s1/x1/temp", "plant/s1/x2/a"]), usual.map(orjson.dumps)), max_size=30),
    max_size=3,
)  # fmt: skip


def arrivals(batch: Sequence[Message]) -> Arrivals:
    return Arrivals(
        [topic for topic, _ in batch], [payload for _, payload in batch], list(range(len(batch))), 1
    )


def one_by_one(batch: Sequence[Message]) -> tuple[list[Row], list[tuple[str, str, bytes]]]:
    """The readings and the letters (reason, topic, payload) of a batch, as a look at each message tells them."""
    rows: list[Row] = []
    letters = []
    for text, payload in batch:
        parts = text.split("/")
        if len(parts) == 4 and parts[2] in ASSIGNED:
            continue
        try:
            topic = DeviceTopic.parse(text)
            parsed = parse_device(topic, payload, now_us=NOW_US)
        except Rejected as error:
            letters.append((error.reason, text, payload))
            continue
        letters += [(each.reason, text, each.item) for each in parsed.rejects]
        rows += rows_of(topic.site, topic.machine, parsed.readings)
    return rows, letters


def rows_of(site: str, machine: str, readings: Readings) -> list[Row]:
    return [
        (site, machine, readings.sensor_names[sensor], readings.units[sensor], time_us, value, quality)
        for sensor, time_us, value, quality in zip(
            readings.sensor.tolist(),
            readings.time_us.tolist(),
            readings.value.tolist(),
            readings.quality.tolist(),
            strict=True,
        )
    ]


def shown(row: Row) -> tuple[Any, ...]:
    """A row that tells -0.0 from 0.0."""
    return (*row, math.copysign(1.0, row[5]))


def check(sent: Sequence[Sequence[Message]], most_rows: int) -> None:
    planner = DirectPlanner("gateway-1", b"g" * 16, rows=most_rows)
    numbered: Counter[bytes] = Counter()
    for batch in sent:
        plan = planner.plan(arrivals(batch), ASSIGNED, now_us=NOW_US)
        rows: list[Row] = []
        letters = []
        for group in plan.groups:
            assert group.messages == sorted(set(group.messages))
            for record in group.records:
                if group.topic == names.DEAD_LETTER:
                    letter = DeadLetter.decode(record.value)
                    letters.append((letter.reason, letter.topic, record.value))
                    continue
                header, body = decode(record.value)
                assert isinstance(body, Readings)
                assert (group.topic, group.key, header.kind) == (
                    names.SENSOR_READINGS,
                    header.machine,
                    Kind.READINGS,
                )
                assert header.count <= most_rows
                assert header.first == numbered[header.epoch] + 1
                numbered[header.epoch] = header.last
                assert (body.arrival_us == NOW_US).all()
                assert set(range(len(body.sensor_names))) == set(body.sensor.tolist())
                rows += rows_of(header.site, header.machine, body)
        wanted, refused = one_by_one(batch)
        for site, machine in {row[:2] for row in (*wanted, *rows)}:
            assert [shown(row) for row in rows if row[:2] == (site, machine)] == [
                shown(row) for row in wanted if row[:2] == (site, machine)
            ]
        assert Counter((reason, topic) for reason, topic, _ in letters) == Counter(
            (reason[:1000], topic) for reason, topic, _ in refused
        )
        assert len(plan.refusals) == len(letters)
        done = {index for group in plan.groups for index in group.messages}
        left = [index for index in range(len(batch)) if index not in done]
        assert all("/m1/" in batch[index][0] for index in left)


@given(batches, st.sampled_from([1, 3, 1000]))
def test_columns_give_what_one_look_at_each_message_gives(sent: list[list[Message]], most_rows: int) -> None:
    check(sent, most_rows)


@given(steady, st.sampled_from([1, 3, 1000]))
def test_so_does_the_usual_traffic(sent: list[list[Message]], most_rows: int) -> None:
    check(sent, most_rows)


@given(st.lists(payloads, max_size=12))
def test_what_the_columns_take_is_what_a_look_at_each_takes(sent: list[bytes]) -> None:
    singles = parse_singles(sent, NOW_US)
    assert singles.message.tolist() == sorted(set(singles.message.tolist()))
    for index in singles.message.tolist():
        parsed = parse_device(DeviceTopic("s", "m", "x"), sent[index], now_us=NOW_US)
        assert (len(parsed.readings), parsed.rejects, parsed.batch) == (1, (), False)


@given(
    st.lists(
        st.tuples(st.text(max_size=20) | st.sampled_from(["im/v1/s1/e1/frames"]), st.binary(max_size=60))
    )
)
def test_frames_of_any_bytes_are_stored_or_dead_lettered(sent: list[Message]) -> None:
    plan = plan_frames(arrivals(sent), ASSIGNED, gateway="gateway-1", now_us=NOW_US)
    assert sorted(index for group in plan.groups for index in group.messages) == list(range(len(sent)))
    assert sum(len(group.records) for group in plan.groups) == len(sent)


def test_a_payload_that_is_too_long_is_kept_as_its_head() -> None:
    plan = DirectPlanner("gateway-1", bytes(16)).plan(
        arrivals([("plant/s1/x1/temp", b"x" * (1 << 20))]), {}, now_us=NOW_US
    )
    letter = DeadLetter.decode(plan.groups[0].records[0].value)
    assert not letter.whole
    assert letter.size == 1 << 20 > MAX_PAYLOAD


ids = st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True)


@given(
    st.tuples(ids, ids, ids, ids),
    st.sampled_from(sorted(UNITS)),
    st.lists(
        st.tuples(
            st.integers(1, 2**53),
            st.integers(946_684_800_000_000, 4_133_980_799_999_999),
            st.floats(allow_nan=False, allow_infinity=False),
            st.integers(0, 2),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_frames_of_one_row_are_byte_for_byte_what_encode_makes(
    names_: tuple[str, str, str, str], unit: str, rows: list[tuple[int, int, float, int]]
) -> None:
    site, edge, machine, sensor = names_
    frames = OneRowFrames()
    frames.learn(7, Header(site, edge, machine, Kind.READINGS, b"e" * 16, 1, 1), sensor, unit)
    made = frames.encode(
        np.full(len(rows), 7),
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        NOW_US,
        np.array([row[2] for row in rows], np.float64),
        np.array([row[3] for row in rows], np.uint8),
    )
    assert made == [
        encode(
            Header(site, edge, machine, Kind.READINGS, b"e" * 16, first, 1),
            Readings(
                (sensor,),
                (unit,),
                np.zeros(1, np.int64),
                np.array([time_us], np.int64),
                np.array([NOW_US], np.int64),
                np.array([value], np.float64),
                np.array([quality], np.uint8),
            ),
        )
        for first, time_us, value, quality in rows
    ]


@given(st.lists(st.integers(0, 2**53), max_size=20))
def test_varints_are_protobufs(numbers: list[int]) -> None:
    assert varints(np.array(numbers, np.int64)) == [
        pb.Frame(first=number).SerializeToString()[1:] or b"\0" for number in numbers
    ]
