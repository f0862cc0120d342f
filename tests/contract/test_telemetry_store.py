"""What every telemetry store promises; each backend runs the same suite."""

import asyncio
from itertools import pairwise

import numpy as np
import pytest

from cloud.telemetry.port import (
    DAY_US,
    END_US,
    MINUTE_US,
    Entry,
    EventFact,
    Retention,
    Source,
    TelemetryStore,
    open_store,
)
from shared.checksum import HOUR_US
from shared.errors import Misconfigured, Unavailable
from shared.eventlog import Stored
from shared.frames import Aggregates, Header, Kind, Readings, Scores, ScoreState
from shared.names import DEAD_LETTER, MACHINE_EVENTS, SCORES, SENSOR_READINGS
from tests.contract.store_backends import Opening

E1 = b"1" * 16
E2 = b"2" * 16
T0 = 1_750_000_000_000_000


def header(kind: Kind, first: int, count: int, *, epoch: bytes = E1, machine: str = "pump-1") -> Header:
    return Header("s1", "edge-1", machine, kind, epoch, first, count)


def stored(topic: str, offset: int) -> Stored:
    return Stored(topic, "pump-1", b"", {}, "0", offset, T0)


def readings(rows: list[tuple[str, int, float]], *, arrival: int = T0, unit: str = "degC") -> Readings:
    """Rows of (sensor, time, value)."""
    names = tuple(sorted({name for name, _, _ in rows}))
    return Readings(
        names,
        (unit,) * len(names),
        np.array([names.index(name) for name, _, _ in rows], np.int64),
        np.array([at for _, at, _ in rows], np.int64),
        np.full(len(rows), arrival, np.int64),
        np.array([value for _, _, value in rows], np.float64),
        np.zeros(len(rows), np.uint8),
    )


def frame(
    first: int,
    rows: list[tuple[str, int, float]],
    *,
    epoch: bytes = E1,
    arrival: int = T0,
    unit: str = "degC",
    machine: str = "pump-1",
) -> Entry:
    return Entry(
        stored(SENSOR_READINGS, first),
        header(Kind.READINGS, first, len(rows), epoch=epoch, machine=machine),
        readings(rows, arrival=arrival, unit=unit),
    )


async def values(store: TelemetryStore, sensor: str = "t1") -> list[tuple[int, float]]:
    found = await store.readings("pump-1", sensor, 0, END_US, 1000)
    return list(zip(found.time_us.tolist(), found.value.tolist(), strict=True))


async def test_what_is_written_is_read_back(store: TelemetryStore) -> None:
    result = await store.write([frame(1, [("t1", T0, 1.5), ("p1", T0, 7.0), ("t1", T0 + 1000, 2.5)])])
    assert (result.rows, result.duplicates, result.conflicts) == (3, 0, 0)
    assert await values(store) == [(T0, 1.5), (T0 + 1000, 2.5)]
    assert [(s.machine, s.sensor, s.unit) for s in await store.series()] == [
        ("pump-1", "p1", "degC"),
        ("pump-1", "t1", "degC"),
    ]
    assert [(x.sensor, x.value, x.time_us) for x in await store.latest("pump-1")] == [
        ("p1", 7.0, T0),
        ("t1", 2.5, T0 + 1000),
    ]
    ranges = (await store.stored_ranges())[Source("edge-1", E1)]
    assert list(ranges.stored) == [(1, 3)]
    assert await store.positions() == {SENSOR_READINGS: {"0": 1}}


async def test_the_same_record_again_changes_nothing(store: TelemetryStore) -> None:
    entry = frame(1, [("t1", T0, 1.5)])
    await store.write([entry])
    result = await store.write([entry, entry])
    assert (result.rows, result.redelivered, result.duplicates) == (0, 2, 0)
    assert await values(store) == [(T0, 1.5)]
    assert (await store.counters())[Source("edge-1", E1)].redelivered == 2


