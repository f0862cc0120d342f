from datetime import UTC, datetime
from typing import Any

import pytest

from cloud.api.logic import anomalies, machine_status
from shared.events import AnomalyEnded, AnomalyStarted, Sensor
from shared.machine_events import LimitCleared

ONSET = datetime(2026, 1, 1, tzinfo=UTC)
NOW_US = 1_000_000_000_000


def report(**part: Any) -> dict[str, Any]:  # noqa: ANN401 - a report's fields
    machine = {
        "state": "normal",
        "arrival_us": NOW_US - 1_500_000,
        "model": "pump-01/window-pca",
        "version": 2,
        "sha256": "ab" * 32,
        "provisional": True,
        "score": 0.5,
        "limit": 1.0,
        "leading": [{"sensor": "flow", "share": 1.0, "seen": 1.0, "expected": 2.0, "unit": "l/min"}],
        "last": {"flow": {"value": 1.0, "unit": "l/min", "ts": NOW_US}},
        "skew_us": 2_000_000,
        **part,
    }
    return {"machines": {"pump-01": machine}, "outbox": {"rows": 3, "bytes": 10}, "listening": True}


def status(found: dict[str, Any]) -> Any:  # noqa: ANN401 - a view
    return machine_status("pump-01", "demo", "edge-pump-01", found, now_us=NOW_US, stale_after=10)


def test_a_reporting_machine_is_shown_as_it_says() -> None:
    shown = status(report())
    assert shown.state == "normal"
    assert shown.data_age_seconds == pytest.approx(1.5)
    assert shown.clock_skew_seconds == pytest.approx(2.0)
    assert shown.model is not None
    assert shown.model.version == 2
    assert shown.leading[0].sensor == "flow"
    assert shown.last[0].value == 1.0
    assert shown.outbox_rows == 3
    assert shown.listening


def test_old_data_is_stale_whatever_the_last_word_was() -> None:
    assert status(report(arrival_us=NOW_US - 11_000_000, state="anomalous")).state == "stale"


def test_a_machine_that_never_spoke_is_unknown() -> None:
    shown = status({})
    assert shown.state == "unknown"
    assert shown.model is None
    assert shown.data_age_seconds is None


def started(machine: str = "pump-01") -> AnomalyStarted:
    return AnomalyStarted(
        source=f"edge/edge-{machine}",
        subject=machine,
        occurred_at=ONSET,
        rule="window-pca",
        edge=f"edge-{machine}",
        onset=ONSET,
        score=2.0,
        limit=1.0,
        model="m",
        version_hash="ab",
        sensors=(Sensor(sensor="flow", share=1.0, seen=1.0, expected=2.0, unit="l/min"),),
    )


def ended() -> AnomalyEnded:
    return AnomalyEnded(
        source="edge/edge-pump-01",
        subject="pump-01",
        occurred_at=datetime(2026, 1, 1, 1, tzinfo=UTC),
        rule="window-pca",
        edge="edge-pump-01",
        onset=ONSET,
        peak_score=5.0,
        limit=1.0,
    )


@pytest.mark.parametrize("order", [0, 1])
def test_an_end_closes_its_own_episode_in_any_order(order: int) -> None:
    events = [started(), ended()] if order else [ended(), started()]
    found = anomalies([*events, started("fan-01")])
    by_machine = {anomaly.machine: anomaly for anomaly in found}
    assert by_machine["pump-01"].ended_at == ended().occurred_at
    assert by_machine["pump-01"].score == 5.0
    assert by_machine["fan-01"].ended_at is None


def test_an_end_without_its_start_and_other_events_show_nothing() -> None:
    cleared = LimitCleared(
        source="edge/e",
        subject="pump-01",
        occurred_at=ONSET,
        edge="e",
        sensor="flow",
        side="high",
        value=1.0,
        limit=2.0,
        unit="l/min",
        rule="limit/flow/high",
        onset=ONSET,
    )
    assert anomalies([ended(), cleared]) == []
