"""What is not trained on: rows and windows that touch it are gone, and the manifest counts them by reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from cloud.telemetry.port import Entry, open_store
from cloud.training.history import BEFORE_FAILURE_US, Judged, judged_out, merged, paired, read_past
from cloud.training.logic import Config, fit, full_windows
from cloud.training.recording import LeftOut
from shared.artifact import unpack
from shared.event import at, to_us
from shared.frames import Aggregates, Header, Kind
from shared.machine_events import LimitCleared, LimitCrossed, MaintenanceEnded, MaintenanceStarted
from tests.models import STEP_US, recording
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
        await store.write([first, entry, event(1, anomaly_started()), event(2, anomaly_ended())])
        past = await read_past(store, "pump-1", to_us(ONSET) + 10**12)
    assert [(one.from_us, one.to_us) for one in past.degraded] == [(start, start + 20_000_000 - 1)]
    [alarm] = past.alarms
    assert (alarm.from_us, alarm.to_us) == (to_us(ONSET), to_us(anomaly_ended().occurred_at))
    assert past.spans == (*past.degraded, alarm)


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
