"""Thinning by cases: buckets, bad quality, anomalies, sent buckets, slow sensors, a disk that refuses, the marks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from edge.outbox import open_outbox
from edge.outbox_buckets import COARSE_US, FINE_US, bucketed, coarser
from edge.outbox_file import OutboxFile
from edge.outbox_frames import Level
from edge.outbox_spans import Span, anomaly_windows
from edge.outbox_thin import FIRST, LAST, SECOND, THIRD, next_stage
from shared.clock import ManualClock
from shared.errors import Unavailable
from shared.frame_codec import decode
from shared.frames import Aggregates, Kind, Readings, Records, Scores, ScoreState
from shared.packing import Item, pieces

S = 1_000_000


def readings(first: int, count: int, every: int = 1, unit: str = "bar") -> Readings:
    at = np.arange(first, first + count)
    zeros = at * 0
    return Readings(
        ("p",), (unit,), zeros, at * every * S, at * S, at.astype(np.float64), zeros.astype(np.uint8)
    )


def opened(path: Path, max_bytes: int = 10**8) -> OutboxFile:
    return OutboxFile(path, site="s1", edge="e1", max_bytes=max_bytes, clock=ManualClock())


def framed(file: OutboxFile, *bodies: Readings) -> None:
    for body in bodies:
        with file.transaction():
            file.append(pieces([Item("pump", Kind.READINGS, body)]))
            file.cut(partial=False)


def contents(file: OutboxFile) -> list[tuple[int, int, str]]:
    """First and last row and kind of each frame."""
    return [(ref.first, ref.last, ref.kind.name) for ref in file.frames()]


def thin(file: OutboxFile, *stages: object) -> None:
    for stage in stages:
        with file.transaction():
            file._thinner.step(stage)  # type: ignore[arg-type]


def test_bad_readings_count_and_say_nothing_where_others_do() -> None:
    body = replace(readings(0, 20), quality=np.array([2, *[0] * 9, *[2] * 10], np.uint8))
    made = bucketed(body, FINE_US)
    assert made.rows.tolist() == [10, 10]
    assert made.minimum.tolist() == [1.0, 10.0]
    assert made.maximum.tolist() == [9.0, 19.0]
    assert made.mean.tolist() == [5.0, 14.5]


def test_large_values_do_not_overflow_their_mean() -> None:
    body = replace(readings(0, 10), value=np.full(10, 1.7e308))
    assert bucketed(body, FINE_US).mean.tolist() == [1.7e308]


def test_coarser_buckets_are_those_of_the_readings() -> None:
    body = readings(7, 500)
    whole, steps = bucketed(body, COARSE_US), coarser([bucketed(body, FINE_US)], COARSE_US)
    assert np.array_equal(whole.start_us, steps.start_us)
    assert np.array_equal(whole.rows, steps.rows)
    assert np.allclose(whole.mean, steps.mean)


def test_the_order_of_stages() -> None:
    sizes = dict.fromkeys(Level, 0)
    assert next_stage(sizes, 1000) is None
    sizes[Level.HELD] = 10
    assert next_stage(sizes, 1000) is THIRD
    sizes[Level.HELD_FINE], sizes[Level.HELD] = 10, 0
    assert next_stage(sizes, 1000) is LAST
    sizes[Level.RAW] = sizes[Level.HELD] = 10
    assert next_stage(sizes, 1000) is FIRST
    sizes[Level.FINE] = 251
    assert next_stage(sizes, 1000) is SECOND


def test_a_frame_is_split_where_an_anomaly_begins_and_keeps_its_numbers(tmp_path: Path) -> None:
    file = opened(tmp_path / "outbox.db")
    framed(file, readings(0, 1000))
    with file.transaction():
        file.protect([Span("pump", 500 * S, 599 * S)])
    thin(file, FIRST)
    assert contents(file) == [(501, 600, "READINGS"), (991, 1000, "READINGS"), (1001, 1089, "AGGREGATE")]
    header, body = decode(file._frames.data(1001)[1])  # type: ignore[index]
    assert isinstance(body, Aggregates)
    assert body.replaces == ((1, 500), (601, 990))
    assert file.report()["degraded"] == [[1, 500], [601, 990]]
    assert (header.first, file.report()["produced"]) == (1001, 1089)
    file.close()


def test_a_bucket_that_was_sent_gets_no_second_one(tmp_path: Path) -> None:
    file = opened(tmp_path / "outbox.db")
    framed(file, readings(0, 1000))
    thin(file, FIRST)
    with file.transaction():
        sent = [ref for ref in file.frames() if ref.kind is Kind.AGGREGATE]
        assert file.data(sent[0].first) is not None
    late = replace(readings(0, 1000), value=np.arange(5000.0, 6000.0))
    framed(file, late)
    thin(file, FIRST, FIRST, FIRST)
    rows = [decode(file._frames.data(ref.first)[1])[1] for ref in file.frames()]  # type: ignore[index]
    raw = [value for body in rows if isinstance(body, Readings) for value in body.value.tolist()]
    assert set(range(5000, 5990)) <= set(raw), "late readings of buckets that were sent stay raw"
    keys = [k for body in rows if isinstance(body, Aggregates) for k in body.start_us.tolist()]
    assert len(keys) == len(set(keys))
    file.close()


def test_a_unit_that_changes_is_never_mixed(tmp_path: Path) -> None:
    file = opened(tmp_path / "outbox.db")
    framed(file, readings(0, 1000), readings(1000, 1000, unit="mbar"))
    thin(file, FIRST, FIRST, FIRST)
    for ref in file.frames():
        _, body = decode(file._frames.data(ref.first)[1])  # type: ignore[index]
        assert isinstance(body, Readings | Aggregates)
        assert len(set(body.sensor_names)) == len(body.units)
    file.close()


def test_windows_come_from_scores_and_events() -> None:
    one = np.ones((3, 1), np.float32)
    state = np.array([ScoreState.NORMAL, ScoreState.ALARM, ScoreState.ALARM], np.uint8)
    at = np.array([100, 110, 900]) * S
    body = Scores("m", "f" * 64, 1.0, ("p",), at, one[:, 0], state, one, one.astype(float))
    records = [
        {"type": "limit.crossed", "time": "1970-01-01T00:20:00+00:00"},
        {"type": "edge.started", "time": "1970-01-01T00:30:00+00:00"},
        {"type": "anomaly.started"},
    ]
    event = Records((*map(orjson.dumps, records), b"not JSON"))
    items = [Item("pump", Kind.SCORES, body), Item("fan", Kind.EVENT, event, urgent=True)]
    assert anomaly_windows(items, 10 * S) == [
        Span("pump", 100 * S, 120 * S),
        Span("pump", 890 * S, 910 * S),
        Span("fan", 1190 * S, 1210 * S),
    ]


async def test_a_disk_that_refuses_gives_away_only_what_is_never_thinned_and_says_so(tmp_path: Path) -> None:
    async with open_outbox(tmp_path / "outbox.db", site="s1", edge="e1", clock=ManualClock()) as outbox:
        await outbox.append([Item("pump", Kind.READINGS, readings(0, 1000))])
        [old] = await outbox.cut(partial=False)
        await outbox.append([Item("pump", Kind.READINGS, readings(1000, 1))])
        [live] = await outbox.cut(partial=True)
        outbox._file._db.execute("PRAGMA query_only = ON")
        with pytest.raises(Unavailable, match="readonly"):
            await outbox.append([Item("pump", Kind.READINGS, readings(1001, 1))])
        assert "readonly" in outbox.trouble
        assert (await outbox.usage()).rows == 1001
        assert (await outbox.report())["produced"] == 1001
        assert await outbox.data(live.first) is not None
        with pytest.raises(Unavailable, match="noted"):
            await outbox.data(old.first)
        assert "readonly" in outbox.trouble, "reading makes no disk well"
        outbox._file._db.execute("PRAGMA query_only = OFF")
        assert await outbox.data(old.first) is not None
        assert outbox.trouble == ""
        thin(outbox._file, FIRST)
        assert len(await outbox.frames()) == 2, "what was sent is not thinned"


async def test_a_lowered_cap_is_reached_by_thinning(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    file = opened(path)
    framed(file, *(readings(n * 1000, 1000) for n in range(100)))
    file.close()
    file = opened(path, 1 << 20)
    used = file.used()
    while file.wants_thinning():
        with file.transaction():
            assert file.thin()
    assert file.used() < used / 2
    assert file.thinned > 0
    file.close()