async def test_the_same_reading_under_another_row_is_a_duplicate(store: TelemetryStore) -> None:
    result = await store.write([frame(1, [("t1", T0, 1.5)]), frame(2, [("t1", T0, 1.5)])])
    assert (result.rows, result.duplicates, result.conflicts) == (1, 1, 0)
    assert (await store.counters())[Source("edge-1", E1)].duplicates == 1
    assert await store.conflicts() == []


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ({"arrival": T0}, {"arrival": T0 + 1}, 2.0),
        ({"arrival": T0 + 1}, {"arrival": T0}, 1.0),
        ({"epoch": E1}, {"epoch": E2}, 2.0),
        ({"epoch": E2}, {"epoch": E1}, 1.0),
        ({}, {}, 2.0),
    ],
)
async def test_of_two_values_the_highest_arrival_epoch_and_row_wins(
    store: TelemetryStore, first: dict[str, int], second: dict[str, int], kept: float
) -> None:
    result = await store.write(
        [
            frame(5, [("t1", T0, 1.0)], **first),  # type: ignore[arg-type]
            frame(6, [("t1", T0, 2.0)], **second),  # type: ignore[arg-type]
        ]
    )
    assert (result.rows, result.conflicts) == (1, 1)
    assert await values(store) == [(T0, kept)]
    [conflict] = await store.conflicts()
    assert (conflict.machine, conflict.sensor, conflict.time_us) == ("pump-1", "t1", T0)
    assert {conflict.kept_value, conflict.lost_value} == {1.0, 2.0}
    assert conflict.kept_value == kept


async def test_two_values_within_one_frame_are_a_conflict(store: TelemetryStore) -> None:
    result = await store.write([frame(1, [("t1", T0, 1.0), ("t1", T0, 2.0), ("t1", T0, 2.0)])])
    assert (result.rows, result.conflicts, result.duplicates) == (1, 1, 1)
    assert await values(store) == [(T0, 2.0)]


async def test_only_the_new_rows_of_an_overlapping_range_count(store: TelemetryStore) -> None:
    await store.write([frame(2, [("t1", T0 + 2, 2.0)])])
    result = await store.write([frame(1, [("t1", T0 + 1, 1.0), ("t1", T0 + 2, 99.0), ("t1", T0 + 3, 3.0)])])
    assert (result.rows, result.redelivered) == (2, 1)
    assert await values(store) == [(T0 + 1, 1.0), (T0 + 2, 2.0), (T0 + 3, 3.0)]
    assert list((await store.stored_ranges())[Source("edge-1", E1)].stored) == [(1, 3)]


async def test_a_change_of_unit_keeps_one_history(store: TelemetryStore) -> None:
    await store.write([frame(1, [("t1", T0, 20.0)]), frame(2, [("t1", T0 + 1, 68.0)], unit="degF")])
    found = await store.readings("pump-1", "t1", 0, END_US, 10)
    assert [found.units[i] for i in found.unit] == ["degC", "degF"]
    assert [s.unit for s in await store.series("pump-1")] == ["degF"]
    assert await store.count("pump-1") == 2
    assert await store.count("nobody") == 0
    same_value_other_unit = await store.write([frame(3, [("t1", T0, 20.0)], unit="K")])
    assert same_value_other_unit.conflicts == 1


async def test_ranges_merge_in_any_order_and_rejected_rows_stand_apart(store: TelemetryStore) -> None:
    for first in (3, 1, 7, 2):
        await store.write([frame(first, [("t1", T0 + first, 1.0)])])
    rejected = Entry(stored(DEAD_LETTER, 1), header(Kind.REJECT, 4, 1), None)
    result = await store.write([rejected, rejected])
    assert (result.rejected, result.redelivered) == (1, 1)
    ranges = (await store.stored_ranges("edge-1"))[Source("edge-1", E1)]
    assert list(ranges.stored) == [(1, 3), (7, 7)]
    assert list(ranges.rejected) == [(4, 4)]
    assert await store.stored_ranges("edge-2") == {}


