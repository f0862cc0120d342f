"""Readings of several series, events and anomalies over HTTP: the application over a real store."""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from cloud.api.cursors import cursor
from cloud.telemetry.port import Entry, open_store
from shared.clock import ManualClock
from shared.eventlog import Stored
from shared.frames import Header, Kind, Readings
from shared.names import SENSOR_READINGS
from shared.nats import open_control
from tests.models import STEP_US, healthy
from tests.servers import NatsServer
from tests.unit.api_parts import Api
from tests.unit.front_door import ONSET, T0, anomaly_ended, anomaly_started, event, readings

ROWS = 1100
WHOLE = {"from": T0, "to": T0 + ROWS * STEP_US}
FLOW = {"series": "pump-1/flow"}
BOTH = {"series": ["pump-1/flow", "pump-1/pressure"]}
FLOWS = healthy(ROWS)[:, 1]


@pytest.fixture
async def api(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Api]:
    async with (
        open_store(f"sqlite:///{tmp_path}/t.db") as store,
        open_control(nats_server.url, credentials=nats_server.credentials) as control,
    ):
        events = []
        for day in range(1, 6):
            events += [
                anomaly_started("pump-1", ONSET.replace(day=day)),
                anomaly_ended("pump-1", ONSET.replace(day=day)) if day < 5 else anomaly_started("fan-1"),
            ]
        await store.write([readings(ROWS), *(event(n, each) for n, each in enumerate(events, 1))])
        made = Api(store, control)
        async with made.http:
            yield made


def more(number: int) -> Entry:
    """One more reading, a second after those before."""
    at_us = T0 + (ROWS + number - 1) * STEP_US
    one = np.array([0], np.int64)
    body = Readings(
        ("flow",), ("l/min",), one, one + at_us, one + at_us, np.array([1.5]), one.astype(np.uint8)
    )
    header = Header("s1", "edge-pump-1", "pump-1", Kind.READINGS, b"m" * 16, number, 1)
    return Entry(Stored(SENSOR_READINGS, "pump-1", b"", {}, "0", 1000 + number, at_us), header, body)


async def ask(api: Api, **query: Any) -> dict[str, Any]:  # noqa: ANN401 - text or number
    found: dict[str, Any] = await api.get("/v1/readings", **FLOW | WHOLE | query)
    return found


async def test_readings_come_as_they_are_by_pages(api: Api) -> None:
    times: dict[str, list[int]] = {"flow": [], "pressure": []}
    query: dict[str, Any] = {**BOTH, **WHOLE, "limit": 300}
    pages = 0
    while True:
        page = await api.get("/v1/readings", **query)
        pages += 1
        for part in page["series"]:
            times[part["sensor"]] += part["time_us"]
            assert set(part) == {
                "machine", "sensor", "unit", "points", "downsampled", "time_us", "value", "quality", "arrival_us"
            }  # fmt: skip
        if page["next"] is None:
            break
        query = {**BOTH, "limit": 300, "cursor": page["next"]}
    expected = [T0 + n * STEP_US for n in range(ROWS)]
    assert times == {"flow": expected, "pressure": expected}
    assert pages == 4


async def test_a_curve_is_of_points_that_were_measured(api: Api) -> None:
    for way in ("lttb", "minmax"):
        [found] = (await ask(api, max_points=100, downsample=way))["series"]
        assert (found["points"], found["downsampled"], len(found["value"])) == (ROWS, True, 100)
        at = (np.array(found["time_us"]) - T0) // STEP_US
        assert (np.diff(at) > 0).all()
        assert found["value"] == FLOWS[at].tolist()
        assert "min" not in found
    assert {max(found["value"]), min(found["value"])} == {FLOWS.max(), FLOWS.min()}
    [mean] = (await ask(api, max_points=100, downsample="mean"))["series"]
    assert mean["value"] == pytest.approx(FLOWS.reshape(100, 11).mean(axis=1).tolist())
    assert mean["max"] == FLOWS.reshape(100, 11).max(axis=1).tolist()
    for way in ("lttb", "minmax"):
        wide = {"from": T0 - 7200 * 1_000_000, "max_points": 1200, "downsample": way}
        [all_] = (await ask(api, **wide))["series"]
        assert (all_["downsampled"], all_["value"]) == (False, FLOWS.tolist())
        [some] = (await ask(api, **wide | {"max_points": 100}))["series"]
        assert set(some["value"]) <= set(FLOWS.tolist())
    [few] = (await ask(api, max_points=4000))["series"]
    assert (few["downsampled"], few["value"]) == (False, FLOWS.tolist())


