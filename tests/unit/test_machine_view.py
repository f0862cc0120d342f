"""What an edge knows of a machine, plain limits, and the agent's settings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.limits import LimitWatch
from edge.settings import EdgeSettings, Limits
from shared.errors import Misconfigured
from shared.frames import Readings
from shared.machine_events import LimitCleared, LimitCrossed
from shared.machine_view import MAX_SENSORS, MachineView


def readings(
    times: list[int], values: list[float], name: str = "level", unit: str = "m", quality: int = 0
) -> Readings:
    at = np.asarray(times, np.int64)
    return Readings(
        (name,),
        (unit,),
        at * 0,
        at,
        at + 3,
        np.asarray(values, np.float64),
        np.full(len(times), quality, np.uint8),
    )


def test_the_newest_value_by_event_time_is_shown_and_rates_are_medians() -> None:
    view = MachineView()
    assert view.skew_us is None
    view.take(readings([], []))
    assert view.arrival_us is None
    view.take(readings([10, 20, 30, 40], [1, 2, 3, 4]))
    view.take(readings([25, 50], [9, 5]))
    view.take(readings([5], [8]))
    assert view.last() == {"level": {"value": 5.0, "unit": "m", "ts": 50}}
    assert view.sensors["level"].interval_us == 10
    assert view.units() == {"level": "m"}
    assert view.arrival_us == 8


def test_one_row_says_nothing_of_the_rate() -> None:
    view = MachineView()
    view.take(readings([10], [1]))
    assert view.sensors["level"].interval_us is None


def test_skew_is_the_median_of_live_messages() -> None:
    view = MachineView()
    for delta in (-2, -3, 900):
        view.take_live(1000 + delta, 1000)
    assert view.skew_us == -2


def test_sensors_are_bounded() -> None:
    view = MachineView()
    for number in range(MAX_SENSORS + 5):
        view.take(readings([1], [1], f"s{number}"))
    assert len(view.sensors) == MAX_SENSORS


def test_limits_are_crossed_and_cleared_once_with_hysteresis() -> None:
    watch = LimitWatch("e1", "tank", {"level": Limits(low=1, high=9, hysteresis=0.5)})
    events = watch.take(readings([1, 2, 3, 4, 5, 6], [5, 9.1, 9.5, 8.8, 8.5, 0.5]))
    assert [(type(e), e.side, e.value) for e in events if isinstance(e, LimitCrossed | LimitCleared)] == [
        (LimitCrossed, "high", 9.1),
        (LimitCleared, "high", 8.5),
        (LimitCrossed, "low", 0.5),
    ]
    assert list(watch.crossed) == [("level", "low")]
    assert watch.take(readings([7], [5], quality=2)) == []
    assert watch.take(readings([7], [99], name="other")) == []
    assert [type(e) for e in watch.take(readings([8], [5]))] == [LimitCleared]


def flags(folder: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    mqtt = {"url": "mqtt://127.0.0.1:1", "client_id": "c"}
    base = {
        "site": "s1",
        "edge": "e1",
        "machines": ["tank"],
        "folder": str(folder),
        "devices": mqtt,
        "uplink": mqtt,
    }
    return base | more


def test_settings_say_what_is_wrong(tmp_path: Path) -> None:
    settings = EdgeSettings.load(flags=flags(tmp_path), environ={})
    assert settings.outbox_path == tmp_path / "outbox.db"
    with pytest.raises(Misconfigured, match="not an id"):
        EdgeSettings.load(flags=flags(tmp_path, site="S 1"), environ={})
    with pytest.raises(Misconfigured, match="low must stay below high"):
        EdgeSettings.load(
            flags=flags(tmp_path, limits={"tank": {"level": {"low": 2, "high": 1}}}), environ={}
        )


def test_a_view_is_kept_over_a_restart_with_its_rates() -> None:
    view = MachineView()
    view.take(readings([10, 20, 30, 40, 50], [1, 2, 3, 4, 5]))
    again = MachineView.from_json(view.to_json())
    assert again.shape == view.shape == {("level", "m", True)}
    assert again.last() == view.last()
    assert again.arrival_us == view.arrival_us
    assert again.sensors["level"].interval_us == 10


@pytest.mark.parametrize("kept", [None, b"", b"half writ", b"[]", b'{"sensors": {"flow": [1]}}'])
def test_a_view_that_can_not_be_read_starts_empty(kept: bytes | None) -> None:
    assert MachineView.from_json(kept).shape == frozenset()