async def test_events_are_found_by_machine_type_time_and_order(store: TelemetryStore) -> None:
    facts = [
        EventFact("a", "anomaly.started", "pump-1", T0 + 1, b"{}"),
        EventFact("b", "anomaly.ended", "pump-1", T0 + 3, b"{}"),
        EventFact("c", "edge.started", "fan-1", T0 + 2, b"{}"),
    ]
    entries = [Entry(stored(MACHINE_EVENTS, n), header(Kind.EVENT, n, 1), f) for n, f in enumerate(facts, 1)]
    assert (await store.write(entries)).rows == 3
    without_edge = Entry(stored(MACHINE_EVENTS, 4), None, facts[0])
    assert (await store.write([without_edge])).duplicates == 1
    assert [e.fact.id for e in await store.events()] == ["b", "c", "a"]
    assert [e.fact.id for e in await store.events("pump-1")] == ["b", "a"]
    assert [e.fact.id for e in await store.events(types=["edge.started", "anomaly.ended"])] == ["b", "c"]
    assert [e.fact.id for e in await store.events(since_us=T0 + 2, limit=1)] == ["b"]
    assert [e.fact.id for e in await store.events(after_seq=1)] == ["b", "c"]
    [newest, *rest] = await store.events()
    assert await store.events(before=(newest.fact.occurred_us, newest.seq)) == rest
    assert await store.events(before=(rest[-1].fact.occurred_us, rest[-1].seq)) == []
    assert await store.events(before=(newest.fact.occurred_us, 0)) == [
        e for e in rest if e.fact.occurred_us < newest.fact.occurred_us
    ]


async def test_scores_keep_their_columns_by_version(store: TelemetryStore) -> None:
    def scored(version: str, score: float, at: int) -> Scores:
        return Scores(
            "pca",
            version,
            3.5,
            ("t1", "p1"),
            np.array([at], np.int64),
            np.array([score], np.float32),
            np.array([1], np.uint8),
            np.array([[0.25, 0.75]], np.float32),
            np.array([[20.0, np.nan]], np.float64),
        )

    entries = [
        Entry(stored(SCORES, 1), header(Kind.SCORES, 1, 1), scored("aa", 4.0, T0)),
        Entry(stored(SCORES, 2), header(Kind.SCORES, 2, 1), scored("bb", 5.0, T0)),
        Entry(stored(SCORES, 3), header(Kind.SCORES, 3, 1), scored("bb", np.nan, T0 + 1)),
        Entry(stored(SCORES, 4), header(Kind.SCORES, 4, 1), scored("bb", np.nan, T0 + 1)),
        Entry(stored(SCORES, 5), header(Kind.SCORES, 5, 1), scored("bb", 6.0, T0)),
    ]
    result = await store.write(entries)
    assert (result.rows, result.duplicates, result.conflicts) == (3, 1, 1)
    found = {s.version_hash: s for s in await store.scores("pump-1", 0, END_US, 10)}
    assert found["aa"].sensor_names == ("t1", "p1")
    assert found["aa"].limit == 3.5
    assert found["bb"].score.tolist()[0] == 6.0
    assert np.isnan(found["bb"].score[1])
    assert found["bb"].contribution.tolist() == [[0.25, 0.75]] * 2
    assert np.isnan(found["bb"].expected[0, 1])
    [newest] = await store.scores("pump-1", 0, END_US, 1, newest=True)
    assert newest.time_us.tolist() == [T0 + 1]


