"""Dead letters without I/O: ids, filters, what became of each, where one may go; and pages of any log."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.deadletters.logic import (
    MAX_REQUESTS,
    RESEND_US,
    Fates,
    Letter,
    Place,
    Wanted,
    decide,
    dropped,
    replay_from_us,
    replayed,
    route,
    topic_matches,
)
from cloud.deadletters.reading import Letters
from shared import names
from shared.dead_letter import MAX_PAYLOAD, DeadLetter
from shared.errors import Conflict, Rejected
from shared.eventlog import EventLog, Position, Stored
from shared.events import EdgeStarted, Event, at, parse_event

ASSIGNED = {"pump-1": ("s1", "e1")}
EDGES = {names.HEADER_SITE: "s1", names.HEADER_EDGE: "e1", names.HEADER_ROW: "7"}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def letter(topic: str, payload: bytes = b"x", **more: Any) -> Letter:  # noqa: ANN401 - fields
    made = DeadLetter.of(
        more.get("reason", "no"), topic, payload, source="s", received_us=5, position=more.get("position")
    )
    return Letter(
        Place("0", 1), "pump-1", more.get("time_us", 9), more.get("headers", {}), more.get("made", made)
    )


def test_an_id_is_its_place() -> None:
    assert str(Place.parse("3-17")) == "3-17"
    for text in ("", "17", "0-", "-1", "a-1", "0-1-2", "0-" + "9" * 30, "0-٣"):
        with pytest.raises(Rejected):
            Place.parse(text)


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("plant/+/pump-1/#", "plant/s1/pump-1/temp", True),
        ("plant/+/pump-1/#", "plant/s1/pump-1", True),
        ("plant/+/pump-1/+", "plant/s1/pump-1", False),
        ("plant/+/pump-1", "plant/s1/pump-1/temp", False),
        ("#", "sensor-readings", True),
        ("scores", "sensor-readings", False),
    ],
)
def test_topics_match_as_in_mqtt(pattern: str, topic: str, matches: bool) -> None:  # noqa: FBT001 - a case
    assert topic_matches(pattern, topic) is matches


def test_a_filter_asks_for_all_that_it_names() -> None:
    found = letter("plant/s1/pump-1/t", reason="Unknown Unit 'ell'", time_us=100)
    fates = Fates()
    assert Wanted().accepts(found, None)
    assert Wanted(reason="unknown unit", topic="plant/#", source="s", since_us=100).accepts(found, None)
    for wanted in (
        Wanted(reason="NaN"),
        Wanted(topic="im/#"),
        Wanted(source="e1"),
        Wanted(since_us=101),
    ):
        assert not wanted.accepts(found, None)
    fates.take(dropped(found.place, "test", by="cli", at=NOON, request="r"))
    fate = fates.letters[found.place]
    assert not Wanted().accepts(found, fate)
    assert Wanted(handled=True).accepts(found, fate)


handlings = st.lists(
    st.builds(
        lambda kind, offset, second, request: (
            replayed(Place("0", offset), "mqtt", "plant/a/b/c", by="cli", at=at(second), request=request)
            if kind
            else dropped(Place("0", offset), "why", by="cli", at=at(second), request=request)
        ),
        st.booleans(),
        st.integers(1, 4),
        st.integers(0, 5),
        st.sampled_from(["", "k1", "k2", "k3"]),
    ),
    max_size=12,
)


@given(handlings, st.data())
def test_the_fold_is_unchanged_by_events_told_twice_in_any_order(
    events: Sequence[Event], data: st.DataObject
) -> None:
    once, twice = Fates(), Fates()
    for event in events:
        once.take(event)
    again = data.draw(st.lists(st.sampled_from(events), max_size=6)) if events else []
    for event in (*data.draw(st.permutations(events)), *again):
        twice.take(parse_event(event.to_json()))
    assert twice.letters == once.letters
    assert twice.requests.keys() == once.requests.keys()


def test_a_decision_is_taken_once_a_request_and_once_a_letter() -> None:
    fates, place = Fates(), Place("0", 1)
    assert decide(fates, "replayed", place, "k", again=False)
    fates.take(replayed(place, "log", "scores", by="cli", at=NOON, request="k"))
    fates.take(EdgeStarted(source="e", subject="e", occurred_at=NOON, epoch="0", software="1"))
    assert not decide(fates, "replayed", place, "k", again=False)
    with pytest.raises(Conflict, match="something else"):
        decide(fates, "dropped", place, "k", again=True)
    with pytest.raises(Conflict, match="replayed by cli already"):
        decide(fates, "dropped", place, "new", again=False)
    assert decide(fates, "replayed", place, "new", again=True)


def test_requests_that_are_remembered_are_bounded() -> None:
    fates = Fates()
    for number in range(MAX_REQUESTS + 5):
        fates.take(dropped(Place("0", number), "", by="cli", at=NOON, request=f"k{number}"))
    assert len(fates.requests) == MAX_REQUESTS
    assert "k4" not in fates.requests


def test_an_input_goes_where_it_came_from() -> None:
    assert route(letter("plant/s1/pump-1/t"), {}) == "mqtt"
    assert route(letter("plant/s1/pump-1/t", headers=EDGES), ASSIGNED) == "mqtt"
    assert route(letter("im/v1/s1/e1/frames", headers={**EDGES, names.HEADER_ROWS: "20"}), {}) == "mqtt"
    assert route(letter("spBv1.0/g/NDATA/n"), {}) == "mqtt"
    long = b"x" * (MAX_PAYLOAD + 1)
    assert route(letter(names.SCORES, long, position={"0": 4}), {}) == "log"


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (letter("plant/s1/pump-1/t", b"x" * (MAX_PAYLOAD + 1)), "only the first 4096 of its 65537 bytes"),
        (letter("im/v1/s1/e1/frames", headers=EDGES), "an edge's letter of a machine"),
        (letter("plant/s1/other/t", headers=EDGES), "an edge's letter of a machine"),
        (letter("plant/s2/pump-1/t", headers=EDGES), "an edge's letter of a machine"),
        (letter(names.SCORES, position={"0": 4}, headers=EDGES), "where in the log"),
        (letter(names.SCORES), "where in the log"),
        (letter(names.MODELS, position={"0": 4}), "nobody takes"),
        (letter("plant"), "nobody takes"),
        (letter("spBv1.0/g/NCMD/n"), "nobody takes"),
        (letter("spBv1.0/STATE/h"), "nobody takes"),
        (letter("plant/s1/" + "m" * 2000 + "/t"), "nobody takes"),
        (letter("plant/s1/+/t"), "no topic to publish on"),
        (Letter.of(Stored(names.DEAD_LETTER, "k", b"garbage", {}, "0", 3, 9)), "nobody takes"),
    ],
)
def test_what_can_not_go_back_says_why(found: Letter, why: str) -> None:
    with pytest.raises(Rejected, match=why):
        route(found, ASSIGNED)


def test_only_the_gateways_letters_must_be_old_to_show_a_second_refusal() -> None:
    frames = letter("im/v1/s1/e1/frames", headers={**EDGES, names.HEADER_ROWS: "20"}, time_us=9)
    assert replay_from_us(frames, "mqtt") == 9 + RESEND_US
    assert replay_from_us(letter("plant/s1/x/t", time_us=9), "mqtt") == 9 + RESEND_US
    assert replay_from_us(letter("plant/s1/pump-1/t", headers=EDGES), "mqtt") == 0
    assert replay_from_us(letter(names.SCORES, position={"0": 4}), "log") == 0


@dataclass
class ListedLog:
    """Dead letters of several partitions: offsets rise, with holes and a missing front, and with time."""

    records: Sequence[Stored]

    async def end(self, _: str) -> Position:
        return {
            part: max(r.offset for r in self.records if r.partition == part)
            for part in sorted({r.partition for r in self.records})
        }

    async def read(self, _: str, start: Position) -> AsyncIterator[Stored]:
        for record in self.records:
            if record.offset > start.get(record.partition, 0):
                yield record


def listed(places: Sequence[tuple[int, int]]) -> EventLog:
    offsets: dict[int, int] = {}
    records = []
    for time_us, (partition, step) in enumerate(places, start=1):
        offsets[partition] = offsets.get(partition, 0) + step
        value = DeadLetter.of("r", "t", b"", source="s", received_us=time_us).encode()
        records.append(Stored(names.DEAD_LETTER, "k", value, {}, str(partition), offsets[partition], time_us))
    found: Any = ListedLog(records)
    log: EventLog = found
    return log


@given(
    places=st.lists(st.tuples(st.integers(0, 2), st.sampled_from([1, 1, 1, 2, 40])), max_size=40),
    limit=st.integers(1, 12),
    modulus=st.integers(1, 3),
    stretch=st.sampled_from([1, 2, 5, 300]),
)
async def test_pages_have_each_letter_once_and_each_partition_newest_first(
    places: list[tuple[int, int]], limit: int, modulus: int, stretch: int
) -> None:
    log = listed(places)
    wanted = [n for n in range(1, len(places) + 1) if n % modulus == 0]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cloud.deadletters.reading._STRETCHES", (stretch, 4 * stretch))
        patched.setattr("cloud.deadletters.reading.MAX_SCANNED", 2 * stretch)
        found: list[Letter] = []
        before: dict[str, int] = {}
        for _ in range(2000):
            page = await Letters(log).page(lambda one: one.time_us % modulus == 0, before, limit)
            assert len(page.letters) <= limit
            found += page.letters
            before = dict(page.before)
            if not before:
                break
        else:
            pytest.fail("it never ends")
    assert sorted(one.time_us for one in found) == wanted
    for part in {one.place.partition for one in found}:
        offsets = [one.place.offset for one in found if one.place.partition == part]
        assert offsets == sorted(offsets, reverse=True)
    if len({one.place.partition for one in found}) == 1:
        assert [one.time_us for one in found] == wanted[::-1]


async def test_a_page_since_a_time_looks_at_no_more_than_it_must() -> None:
    log = listed([(0, 1)] * 1000)
    page = await Letters(log).page(lambda one: one.time_us >= 990, {}, 50, since_us=990)
    assert [one.time_us for one in page.letters] == list(range(1000, 989, -1))
    assert (page.before, page.scanned) == ({}, 256)
