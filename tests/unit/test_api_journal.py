"""What is news, what is kept of it, and what a reader is told."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.api import journal as module
from cloud.api.journal import EVENTS, MESSAGE_POINTS, SERIES_POINTS, Journal
from shared.errors import Rejected
from shared.frames import Readings, Scores

NOW = 1_000_000_000


def rows(*times: int, sensors: int = 1, arrival: int = NOW, unit: str = "bar") -> Readings:
    """One row of each sensor at each time; the value is the time."""
    time_us = np.repeat(np.array(times, np.int64), sensors)
    return Readings(
        tuple(f"s{n}" for n in range(sensors)),
        (unit,) * sensors,
        np.tile(np.arange(sensors), len(times)),
        time_us,
        np.full(len(time_us), arrival),
        time_us.astype(np.float64),
        np.zeros(len(time_us), np.uint8),
    )


def scored(times: list[int], score: list[float]) -> Scores:
    n = len(times)
    empty = np.empty((n, 0))
    return Scores(
        "m", "ab", 2.0, (), np.array(times, np.int64), np.array(score, np.float32), np.zeros(n, np.uint8),
        empty.astype(np.float32), empty,
    )  # fmt: skip


def event(kind: str = "limit.crossed", **data: Any) -> bytes:  # noqa: ANN401 - JSON
    return orjson.dumps({"type": kind, "data": data})


def told(journal: Journal, start: Any, *machines: str) -> Any:  # noqa: ANN401 - JSON
    news = journal.since(start, machines)
    return orjson.loads(orjson.dumps([news.readings, news.scores, news.events])), news.skipped


def test_only_newer_rows_are_news() -> None:
    journal = Journal()
    start = journal.cursor()
    assert journal.take_readings("m", rows(100, 200))
    assert not journal.take_readings("m", rows(50, 150, 200))
    assert journal.take_readings("m", rows(300, 250))
    assert told(journal, start) == ([{"m": {"s0": [[100, 100, 0], [200, 200, 0], [250, 250, 0], [300, 300, 0]]}}, {}, []], 0)  # fmt: skip
    assert not journal.since(journal.cursor())


def test_what_the_edge_has_shown_is_no_news_after_a_restart() -> None:
    journal = Journal()
    journal.show("m", "s0", 500)
    assert not journal.take_readings("m", rows(400, 500))
    assert journal.take_readings("m", rows(600))
    journal.show("m", "s0", 900)  # the log knows better by now
    assert journal.take_readings("m", rows(700))


def test_a_clock_that_was_ahead_and_is_set_right_does_not_silence_its_sensor() -> None:
    journal = Journal()
    assert journal.take_readings("m", rows(NOW + 600_000_000, arrival=NOW))
    assert journal.take_readings("m", rows(NOW + 1, arrival=NOW + 1))


def test_the_newest_of_a_series_are_told_and_the_others_counted() -> None:
    journal = Journal()
    start = journal.cursor()
    journal.take_readings("m", rows(*range(1, 201)))
    journal.take_scores("m", scored(list(range(1, 101)), [1.0] * 100))
    (readings, scores, _), skipped = told(journal, start)
    assert [time for time, _, _ in readings["m"]["s0"]] == list(range(151, 201))
    assert [time for time, _, _ in scores["m"]] == list(range(51, 101))
    assert skipped == 300 - 2 * SERIES_POINTS


def test_a_message_is_bounded() -> None:
    journal = Journal()
    start = journal.cursor()
    for machine in ("a", "b"):
        journal.take_readings(machine, rows(*range(1, 41), sensors=100))
    (readings, _, _), skipped = told(journal, start)
    points = [len(series) for machine in readings.values() for series in machine.values()]
    assert sum(points) == MESSAGE_POINTS
    assert skipped == 2 * 40 * 100 - MESSAGE_POINTS
    assert readings["b"]["s99"][-1] == [40, 40, 0]


def test_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SERIES", 2)
    journal = Journal()
    start = journal.cursor()
    assert journal.take_readings("m", rows(1, sensors=3))
    assert not journal.take_readings("n", rows(1))
    assert set(told(journal, start)[0][0]["m"]) == {"s0", "s1"}


def test_unscored_windows_are_no_points() -> None:
    journal = Journal()
    start = journal.cursor()
    assert not journal.take_scores("m", scored([1], [np.nan]))
    assert journal.take_scores("m", scored([2, 3], [np.nan, 0.5]))
    assert not journal.take_scores("m", scored([1, 3], [0.1, 0.2]))
    assert told(journal, start)[0][1] == {"m": [[3, 0.5, 2.0]]}


def test_a_reader_hears_of_its_machines_alone() -> None:
    journal = Journal()
    start = journal.cursor()
    for name in ("a", "b"):
        journal.take_readings(name, rows(1))
        journal.take_event(name, event(of=name))
    (readings, _, events), skipped = told(journal, start, "b")
    assert (set(readings), [e["data"]["of"] for e in events], skipped) == ({"b"}, ["b"], 0)


def test_events_are_bounded_in_number_and_size() -> None:
    journal = Journal()
    start = journal.cursor()
    for number in range(EVENTS + 5):
        journal.take_event("m", event(number=number))
    journal.take_event("m", event(text="x" * 20_000))
    journal.take_event("m", event("model.registered", model="n", manifest={"large": 1}))
    (_, _, events), _ = told(journal, start)
    assert len(events) == EVENTS
    assert events[0]["data"] == {"number": 7}
    assert events[-2] == {"type": "limit.crossed"}
    assert events[-1]["data"] == {"model": "n"}


@pytest.mark.parametrize("value", [b"{half", b"[1]", b"{}", b'{"type": "model.registered"}'])
def test_what_is_no_event_is_rejected(value: bytes) -> None:
    with pytest.raises(Rejected):
        Journal().take_event("m", value)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(1, 60)), max_size=30))
def test_every_row_of_news_is_told_or_counted_once(steps: list[tuple[bool, int, int]]) -> None:
    journal, cursor, newest, came, heard = Journal(), Journal().cursor(), -1, 0, 0
    for asks, back, count in steps:
        first = max(0, newest - back + 1)
        times = range(first, first + count)
        came += sum(time > newest for time in times)
        newest = max(newest, times[-1])
        journal.take_readings("m", rows(*times))
        if asks:
            news = journal.since(cursor)
            cursor = journal.cursor()
            heard += len(news.readings.get("m", {}).get("s0", [])) + news.skipped
    news = journal.since(cursor)
    assert came == heard + len(news.readings.get("m", {}).get("s0", [])) + news.skipped