async def test_a_curve_of_scores_shows_nothing_of_a_model_on_trial(store: TelemetryStore) -> None:
    def scored(version: str, score: float, state: ScoreState) -> Scores:
        return Scores(
            "pca",
            version,
            3.5,
            ("t1",),
            np.array([T0], np.int64),
            np.array([score], np.float32),
            np.array([state], np.uint8),
            np.ones((1, 1), np.float32),
            np.zeros((1, 1), np.float64),
        )

    entries = [
        Entry(stored(SCORES, 1), header(Kind.SCORES, 1, 1), scored("aa", 4.0, ScoreState.MAINTENANCE)),
        Entry(stored(SCORES, 2), header(Kind.SCORES, 2, 1), scored("bb", 9.0, ScoreState.SHADOW)),
    ]
    await store.write(entries)
    trend = await store.score_trend("pump-1", 0, END_US, 10)
    assert trend.score.tolist() == [4.0]
    found = {s.version_hash: s for s in await store.scores("pump-1", 0, END_US, 10)}
    assert found["aa"].state.tolist() == [ScoreState.MAINTENANCE]
    assert found["bb"].state.tolist() == [ScoreState.SHADOW]
    assert found["bb"].score.tolist() == [9.0]


async def test_aggregates_are_kept_by_bucket_and_width(store: TelemetryStore) -> None:
    def bucket(width: int, mean: float) -> Aggregates:
        one = np.array([mean])
        return Aggregates(
            ("t1",),
            ("degC",),
            width,
            np.zeros(1, np.int64),
            np.array([T0]),
            np.array([7]),
            one - 1,
            one + 1,
            one,
        )

    entries = [
        Entry(stored(SENSOR_READINGS, 1), header(Kind.AGGREGATE, 1, 1), bucket(10, 5.0)),
        Entry(stored(SENSOR_READINGS, 2), header(Kind.AGGREGATE, 2, 1), bucket(60, 6.0)),
        Entry(stored(SENSOR_READINGS, 3), header(Kind.AGGREGATE, 3, 1), bucket(10, 5.5)),
    ]
    result = await store.write(entries)
    assert (result.rows, result.conflicts) == (2, 1)
    found = await store.aggregates("pump-1", "t1", T0, T0 + 1)
    assert [(a.width_us, a.mean.tolist(), a.rows.tolist()) for a in found] == [
        (10, [5.5], [7]),
        (60, [6.0], [7]),
    ]
    assert await store.latest("pump-1") == []


@pytest.mark.parametrize("chunk", [1, 7, 100_000])
async def test_history_comes_in_bounded_chunks_that_never_split_a_time(
    store: TelemetryStore, chunk: int
) -> None:
    rows = [("t1", T0 + 10 * i, float(i)) for i in range(50)] + [
        ("p1", T0 + 70 * i, -float(i)) for i in range(10)
    ]
    await store.write([frame(1, rows)])
    parts = [part async for part in store.columns("pump-1", chunk=chunk)]
    assert all(len(part) <= max(chunk, 2) for part in parts)
    seen = [
        (part.sensors[s], t, v)
        for part in parts
        for s, t, v in zip(part.sensor.tolist(), part.time_us.tolist(), part.value.tolist(), strict=True)
    ]
    assert sorted(seen) == sorted(rows)
    assert [t for _, t, _ in seen] == sorted(t for _, t, _ in rows)
    for before, after in pairwise(parts):
        assert before.time_us[-1] < after.time_us[0]
    assert [len(p) async for p in store.columns("pump-1", ["p1", "none"], T0 + 70, T0 + 140)] == [1]
    assert [p async for p in store.columns("fan-1")] == []


async def test_readings_give_the_first_or_the_last_of_a_range(store: TelemetryStore) -> None:
    await store.write([frame(1, [("t1", T0 + i, float(i)) for i in range(10)])])
    first = await store.readings("pump-1", "t1", T0 + 2, T0 + 9, 3)
    last = await store.readings("pump-1", "t1", T0 + 2, T0 + 9, 3, newest=True)
    assert first.value.tolist() == [2.0, 3.0, 4.0]
    assert last.value.tolist() == [6.0, 7.0, 8.0]
    assert len(await store.readings("pump-1", "none", 0, END_US, 3)) == 0


