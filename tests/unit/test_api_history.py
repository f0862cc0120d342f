"""Curves, sensors and scores over HTTP: the application over a real store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cloud.telemetry.port import open_store
from shared.nats import open_control
from tests.models import SENSORS, STEP_US, healthy
from tests.servers import NatsServer
from tests.unit.api_parts import READINGS, Api, model, scores
from tests.unit.front_door import T0, readings


@pytest.fixture
async def api(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Api]:
    async with (
        open_store(f"sqlite:///{tmp_path}/t.db") as store,
        open_control(nats_server.url, credentials=nats_server.credentials) as control,
    ):
        await store.write([readings(1100)])
        made = Api(store, control)
        async with made.http:
            yield made


WHOLE = {"from": T0, "to": T0 + 1100 * STEP_US}


async def test_few_readings_are_given_as_they_are(api: Api) -> None:
    found = await api.get(f"{READINGS}/flow", **WHOLE)
    assert (found["points"], found["downsampled"], found["unit"]) == (1100, False, "l/min")
    assert (found["from_us"], found["to_us"]) == (WHOLE["from"], WHOLE["to"])
    assert found["time_us"] == [T0 + n * STEP_US for n in range(1100)]
    assert found["value"] == found["min"] == found["max"] == healthy(1100)[:, 1].tolist()
    assert found["quality"] == [0] * 1100


async def test_many_readings_become_buckets_that_leave_none_out(api: Api) -> None:
    found = await api.get(f"{READINGS}/flow", **WHOLE, max_points=100)
    values = healthy(1100)[:, 1].reshape(100, 11)
    assert (found["points"], found["downsampled"], len(found["value"])) == (1100, True, 100)
    assert found["value"] == pytest.approx(values.mean(axis=1).tolist())
    assert found["min"] == values.min(axis=1).tolist()
    assert found["max"] == values.max(axis=1).tolist()
    assert found["time_us"] == [T0 + (11 * n + 10) * STEP_US for n in range(100)]


async def test_times_are_given_in_many_ways_and_the_default_is_the_last_day(api: Api) -> None:
    # The clock stands two seconds after the first reading.
    assert (await api.get(f"{READINGS}/flow"))["points"] == 2
    found = await api.get(f"{READINGS}/flow", **{"from": "-1s", "to": "2025-06-15T15:06:50Z"})
    assert found["from_us"] == T0 + 1_000_000
    assert found["points"] == 9
    assert (await api.get(f"{READINGS}/flow", **{"from": "now", "to": T0 + 10**12}))["points"] == 1098


async def test_all_sensors_are_given_at_once(api: Api) -> None:
    series = (await api.get(READINGS, **WHOLE, max_points=10))["series"]
    assert [one["sensor"] for one in series] == sorted(SENSORS)
    assert all(len(one["time_us"]) == 10 and one["points"] == 1100 for one in series)
    [flow] = [one for one in series if one["sensor"] == "flow"]
    assert flow == await api.get(f"{READINGS}/flow", **WHOLE, max_points=10)


async def test_sensors_have_the_band_of_the_model_that_is_wanted(api: Api) -> None:
    found = (await api.get("/v1/machines/pump-1/sensors"))["sensors"]
    assert [one["sensor"] for one in found] == sorted(SENSORS)
    assert all(one["low"] is one["high"] is one["learnt"] is None for one in found)
    last = T0 + 1099 * STEP_US
    assert found[0]["last"] == {"time_us": last, "value": healthy(1100)[-1, 1], "quality": 0}

    spec = {"name": "flow", "unit": "l/min", "low": 48.5, "high": 83.25, "learnt": True, "required": True}
    api.answers["models"] = ([model(promoted_to=("edge-pump-1",), manifest={"sensors": [spec]})], {"0": 3})
    flow = (await api.get("/v1/machines/pump-1/sensors"))["sensors"][0]
    assert (flow["low"], flow["high"], flow["learnt"]) == (48.5, 83.25, True)


async def test_scores_keep_their_highest_and_name_their_model(api: Api) -> None:
    assert (await api.get("/v1/machines/pump-1/scores"))["contributions"] == []
    await api.store.write([scores(300)])
    whole = {"from": T0, "to": T0 + 10**9}
    found = await api.get("/v1/machines/pump-1/scores", **whole)
    assert (found["points"], found["downsampled"]) == (299, False)
    assert found["models"] == [{"name": "pump-1/window-pca", "version_hash": "ab" * 32}]
    assert set(found["limit"]) == {2.0}
    assert set(found["version_hash"]) == {0}
    assert found["contributions"] == [
        {"sensor": "flow", "share": 0.75},
        {"sensor": "pressure", "share": 0.25},
    ]
    few = await api.get("/v1/machines/pump-1/scores", **whole, max_points=13)
    assert (few["points"], few["downsampled"], len(few["score"])) == (299, True, 13)
    assert few["score"] == [max(found["score"][n : n + 23]) for n in range(0, 299, 23)]
