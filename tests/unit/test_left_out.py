"""What is not trained on: rows and windows that touch it are gone, and the manifest counts them by reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from cloud.telemetry.port import Entry, open_store
from cloud.training.history import (
    BEFORE_FAILURE_US,
    Judged,
    Thinned,
    holds,
    judged_out,
    merged,
    paired,
    read_past,
)
from cloud.training.logic import Config, fit, full_windows
from cloud.training.recording import LeftOut, Recording
from edge.input_limits import InputLimits
from edge.settings import SensorLimits
from shared.artifact import unpack
from shared.errors import Rejected
from shared.event import at, to_us
from shared.frames import Aggregates, Header, Kind, Readings
from shared.machine_events import (
    LimitCleared,
    LimitCrossed,
    MaintenanceEnded,
    MaintenanceStarted,
    ReadingsHeld,
)
from tests.models import SENSORS, STEP_US, UNITS, healthy, recording
from tests.unit.front_door import EPOCH, ONSET, anomaly_ended, anomaly_started, event, readings

CONFIG = Config()
REACH = CONFIG.window * STEP_US


def test_no_window_that_touches_left_out_time_is_trained_on_and_all_are_counted() -> None:
    spans = [
        LeftOut("open-alarm", 300 * STEP_US, 349 * STEP_US),
        LeftOut("maintenance", 340 * STEP_US, 360 * STEP_US),
    ]
    whole, part = recording(), recording().without(spans)
    cells, ends = full_windows(part, CONFIG, STEP_US)
    edges = cells.times_us[ends]
    for span in spans:
        assert not ((edges >= span.from_us) & (edges - REACH < span.to_us)).any()
    manifest = unpack(fit(part, machine="m", machine_type="t", now_us=7, step_us=STEP_US)).manifest
    known = unpack(fit(whole, machine="m", machine_type="t", now_us=7, step_us=STEP_US)).manifest
    counted = manifest.training.excluded
    # 300 to 359 and the windows that reach back to there; the first reason takes what both hold for.
    assert counted["maintenance"] == 20 + CONFIG.window
    assert counted["open-alarm"] == 40
    lost = known.training.windows - manifest.training.windows
    assert lost == counted["maintenance"] + counted["open-alarm"]
    assert manifest.training.sha256 != known.training.sha256


def test_what_lies_outside_the_recording_leaves_nothing_out() -> None:
    part = recording().without([LeftOut("fault", -10, -5), LeftOut("fault", 10**15, 10**15)])
    assert part.left_out == ()
    assert part.counted(STEP_US, REACH) == {}


def test_stretches_of_events_pair_and_what_did_not_end_lasts() -> None:
    def limit(cls: type[LimitCrossed | LimitCleared], at_s: int) -> LimitCrossed | LimitCleared:
        return cls(
            source="edge/e", subject="pump-1", occurred_at=ONSET + timedelta(seconds=at_s), edge="e", sensor="flow",
            side="high", value=1.0, limit=0.5, unit="", rule="limit/flow/high", onset=None,
        )  # fmt: skip

    def worked(
        cls: type[MaintenanceStarted | MaintenanceEnded], at_s: int
    ) -> MaintenanceStarted | MaintenanceEnded:
        more = {"until": None, "why": ""} if cls is MaintenanceStarted else {}
        moment = ONSET + timedelta(seconds=at_s)
        return cls(source="edge/e", subject="pump-1", occurred_at=moment, edge="e", by="ada", **more)

    until = to_us(ONSET + timedelta(hours=1))
    found = [
        worked(MaintenanceEnded, 0), worked(MaintenanceStarted, 1), limit(LimitCrossed, 2), limit(LimitCleared, 9),
        worked(MaintenanceEnded, 10), limit(LimitCrossed, 20),
    ]  # fmt: skip
    alarms, maintenance = paired(found, until)
    second = to_us(ONSET)
    assert [(one.from_us, one.to_us) for one in alarms] == [
        (second + 2_000_000, second + 9_000_000),
        (second + 20_000_000, until),
    ]
    assert [(one.from_us - second, one.to_us - second) for one in maintenance] == [(1_000_000, 10_000_000)]


async def test_the_store_tells_alarms_and_degraded_time(tmp_path: Path) -> None:
    start = 1_750_000_000_000_000
    body = Aggregates(
        ("flow",), ("l/min",), 10_000_000, np.zeros(2, np.int64), np.array([start, start + 10_000_000]),
        np.array([10, 10]), np.ones(2), np.ones(2), np.ones(2),
    )  # fmt: skip
    header = Header("s1", "edge-pump-1", "pump-1", Kind.AGGREGATE, EPOCH, 90_001, 2)
    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        first = readings(3)
        entry = Entry(replace(first.record, offset=2), header, body)
        told = [event(3 + number, held(second)) for number, second in enumerate((70, 50, 60))]
        await store.write([first, entry, event(1, anomaly_started()), event(2, anomaly_ended()), *told])
        past = await read_past(store, "pump-1", to_us(ONSET) + 10**12)
    assert [(one.from_us, one.to_us) for one in past.degraded] == [(start, start + 20_000_000 - 1)]
    [alarm] = past.alarms
    assert (alarm.from_us, alarm.to_us) == (to_us(ONSET), to_us(anomaly_ended().occurred_at))
    assert past.spans == (*past.degraded, alarm)
    assert past.thinned == {"temperature": Thinned(to_us(ONSET) + 50_000_000, 1_500_000)}


def test_peoples_words_leave_out_faults_and_the_fortnight_before_confirmed_ones() -> None:
    begins = datetime(2026, 3, 1, tzinfo=UTC)
    ends = begins + timedelta(hours=2)
    out = judged_out(
        [
            Judged("fault", begins, ends, confirmed=True),
            Judged("fault", begins, ends),
            Judged("sensor-fault", begins, ends),
            Judged("normal", begins, ends),
        ]
    )
    assert [one.reason for one in out] == ["fault", "before-failure", "fault", "sensor-fault"]
    assert at(out[1].from_us) == begins - timedelta(days=14)
    assert out[1].to_us - out[1].from_us == BEFORE_FAILURE_US
    assert merged([LeftOut("fault", 5, 9), LeftOut("fault", 0, 4), LeftOut("fault", 20, 21)]) == [
        LeftOut("fault", 0, 9),
        LeftOut("fault", 20, 21),
    ]


def test_too_little_left_is_refused_by_name() -> None:
    part = recording().without([LeftOut("maintenance", 100 * STEP_US, 1150 * STEP_US)])
    with pytest.raises(Exception, match="too few"):
        full_windows(part, CONFIG, STEP_US)


def held(second: int) -> ReadingsHeld:
    return ReadingsHeld(
        source="edge/e", subject="pump-1", occurred_at=ONSET + timedelta(seconds=second), edge="e",
        sensor="temperature", deadband=0.3, silence_seconds=30, interval_seconds=second / 50 + 0.5, unit="degC",
    )  # fmt: skip


def thinned(deadband: float, since: int, rows: int = 3000) -> Recording:
    """What a store has of a machine whose edge thins its temperature from row `since` on."""
    table = healthy(rows)
    times = np.arange(1, rows + 1) * STEP_US
    limits = InputLimits()
    limits.set("m", "temperature", SensorLimits(deadband=deadband, silence_seconds=30))
    late = Readings(
        ("temperature",), ("degC",), np.zeros(rows - since, np.int64), times[since:], times[since:],
        table[since:, 3], np.zeros(rows - since, np.uint8),
    )  # fmt: skip
    kept, left = limits.take("m", late)
    assert sum(left.values()) > 0
    [told] = limits.held()
    assert times[since] < told.time_us < times[since] + 60 * STEP_US
    assert told.interval_us == STEP_US
    table[since:, 3] = np.nan
    table[np.searchsorted(times, kept.time_us), 3] = kept.value
    return Recording(times, SENSORS, UNITS, table)


def test_windows_that_touch_a_deadbands_holds_are_not_trained_on() -> None:
    given, since_us = thinned(0.01, 1500), 1500 * STEP_US
    out = holds(given, {"temperature": Thinned(since_us, STEP_US), "gone": Thinned(0, 1)})
    assert {one.reason for one in out} == {"deadband"}
    assert all(one.from_us > since_us for one in out)
    part = given.without(out)
    cells, ends = full_windows(part, CONFIG, STEP_US)
    edges = cells.times_us[ends]
    there = np.isfinite(given.values[:, 3])
    whole = [there[edge // STEP_US - CONFIG.window : edge // STEP_US].all() for edge in edges.tolist()]
    assert all(whole), "each of its cells was measured"
    counted = unpack(fit(part, machine="m", machine_type="t", now_us=7, step_us=STEP_US)).manifest
    gone = counted.training.excluded
    assert gone["deadband"] > 300
    lost = counted.training.rows - counted.training.windows - gone["masked"]
    assert lost <= gone["deadband"] <= lost + CONFIG.window


def test_gaps_of_sensors_that_no_edge_thins_are_no_holds() -> None:
    given = thinned(0.01, 1500)
    assert holds(given, {}) == []
    assert holds(given, {"flow": Thinned(0, STEP_US)}) == []
    assert holds(given, {"temperature": Thinned(3000 * STEP_US, STEP_US)}) == []
    nothing = Recording(np.zeros(0, np.int64), ("flow",), ("",), np.zeros((0, 1)))
    assert holds(nothing, {"flow": Thinned(0, STEP_US)}) == []


def test_too_wide_a_deadband_is_named_in_the_refusal() -> None:
    given = thinned(0.5, 0)
    with pytest.raises(Rejected, match=r"too few .* left out: deadband"):
        full_windows(given.without(holds(given, {"temperature": Thinned(0, STEP_US)})), CONFIG, STEP_US)


def test_very_many_stretches_cost_little_and_say_what_few_do() -> None:
    random = np.random.default_rng(1)
    begins = np.sort(random.integers(0, 10**6, 300))
    spans = [LeftOut("deadband", one, one + int(random.integers(0, 5000))) for one in begins.tolist()]
    edges = np.arange(0, 10**6, 997)
    part = replace(recording(), left_out=tuple(spans))
    one_by_one = [any(s.from_us <= edge < s.to_us + 50 for s in spans) for edge in edges.tolist()]
    assert part.touching(edges, 50).tolist() == one_by_one
    assert part.counted(1, 50)["deadband"] == part.touching(np.arange(0, 1_010_000), 50).sum()