async def test_it_is_all_there_after_reopening(opening: Opening) -> None:
    async with opening() as store:
        await store.write([frame(1, [("t1", T0, 1.0)])])
    async with opening() as store:
        assert await values(store) == [(T0, 1.0)]
        assert (await store.write([frame(1, [("t1", T0, 1.0)])])).redelivered == 1


async def test_conflicts_are_settled_across_a_restart(opening: Opening) -> None:
    async with opening() as store:
        await store.write([frame(1, [("t1", T0, 1.0)], epoch=E2)])
    async with opening() as store:
        assert (await store.write([frame(1, [("t1", T0, 2.0)], epoch=E1)])).conflicts == 1
        assert await values(store) == [(T0, 1.0)]


async def test_a_cancelled_write_is_whole_or_absent_and_may_come_again(opening: Opening) -> None:
    entries = [frame(1 + 500 * n, [("t1", T0 + 500 * n + i, 1.0) for i in range(500)]) for n in range(20)]
    async with opening() as store:
        task = asyncio.create_task(store.write(entries))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.write(entries)
        assert len(await store.readings("pump-1", "t1", 0, END_US, 20_000)) == 10_000
        assert list((await store.stored_ranges())[Source("edge-1", E1)].stored) == [(1, 10_000)]


async def test_a_snapshot_does_not_see_later_writes(store: TelemetryStore) -> None:
    await store.write([frame(1, [("t1", T0, 1.0)])])
    async with store.snapshot() as then:
        await store.write([frame(2, [("t1", T0 + HOUR_US, 2.0)])])
        assert sum([len(p) async for p in then.columns("pump-1")]) == 1
        assert await then.positions() == {SENSOR_READINGS: {"0": 1}}
    assert len(await values(store)) == 2


async def test_one_writes_and_others_read(opening: Opening) -> None:
    with pytest.raises(Unavailable):
        async with opening(read_only=True):
            pass
    async with opening() as store, opening(read_only=True) as reader:
        await store.write([frame(1, [("t1", T0, 1.0)])])
        assert await values(reader) == [(T0, 1.0)]
        with pytest.raises(Misconfigured):
            await reader.write([frame(2, [("t1", T0, 1.0)])])
        if opening.one_writer:
            with pytest.raises(Unavailable):
                async with opening():
                    pass


async def test_an_unknown_scheme_is_misconfigured() -> None:
    with pytest.raises(Misconfigured):
        async with open_store("mongodb://host/db"):
            pass


async def test_a_curve_leaves_no_reading_out(store: TelemetryStore) -> None:
    rows = [("t1", T0 + n, float(n % 7)) for n in range(100)] + [("p1", T0, 1.0)]
    await store.write([frame(1, rows)])
    p1, t1 = await store.trends("pump-1", None, 0, END_US, 10)
    assert (p1.sensor, p1.rows, p1.downsampled, p1.value.tolist()) == ("p1", 1, False, [1.0])
    assert (t1.sensor, t1.unit, t1.rows, t1.downsampled) == ("t1", "degC", 100, True)
    assert t1.time_us.tolist() == [T0 + n for n in range(9, 100, 10)]
    assert t1.value.sum() * 10 == pytest.approx(sum(n % 7 for n in range(100)))
    assert (t1.minimum.tolist(), t1.maximum.tolist()) == ([0.0] * 10, [6.0] * 10)
    [whole] = await store.trends("pump-1", ["t1"], T0, T0 + 100, 100)
    assert (whole.downsampled, whole.value.tolist()) == (False, [float(n % 7) for n in range(100)])
    assert whole.value.tolist() == whole.minimum.tolist() == whole.maximum.tolist()
    [empty] = await store.trends("pump-1", ["t1"], 0, T0, 10)
    assert (empty.rows, len(empty.value)) == (0, 0)
    assert await store.trends("pump-2", None, 0, END_US, 10) == []