async def test_a_long_curve_is_made_of_the_store_s_buckets(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.api.series.EXACT_ROWS", 500)
    for way, most in (("lttb", 100), ("minmax", 101)):
        [found] = (await ask(api, max_points=most, downsample=way))["series"]
        assert (found["points"], found["downsampled"], len(found["value"])) == (ROWS, True, 100)
        assert set(found["value"]) <= set(FLOWS.tolist())
        assert found["time_us"] == sorted(found["time_us"])
    assert {max(found["value"]), min(found["value"])} == {FLOWS.max(), FLOWS.min()}


@pytest.mark.parametrize("how", ["mean", "min", "max", "last", "count"])
async def test_aggregates_are_those_of_the_readings(api: Api, how: str) -> None:
    for stretch, seconds in {"1m": 60, "10s": 10, "90s": 90, "2m": 120, "1h": 3600}.items():
        found = await ask(api, every=stretch, aggregate=how)
        width = seconds * 1_000_000
        assert found["from_us"] == T0 // width * width <= T0
        assert found["to_us"] % width == 0
        [part] = found["series"]
        starts = (T0 + np.arange(ROWS) * STEP_US) // width * width
        assert part["time_us"] == np.unique(starts).tolist()
        ways: dict[str, Any] = {
            "mean": np.mean,
            "min": np.min,
            "max": np.max,
            "last": lambda x: x[-1],
            "count": len,
        }
        assert part["value"] == pytest.approx(
            [ways[how](FLOWS[starts == start]) for start in np.unique(starts)]
        )
        assert part["points"] == ROWS


async def test_a_time_without_readings_is_empty_and_a_series_without_any_is_none(api: Api) -> None:
    for query in ({}, {"max_points": 10}, {"every": "1m"}, {"every": "10s"}):
        found = await api.get("/v1/readings", **FLOW, **query, **{"from": 0, "to": 1_000_000})
        assert found["series"][0]["time_us"] == []
        assert found["next"] is None
        for name in ("pump-1/colour", "pump-9/flow"):
            answer = await api.get(
                "/v1/readings", 404, series=["pump-1/flow", name], **query, **{"from": "-1h"}
            )
            assert name in answer["title"]


UNANSWERABLE: list[dict[str, Any]] = [
    {"series": []},
    {"from": ["-1h", "-2h"]},
    {"max_points": [5, 5]},
    {"series": ["pump-1"]},
    {"series": ["pump-1/flow/x"]},
    {"series": ["Pump/flow"]},
    {"series": [f"pump-1/s{n}" for n in range(51)]},
    {"from": "soon"},
    {"to": "-30d"},
    {"max_points": 3},
    {"max_points": 4001},
    {"downsample": "lttb"},
    {"aggregate": "mean"},
    {"every": "0m"},
    {"every": "1"},
    {"every": "1y"},
    {"every": "²m"},
    {"every": "1m", "from": "2001-01-01T00:00:00Z"},
    {"every": "1m", "max_points": 10},
    {"cursor": "x"},
    {"cursor": cursor("readings", 5, [])},
    {"cursor": cursor("readings", 5, [6])},
    {"cursor": cursor("readings", 5, [-1])},
    {"cursor": cursor("readings", 5, ["1"])},
    {"cursor": cursor("events", 5, [1])},
    {"limit": 0},
    {"format": "xlsx"},
    {"min_position": "x"},
    {"series": [f"pump-1/s{n}" for n in range(50)], "limit": 4000},
]


async def test_what_can_not_be_answered_is_refused(api: Api) -> None:
    for query in UNANSWERABLE:
        await api.get("/v1/readings", 422, **FLOW | query)


async def test_csv_and_parquet_hold_what_json_does(api: Api) -> None:
    [flow, pressure] = (await api.get("/v1/readings", **BOTH, **WHOLE, limit=200))["series"]
    for accept, query in (("text/csv", {}), ("application/json, text/csv;q=0.1", {"format": "csv"})):
        answer = await api.http.get(
            "/v1/readings", params={**BOTH, **WHOLE, "limit": 200, **query}, headers={"Accept": accept}
        )
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert "Accept" in answer.headers["vary"]
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [row["sensor"] for row in rows] == ["flow"] * 200 + ["pressure"] * 200
        assert [float(row["value"]) for row in rows] == flow["value"] + pressure["value"]
        assert rows[0]["time"].startswith("2025-06-15 15:06:40")
        assert answer.headers["x-next-cursor"]
    answer = await api.http.get(
        "/v1/readings",
        params={**BOTH, **WHOLE, "limit": 200},
        headers={"Accept": "application/vnd.apache.parquet"},
    )
    table = pyarrow.parquet.read_table(io.BytesIO(answer.content))
    assert table.column("value").to_pylist() == flow["value"] + pressure["value"]
    assert str(table.schema.field("time").type) == "timestamp[us, tz=UTC]"
    for accept in ("image/png", "text/csv;q=0", "application/json;q=x"):
        answer = await api.http.get("/v1/readings", params=FLOW, headers={"Accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (406, "application/problem+json")
    for accept in ("*/*", "", "text/*;q=0.2, application/*"):
        answer = await api.http.get("/v1/readings", params=FLOW, headers={"Accept": accept})
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("form", ["csv", "parquet"])
async def test_an_export_is_the_whole_range(api: Api, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.api.series.EXPORT_CHUNK", 250)
    answer = await api.http.get("/v1/readings/export", params={**BOTH, **WHOLE, "format": form})
    assert "content-length" not in answer.headers
    assert f"readings.{form}" in answer.headers["content-disposition"]
    if form == "csv":
        values = [
            float(row["value"]) for row in csv.DictReader(io.StringIO(answer.text)) if row["sensor"] == "flow"
        ]
    else:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(answer.content))
        assert file.num_row_groups > 5
        rows = file.read().to_pylist()
        values = [row["value"] for row in rows if row["sensor"] == "flow"]
    assert values == FLOWS.tolist()
    empty = await api.http.get("/v1/readings/export", params={**FLOW, "to": "-20h", "format": form})
    assert (empty.status_code, len(empty.content) > 10) == (200, True)
    assert (await api.http.get("/v1/readings/export", params={"series": "a/b"})).status_code == 404
    assert (await api.http.get("/v1/readings/export", params={**FLOW, "format": "json"})).status_code == 422


async def test_an_answer_that_the_client_has_is_not_sent_again(api: Api) -> None:
    async def again(tag: str, **query: Any) -> int:  # noqa: ANN401 - text or number
        answer = await api.http.get(
            "/v1/readings", params={**FLOW, **WHOLE, **query}, headers={"If-None-Match": tag}
        )
        return answer.status_code

    first = await api.http.get("/v1/readings", params={**FLOW, **WHOLE})
    assert first.headers["cache-control"] == "private, no-cache"
    tag = first.headers["etag"]
    assert [await again(tag), await again(tag, format="csv"), await again('"x"')] == [304, 200, 200]
    await api.store.write([more(1)])
    assert await again(tag, to=T0 + 10**10) == 200


async def test_what_comes_into_the_store_is_in_the_next_answer(api: Api) -> None:
    later = {**FLOW, "from": T0, "to": T0 + 10**10}
    for rows in range(4):
        [part] = (await api.get("/v1/readings", **later))["series"]
        assert part["points"] == ROWS + rows
        await api.store.write([more(rows + 1)])


async def test_the_short_way_is_as_right_as_the_long_one(api: Api) -> None:
    api.live.touched.begin(SENSOR_READINGS, {})
    later: dict[str, Any] = {**FLOW, "from": T0, "to": T0 + 10**10}
    hits = []
    for rows in range(3):
        for _ in range(3):
            answer = await api.http.get("/v1/readings", params=later)
            assert answer.json()["series"][0]["points"] == ROWS + rows
            assert answer.headers["content-type"] == "application/json"
            again = await api.http.get(
                "/v1/readings", params=later, headers={"If-None-Match": answer.headers["etag"]}
            )
            assert again.status_code == 304
        hits.append(api.registry.get_sample_value("im_cache_requests_total", {"outcome": "hit"}))
        record = more(rows + 1).record
        span = T0 + (ROWS + rows) * STEP_US
        api.live.touched.touch(SENSOR_READINGS, "0", record.offset, "pump-1", (span, span))
        await api.store.write([more(rows + 1)])
    assert hits == [5, 10, 15]
    labels = {"method": "GET", "route": "/v1/readings", "status": "304"}
    assert api.registry.get_sample_value("im_http_requests_total", labels) == 9
    assert (await api.http.get("/v1/readings", params=later, headers={"Accept": "text/csv"})).text.startswith(
        '"mach'
    )
    assert (
        await api.http.get("/v1/readings", params=later, headers={"Authorization": "Bearer x"})
    ).status_code == 401


async def test_now_is_another_time_a_second_later(api: Api) -> None:
    clock = api.clock
    assert isinstance(clock, ManualClock)
    api.live.touched.begin(SENSOR_READINGS, {})
    for seconds in range(3):
        for _ in range(2):
            found = await api.get("/v1/readings", **FLOW, **{"from": "-1h"})
            assert found["to_us"] == T0 + (2 + seconds) * 1_000_000
        await clock.advance(1)


async def test_a_position_can_be_waited_for(api: Api) -> None:
    stands = (await api.store.positions())["sensor-readings"]["0"]
    assert (await ask(api, min_position=f"0-{stands}"))["next"] is None


async def test_anomalies_come_by_pages_with_their_ends(api: Api) -> None:
    found: list[tuple[str, bool]] = []
    query: dict[str, Any] = {"machine": "pump-1", "limit": 2}
    while True:
        page = await api.get("/v1/anomalies", **query)
        found += [(each["onset"][:10], each["ended_at"] is None) for each in page["anomalies"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert found == [(f"2026-01-0{day}", day == 5) for day in (5, 4, 3, 2, 1)]
    until = {"machine": "pump-1", "to": "2026-01-03T00:00:00Z"}
    assert len((await api.get("/v1/anomalies", **until))["anomalies"]) == 2
    csv_text = (await api.http.get("/v1/anomalies", params={"format": "csv"})).text
    assert len(list(csv.DictReader(io.StringIO(csv_text)))) == 6


async def test_events_are_found_by_type_and_time_and_come_by_pages(api: Api) -> None:
    ids: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        page = await api.get("/v1/events", **query)
        ids += [each["id"] for each in page["events"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert len(ids) == len(set(ids)) == 10
    ended = await api.get("/v1/events", type="anomaly.ended")
    assert {each["type"] for each in ended["events"]} == {"anomaly.ended"}
    assert len(ended["events"]) == 4
    both = await api.get("/v1/events", type=["anomaly.ended", "anomaly.started"], machine="pump-1")
    assert len(both["events"]) == 9
    day = {"from": "2026-01-03T00:00:00Z", "to": "2026-01-04T00:00:00Z"}
    assert len((await api.get("/v1/events", **day))["events"]) == 2
    answer = await api.http.get("/v1/events", params={"format": "parquet"})
    assert pyarrow.parquet.read_table(io.BytesIO(answer.content)).num_rows == 10
    for bad in ({"cursor": "x"}, {"limit": 1001}, {"from": "soon"}, {"type": ["x"] * 21}):
        await api.get("/v1/events", 422, **bad)
