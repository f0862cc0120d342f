"""What a screen says of a state: views, URLs, parts, charts. Pure."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.ui import shell, text
from cloud.ui.charts import ChartData, Line, marks, tail, unread
from cloud.ui.live import stream_url
from cloud.ui.pages import fleet, machine, model_card
from cloud.ui.pages.episodes import leaders
from cloud.ui.pages.sensors import sensor_rows
from cloud.ui.parts import badge, level_bar, moment, score_bar, sparkline
from cloud.ui.plant import MODELS_KEPT, PlantView, Series
from cloud.ui.route import SENSORS_SHOWN, Route
from cloud.ui.screen import Part, Screen
from cloud.ui.view import (
    STATES,
    exceedances,
    new_anomaly,
    search_index,
    sensor_spark,
    strip,
    tile_spark,
    tiles,
)

SECOND = 1_000_000
NOW = 1_750_000_000 * SECOND
HASH = "ab" * 32


def status(machine: str, state: str = "normal", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - a status' fields
    return {
        "machine": machine,
        "site": "s1",
        "edge": f"edge-{machine}",
        "state": state,
        "score": 1.0,
        "limit": 2.0,
        "model": {"name": f"{machine}/m", "version": 3, "version_hash": HASH, "provisional": True},
        "last": [{"sensor": "flow", "value": 40.0, "unit": "l/min", "at": "2025-06-15T15:06:40Z"}],
        "data_age_seconds": 1.0,
        **more,
    }


def leading(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - a sensor's fields
    return {"sensor": "flow", "share": 0.6, "seen": 40.0, "expected": 52.0, "unit": "l/min", **more}


def view(*statuses: dict[str, Any]) -> PlantView:
    plant = PlantView(trend_hours=24, trend_points=120, stale_after_seconds=10)
    plant.apply({"type": "snapshot", "machines": statuses}, NOW)
    return plant


def anomaly(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - an episode's fields
    return {
        "id": "a1",
        "machine": "pump-1",
        "onset": "2025-06-15T15:06:00Z",
        "score": 4.0,
        "limit": 2.0,
        "sensors": [leading()],
        **more,
    }


def said(found: Any) -> str:  # noqa: ANN401 - components
    """Components as JSON text."""
    return orjson.dumps(found, default=lambda component: component.to_plotly_json()).decode()


# The plant's view


def test_machines_are_worst_first_and_counted() -> None:
    plant = view(
        status("a"),
        status("b", "learning"),
        status("c", "anomalous", score=3.0),
        status("d", "anomalous", score=30.0),
        status("e", data_age_seconds=60.0),
    )
    assert [tile.machine for tile in tiles(plant, NOW)] == ["d", "c", "e", "b", "a"]
    assert [tile.machine for tile in tiles(plant, NOW, "learning")] == ["b"]
    counts = strip(plant, NOW)
    assert (counts.machines, counts.running, dict(counts.states)["stale"]) == (5, 4, 1)


def test_what_was_not_heard_of_lately_is_stale_never_normal() -> None:
    plant = view(status("a"), status("b", data_age_seconds=None, state="unknown"))
    assert plant.state(plant.machines["a"], NOW + 5 * SECOND) == "normal"
    assert plant.state(plant.machines["a"], NOW + 12 * SECOND) == "stale"
    assert plant.state(plant.machines["b"], NOW + 12 * SECOND) == "unknown"
    plant.away(NOW)
    plant.away(NOW + SECOND)
    assert plant.state(plant.machines["a"], NOW + SECOND) == "normal"
    assert plant.state(plant.machines["a"], NOW + 3 * SECOND) == "stale"
    assert "no connection to the server" in said([part.build() for part in shell.parts(plant, NOW, "")])
    plant.apply({"type": "heartbeat"}, NOW + 4 * SECOND)
    assert plant.state(plant.machines["a"], NOW + 4 * SECOND) == "normal"


def test_a_snapshot_is_the_whole_plant_and_an_update_is_not() -> None:
    plant = view(status("a"), status("b"))
    plant.apply({"type": "update", "machines": [status("a", "learning")]}, NOW)
    assert set(plant.machines) == {"a", "b"}
    plant.apply({"type": "snapshot", "machines": [status("b")]}, NOW)
    assert set(plant.machines) == {"b"}


def test_readings_scores_and_events_are_taken_for_known_machines() -> None:
    plant = view(status("pump-1"))
    event = {"type": "anomaly.started", "subject": "pump-1", "time": "2025-06-15T15:06:40Z", "data": {}}
    assert plant.apply(
        {
            "type": "update",
            "readings": {"pump-1": {"flow": [[NOW + SECOND, 41.0, 0]]}, "none": {"x": [[1, 1, 0]]}},
            "scores": {"pump-1": [[NOW + SECOND, 2.5, 2.0], [NOW + 2 * SECOND, None, 2.0]], "none": []},
            "events": [event],
        },
        NOW,
    )
    pump = plant.machines["pump-1"]
    assert pump.sensors["flow"].last == (NOW + SECOND, 41.0)
    assert pump.score.last == (NOW + SECOND, 2.5)
    assert pump.unit("flow") == "l/min"
    assert not plant.apply({"type": "update"}, NOW)
    for number in range(MODELS_KEPT + 5):
        plant.take_model(str(number), {})
    assert len(plant.models) == MODELS_KEPT


def test_what_is_told_of_an_unknown_machine_changes_nothing() -> None:
    plant = view()
    plant.take_bands("none", [{"sensor": "x"}])
    plant.take_trends("none", [])
    plant.take_scores("none", {})
    plant.take_events("none", [])
    assert not plant.machines


@given(st.lists(st.integers(1, 200 * SECOND), min_size=1, max_size=400), st.integers(5, 50))
def test_a_trend_is_bounded_in_order_and_ends_with_the_newest(steps: list[int], points: int) -> None:
    series = Series(3600 * SECOND, points)
    now = NOW
    for number, step in enumerate(steps):
        now += step
        assert series.add(now, float(number))
    assert not series.add(now, 0.0)
    times = [time for time, _ in series.trend]
    assert times == sorted(set(times))
    assert len(times) <= 2 * points
    assert series.trend[-1] == series.last == (now, float(len(steps) - 1))
    assert times[-1] - times[0] <= 3600 * SECOND


def test_a_trend_read_anew_keeps_newer_live_points() -> None:
    series = Series(3600 * SECOND, 10)
    series.add(NOW, 1.0)
    series.replace([NOW - 2 * SECOND, NOW - SECOND], [5.0, None])
    assert list(series.trend) == [(NOW - 2 * SECOND, 5.0), (NOW, 1.0)]


# URLs

IDS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True)


@given(
    st.one_of(
        st.builds(
            Route,
            st.just("fleet"),
            state=st.sampled_from(["", *STATES]),
            view=st.sampled_from(["tiles", "table"]),
        ),
        st.builds(
            Route,
            st.just("machine"),
            IDS,
            sensors=st.lists(IDS, max_size=SENSORS_SHOWN, unique=True).map(tuple),
            span=st.sampled_from(["15m", "1h", "6h", "24h", "7d"]),
        ),
        st.builds(
            Route,
            st.just("machine"),
            IDS,
            start_us=st.just(NOW),
            end_us=st.integers(NOW + 2 * SECOND, 2 * NOW),
        ),
    )
)
def test_a_url_restores_its_view(route: Route) -> None:
    assert Route.parse(f"http://127.0.0.1:8050{route.url()}") == route


@pytest.mark.parametrize(
    ("url", "route"),
    [
        ("/?state=broken&view=x", Route()),
        ("/machine/p?range=2y&from=x&to=5", Route("machine", "p")),
        ("/machine/p?from=9&to=5", Route("machine", "p")),
        ("/machine/p?sensor=a,b,c,d,a", Route("machine", "p", sensors=("a", "b", "c"))),
        ("/machine/UPPER", Route("lost")),
        ("/machine/p/more", Route("lost")),
        ("/nowhere", Route("lost")),
    ],
)
def test_what_cant_be_read_of_a_url_is_left_out(url: str, route: Route) -> None:
    assert Route.parse(url) == route


def test_a_sensor_is_laid_over_and_taken_away() -> None:
    route = Route("machine", "p", sensors=("a", "b", "c"))
    assert Route.parse(route.toggled("d")).sensors == ("b", "c", "d")
    assert Route.parse(route.toggled("b")).sensors == ("a", "c")


# Numbers


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "\u2013"),
        (float("nan"), "\u2013"),
        (0.0, "0"),
        (1234.56, "1235"),
        (41.0, "41.00"),
        (-2.5, "-2.500"),
        (0.973, "0.973"),
        (0.00123, "0.00123"),
        (1e-9, "1.00e-09"),
        (3.2e12, "3.20e+12"),
    ],
)
def test_numbers_as_people_read_them(value: float | None, shown: str) -> None:
    assert text.number(value) == shown


def test_units_as_people_read_them() -> None:
    assert text.quantity(41.0, "degC") == "41.00\u202f°C"
    assert text.quantity(2.0, "1") == "2.000"
    assert text.quantity(None, "bar") == "\u2013"
    assert text.utc(0) == "1970-01-01 00:00:00 UTC"


# Parts


def test_parts_say_themselves_aloud() -> None:
    assert "Stale" in said(badge("stale"))
    assert "score 3.000 of limit 2.000" in said(score_bar(3.0, 2.0, "anomalous"))
    assert "no score" in said(score_bar(None, 2.0, "learning"))
    assert "above the normal band 1.000 to 2.000" in said(level_bar(3.0, 1.0, 2.0, "bar"))
    assert "below the normal band" in said(level_bar(0.5, 1.0, 2.0, "bar"))
    assert "inside the normal band" in said(level_bar(1.5, 1.0, 2.0, "bar"))
    assert "not learnt" in said(level_bar(1.5, None, None, "bar"))
    assert "never" in said(moment(None))
    assert "no history yet" in said(sparkline(None))


def test_a_sparkline_shows_band_and_limit() -> None:
    plant = view(status("pump-1", "anomalous", leading=[leading(), leading(sensor="level", share=0.3)]))
    pump = plant.machines["pump-1"]
    plant.take_bands(
        "pump-1", [{"sensor": "flow", "unit": "l/min", "low": 45.0, "high": 60.0, "learnt": True}]
    )
    curve = {"sensor": "flow", "time_us": [NOW - 3600 * SECOND, NOW - 60 * SECOND], "value": [50.0, 52.0]}
    plant.take_trends("pump-1", [curve])
    found = tile_spark(pump, NOW)
    assert found is not None
    assert (found.label, found.unit, found.last) == ("flow", "l/min", 40.0)
    assert found.band is not None
    assert found.band[0] < found.band[1]
    assert "now 40.00" in said(sparkline(found, marked=True))
    assert sensor_spark(pump, "none", NOW) is None
    times = [NOW + second * SECOND for second in (*range(20), *range(600, 620))]
    plant.take_trends("pump-1", [{"sensor": "gap", "time_us": times, "value": [1.0] * 40}])
    broken = sensor_spark(pump, "gap", NOW + 620 * SECOND)
    assert broken is not None
    assert broken.path.count("M") == 2
    calm = view(status("pump-1"))
    calm.take_scores("pump-1", {"time_us": [NOW - SECOND, NOW], "score": [1.0, 1.0]})
    score = tile_spark(calm.machines["pump-1"], NOW)
    assert score is not None
    assert score.label == "score"
    assert score.line is not None
    assert tile_spark(view(status("x", last=[])).machines["x"], NOW) is None


def test_only_what_changed_is_sent_and_a_whole_contains_its_parts() -> None:
    screen = Screen()

    def parts(whole: int, part: int) -> list[Part]:
        key = ("whole", "children")
        return [
            Part(*key, whole, lambda: f"whole {whole} {part}"),
            Part("part", "children", part, lambda: f"part {part}", inside=key),
        ]

    assert screen.news(parts(1, 1)) == [("whole", "children", "whole 1 1")]
    assert screen.news(parts(1, 1)) == []
    assert screen.news(parts(1, 2)) == [("part", "children", "part 2")]
    assert screen.news(parts(2, 3)) == [("whole", "children", "whole 2 3")]
    assert screen.news(parts(2, 3)) == []
    screen.forget()
    assert len(screen.news(parts(2, 3))) == 1


# Pages


def test_an_empty_plant_says_what_to_do() -> None:
    assert "industrialmind up" in said(fleet.layout(view(), Route(), NOW))


def test_a_machine_without_a_model_is_learning() -> None:
    plant = view(status("pump-1", "learning", model=None, score=None, limit=None, unscored_reason="no model"))
    shown = said(fleet.layout(plant, Route(), NOW))
    assert "learning: no score yet" in shown
    assert "no model yet" in shown
    route = Route("machine", "pump-1")
    page = said(machine.layout(plant, route, NOW, unread(route, NOW, "The curves can't be read now.")))
    assert "None yet" in page
    assert "Learning" in page
    assert "None has been recorded" in page
    assert "The curves can't be read now." in page


def test_persistence_counts_the_last_windows() -> None:
    scores = [(1, 3.0), (2, 1.0), (3, 3.0), (4, 3.0), (5, 1.0), (6, 3.0)]
    assert exceedances(scores, 2.0, 5) == 3
    assert exceedances(scores, None, 5) == 0
    plant = view(status("pump-1", "anomalous", score=3.0, leading=[leading()]))
    manifest = {
        "calibration": {"persistence_m": 3, "persistence_n": 5, "method": "conformal"},
        "method": "window-pca",
        "p99_ms": 0.4,
        "metrics": {"panel_found": 0.3, "epochs": 16.0, "other.panel_found": 0.057, "other.panel_false": 0.0},
    }
    plant.take_model(HASH, {"manifest": manifest, "aliases": ["champion"], "running_on": ["edge-pump-1"]})
    pump = plant.machines["pump-1"]
    judged = machine.judgement(pump, "anomalous", manifest)
    assert (judged.needs, judged.of) == (3, 5)
    card = model_card.card(pump, plant.models[HASH])
    assert card is not None
    shown = said(model_card.build(card))
    assert HASH in shown
    assert model_card.candidates(card) == [
        ("window-pca", {"panel_found": 0.3}),
        ("other", {"panel_found": 0.057}),
    ]
    assert "30%" in shown
    assert "6%" in shown
    assert "other: panel found" in shown
    assert "provisional" in shown


def test_a_model_that_the_edge_keeps_out_is_said_until_another_runs() -> None:
    plant = view(status("pump-1"))
    pump = plant.machines["pump-1"]
    plant.take_model(HASH, {"aliases": ["champion"]})

    def told(kind: str, minute: int, version: int) -> dict[str, object]:
        data = {"model_version": version, "edge": "edge-pump-1", "reason": "it takes too much memory"}
        return {
            "type": kind,
            "subject": "pump-1",
            "time": f"2025-06-15T15:{minute:02}:00Z",
            "data": data,
        }

    def shown() -> str:
        card = model_card.card(pump, plant.models.get(HASH, {}))
        return said(model_card.build(card, model_card.refusal(pump, card)))

    plant.apply({"events": [told("model.activated", 1, 3)]}, NOW)
    assert HASH not in plant.models  # who is champion is asked for again
    plant.take_model(HASH, {"aliases": ["champion"]})
    assert "refused" not in shown()
    plant.apply({"events": [told("model.refused", 2, 4)]}, NOW)
    plant.take_model(HASH, {"aliases": []})
    for part in ("v4 is refused", "by edge-pump-1", "2025-06-15T15:02:00Z", "it takes too much memory"):
        assert part in shown()
    plant.take_model(HASH, {"aliases": ["champion"]})  # the one that runs is wanted again
    assert "refused" not in shown()
    plant.take_model(HASH, {"aliases": []})
    plant.apply({"events": [told("model.activated", 3, 5)]}, NOW)
    assert "refused" not in shown()


def test_the_first_model_may_be_refused_too() -> None:
    plant = view(status("pump-1", "learning", model=None))
    pump = plant.machines["pump-1"]
    data = {"model_version": 1, "edge": "edge-pump-1", "reason": "needs flow in l/min"}
    event = {"type": "model.refused", "subject": "pump-1", "time": "2025-06-15T15:00:00Z", "data": data}
    plant.apply({"events": [event]}, NOW)
    shown = said(model_card.build(None, model_card.refusal(pump, None)))
    assert "None yet" in shown
    assert "needs flow in l/min" in shown
    assert "without further action" not in shown


def test_a_leading_sensor_comes_first_with_seen_beside_expected() -> None:
    plant = view(status("pump-1", "anomalous", score=3.0, leading=[leading(sensor="zeta", share=0.9)]))
    plant.take_anomalies([anomaly(), anomaly(id="a0", ended_at="2025-06-15T15:08:00Z", sensors=[])])
    plant.machines["pump-1"].contributions = {"flow": 0.1}
    plant.machines["pump-1"].series("zeta").add(NOW, 40.0)
    route = Route("machine", "pump-1", sensors=("zeta",))
    pump = plant.machines["pump-1"]
    assert leaders(plant.anomalies) == ("flow",)
    assert leaders(()) == ()
    assert [row.sensor for row in sensor_rows(pump, route, NOW, first=("zeta",))] == ["zeta", "flow"]
    assert [row.sensor for row in sensor_rows(pump, route, NOW)] == ["flow", "zeta"]
    page = said(machine.layout(plant, route, NOW, unread(route, NOW, "")))
    assert "expected " in page
    assert "52.00" in page
    assert "led with 60%" in page


def test_a_new_anomaly_is_announced_for_a_while() -> None:
    plant = view(status("pump-1", "anomalous"))
    plant.take_anomalies([anomaly()])
    found = new_anomaly(plant, NOW)
    assert found is not None
    assert "New anomaly on pump-1" in said([part.build() for part in shell.parts(plant, NOW, "demo")])
    assert new_anomaly(plant, NOW + 600 * SECOND) is None
    assert ("pump-1 · flow", "sensor", "/machine/pump-1?sensor=flow") in search_index(plant)


# Charts


def test_a_chart_says_itself_and_has_marks() -> None:
    plant = view(status("pump-1"))
    plant.take_anomalies([anomaly()])
    activated = {
        "type": "model.activated",
        "subject": "pump-1",
        "time": "2025-06-15T15:00:00Z",
        "data": {"model_version": 3},
    }
    plant.take_events("pump-1", [activated])
    assert [(mark.kind, mark.text) for mark in marks(plant, "pump-1")] == [
        ("anomaly", "anomaly"),
        ("model", "model v3"),
    ]
    flow = Line("flow", "degC", [NOW], [1.0], 0.0, 2.0)
    chart = ChartData(NOW - SECOND, NOW, True, Line("score", "", [1, 2], [1.0, 3.0]), [2.0, 2.0], (flow,))
    assert "highest 3.000, last 3.000, 1 of 2 points over the limit" in chart.said()
    assert chart.to_json()["overlays"][0]["unit"] == "°C"
    assert "Drag" in chart.note()
    empty = unread(Route("machine", "pump-1"), NOW, "")
    assert "no scores" in empty.said()
    assert "No scores" in empty.note()
    plant.machines["pump-1"].score.add(NOW + SECOND, 1.5)
    sent = tail(plant.machines["pump-1"], Route("machine", "pump-1", sensors=("flow",)))
    assert sent["score"] == [[NOW + SECOND, 1.5, 2.0]]
    assert sent["overlays"][0]["name"] == "flow"


def test_the_stream_is_beside_the_api() -> None:
    assert stream_url("http://127.0.0.1:8000") == "ws://127.0.0.1:8000/v1/live"
    assert stream_url("https://plant.example/api/") == "wss://plant.example/api/v1/live"