async def test_a_curve_is_finite_where_its_sum_is_not(store: TelemetryStore) -> None:
    await store.write([frame(1, [("t1", T0 + n, 1.5e308) for n in range(10)])])
    [found] = await store.trends("pump-1", ["t1"], 0, END_US, 2)
    assert found.value.tolist() == [1.5e308, 1.5e308]


M0 = T0 // HOUR_US * HOUR_US
SECOND = 1_000_000


async def expire_all(store: TelemetryStore, retention: Retention, now_us: int) -> int:
    removed = 0
    while piece := await store.expire(retention, now_us):
        removed += piece
    return removed


async def test_minutes_and_hours_are_kept_with_the_readings(store: TelemetryStore) -> None:
    rows = [("t1", M0 + 10 * SECOND * n, float(n)) for n in range(12)] + [("p1", M0 + HOUR_US, 7.0)]
    await store.write([frame(1, rows)])
    p1, t1 = await store.rollups("pump-1", None, MINUTE_US, 0, END_US)
    assert (t1.sensor, t1.unit, t1.width_us) == ("t1", "degC", MINUTE_US)
    assert t1.start_us.tolist() == [M0, M0 + MINUTE_US]
    assert t1.rows.tolist() == [6, 6]
    assert (t1.minimum.tolist(), t1.maximum.tolist()) == ([0.0, 6.0], [5.0, 11.0])
    assert (t1.mean.tolist(), t1.last.tolist()) == ([2.5, 8.5], [5.0, 11.0])
    assert t1.quality.tolist() == [0, 0]
    assert p1.start_us.tolist() == [M0 + HOUR_US]
    [hour] = await store.rollups("pump-1", ["t1", "none"], HOUR_US, 0, END_US)
    assert (hour.start_us.tolist(), hour.rows.tolist(), hour.mean.tolist()) == ([M0], [12], [5.5])
    [second] = await store.rollups("pump-1", ["t1"], MINUTE_US, M0 + 1, M0 + MINUTE_US + 1)
    assert second.start_us.tolist() == [M0 + MINUTE_US], "what starts in the range"
    [none] = await store.rollups("pump-1", ["t1"], HOUR_US, M0 + 1, END_US)
    assert len(none.start_us) == 0
    assert await store.rollups("pump-2", None, HOUR_US, 0, END_US) == []
    with pytest.raises(ValueError, match="by minute and by hour"):
        await store.rollups("pump-1", None, SECOND, 0, END_US)


async def test_minutes_and_hours_follow_late_repeated_and_replaced_readings(store: TelemetryStore) -> None:
    async def minutes(width_us: int = MINUTE_US) -> list[tuple[int, int, float, float, float, float]]:
        [one] = await store.rollups("pump-1", ["t1"], width_us, 0, END_US)
        columns = (one.start_us - M0, one.rows, one.minimum, one.maximum, one.mean, one.last)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    await store.write([frame(1, [("t1", M0 + 30 * SECOND, 4.0)])])
    await store.write([frame(2, [("t1", M0 + 10 * SECOND, 2.0)])])  # late: its value is not the last
    assert await minutes() == [(0, 2, 2.0, 4.0, 3.0, 4.0)]
    await store.write([frame(2, [("t1", M0 + 10 * SECOND, 2.0)]), frame(3, [("t1", M0 + 30 * SECOND, 4.0)])])
    assert await minutes() == [(0, 2, 2.0, 4.0, 3.0, 4.0)], "again, and a duplicate"
    await store.write([frame(4, [("t1", M0 + 30 * SECOND, 9.0)], arrival=T0 - 1)])
    assert await minutes() == [(0, 2, 2.0, 4.0, 3.0, 4.0)], "a conflict that loses"
    await store.write([frame(5, [("t1", M0 + 30 * SECOND, 1.0)], arrival=T0 + 1)])
    assert await minutes() == [(0, 2, 1.0, 2.0, 1.5, 1.0)], "one that wins"
    assert await minutes(HOUR_US) == [(0, 2, 1.0, 2.0, 1.5, 1.0)]


async def test_readings_expire_and_what_was_made_of_them_stays(store: TelemetryStore) -> None:
    day = M0 // DAY_US * DAY_US
    rows = [("t1", day + n * 30 * SECOND, float(n)) for n in range(480)]  # four hours
    await store.write([frame(1, rows), frame(481, rows, machine="replay-x")])
    retention = Retention(raw_us=DAY_US, minute_us=2 * DAY_US, hour_us=3 * DAY_US)
    assert await expire_all(store, retention, day + DAY_US) == 0
    # Half an hour into the third hour: two whole hours of readings go.
    assert await expire_all(store, retention, day + DAY_US + 5 * HOUR_US // 2) == 240
    assert await store.expired_us("pump-1") == day + 2 * HOUR_US
    assert await store.expired_us("replay-x") == 0
    assert await store.count("pump-1") == 240
    assert await store.count("replay-x") == 480, "a recording's own times are no age"
    [whole] = await store.trends("pump-1", None, 0, END_US, 480)
    assert (whole.rows, whole.downsampled, whole.minimum.min()) == (480, True, 0.0)
    [early] = await store.trends("pump-1", None, day, day + HOUR_US, 10)
    assert (early.rows, len(early.value)) == (120, 10)
    assert early.value.mean() == pytest.approx(59.5)
    [old, again] = [(await store.rollups("pump-1", ["t1"], w, 0, END_US))[0] for w in (MINUTE_US, HOUR_US)]
    assert (old.rows.sum(), again.rows.sum()) == (480, 480)
    ranges = (await store.stored_ranges())[Source("edge-1", E1)]
    assert list(ranges.stored) == [(1, 960)]
    assert (await store.write([frame(1, rows)])).redelivered == 480, "what expired does not come back"
    # Then the readings go, and the minutes that they left; of hours the first.
    removed = await expire_all(store, retention, day + 3 * DAY_US + HOUR_US)
    assert removed == 240 + 240 + 1
    [far] = await store.trends("pump-1", None, 0, END_US, 480)
    assert (far.rows, far.unit, len(far.value)) == (360, "degC", 3)
    assert [s.unit for s in await store.series("pump-1")] == ["degC"]


async def test_scores_and_aggregates_expire_and_events_stay(store: TelemetryStore) -> None:
    one = np.ones(2)
    times = np.array([M0, M0 + DAY_US])
    scores = Scores(
        "pca", "aa", 3.5, ("t1",), times, one.astype(np.float32), one.astype(np.uint8), one.astype(np.float32)[:, None],
        one[:, None],
    )  # fmt: skip
    buckets = Aggregates(("t1",), ("degC",), 10, np.zeros(2, np.int64), times, times, one, one, one)
    await store.write(
        [
            Entry(stored(SCORES, 1), header(Kind.SCORES, 1, 2), scores),
            Entry(stored(SENSOR_READINGS, 2), header(Kind.AGGREGATE, 3, 2), buckets),
            Entry(
                stored(MACHINE_EVENTS, 3), header(Kind.EVENT, 5, 1), EventFact("a", "x", "pump-1", M0, b"{}")
            ),
        ]
    )
    retention = Retention(raw_us=DAY_US, minute_us=DAY_US)
    assert await expire_all(store, retention, M0 + DAY_US + HOUR_US) == 2
    [left] = await store.scores("pump-1", 0, END_US, 10)
    assert left.time_us.tolist() == [M0 + DAY_US]
    [kept] = await store.aggregates("pump-1", "t1", 0, END_US)
    assert kept.start_us.tolist() == [M0 + DAY_US]
    assert len(await store.events()) == 1
    with pytest.raises(ValueError, match="as long as"):
        Retention(raw_us=None, minute_us=DAY_US)
