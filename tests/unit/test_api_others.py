"""Machines with no edge in the data API: what the log says of them, and what a look at store and assets finds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.api.looking import Looking
from cloud.assets.app import Owner
from cloud.assets.commands import Commands
from cloud.assets.model import Kind
from cloud.assets.port import By
from cloud.assets.sightings import Sightings
from cloud.assets.sql import open_assets
from cloud.telemetry.port import open_store
from shared.eventlog import Stored
from shared.events import AnomalyEnded, AnomalyStarted, at
from shared.frame_codec import encode
from shared.frames import Header, Scores
from shared.frames import Kind as FrameKind
from shared.jetstream import ensure_topics, open_jetstream
from shared.names import MACHINE_EVENTS, SCORES
from shared.nats import open_control
from shared.sqlalchemy import open_database
from tests.servers import NatsServer
from tests.unit.api_parts import Api, model, scores
from tests.unit.front_door import ONSET, T0, event, readings

EPISODE: dict[str, Any] = {
    "source": "cloud/inference",
    "subject": "pump-1",
    "rule": "anomaly",
    "onset": ONSET,
}
EPISODE |= {"edge": "inference-1", "limit": 2.0}


def started(seconds: int) -> AnomalyStarted:
    return AnomalyStarted(
        **EPISODE,
        occurred_at=at(T0 + seconds * 1_000_000),
        score=3.0,
        model="m",
        version_hash="ab" * 32,
        sensors=(),
    )


def ended(seconds: int) -> AnomalyEnded:
    return AnomalyEnded(**EPISODE, occurred_at=at(T0 + seconds * 1_000_000), peak_score=3.0)


def told(number: int, happened: AnomalyStarted | AnomalyEnded) -> Stored:
    return Stored(MACHINE_EVENTS, "pump-1", happened.to_json(), {}, "0", number, T0)


@pytest.fixture
async def api(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Api]:
    url, credentials = nats_server.url, nats_server.credentials
    await ensure_topics(url, credentials=credentials, max_file_store=1 << 28)
    async with (
        open_store(f"sqlite:///{tmp_path}/telemetry.db") as store,
        open_control(url, credentials=credentials) as control,
    ):
        await control.ensure_buckets(["edge-fan-1"])
        await control.assign("s1", "fan-1", "edge-fan-1")
        made = Api(store, control)
        made.answers["models"] = ([model(version=4, provisional=False)], {"0": 3})
        yield made


@contextlib.asynccontextmanager
async def following(api: Api) -> AsyncIterator[None]:
    task = asyncio.create_task(api.reported.follow())
    await api.until(lambda: api.reported.loaded)
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def looking(api: Api, assets: Any = None) -> Looking:  # noqa: ANN401 - a reader or none
    return Looking(api.live.fleet, api.store, lambda: api._answer("models"), assets, api.clock)


async def names(api: Api) -> list[str]:
    return [each["machine"] for each in (await api.get("/v1/machines"))["machines"]]


async def pump(api: Api) -> Any:  # noqa: ANN401 - JSON
    return await api.get("/v1/machines/pump-1/status")


async def test_what_the_store_has_is_shown_with_score_model_and_episode(api: Api) -> None:
    await api.store.write([readings(2), scores(3), event(9, started(1))])
    assert await names(api) == []  # whether it has an edge is not known before the assignments are
    async with following(api):
        await looking(api).look()
        assert await names(api) == ["fan-1", "pump-1"]
        found = await pump(api)
        assert (found["edge"], found["state"], found["limit"]) == ("", "anomalous", 2.0)
        assert found["model"] == {
            "name": "pump-1/window-pca", "version": 4, "version_hash": "ab" * 32, "provisional": False,
        }  # fmt: skip
        assert found["score"] is None  # the newest window had none
        assert {"flow", "pressure"} <= {last["sensor"] for last in found["last"]}
        assert found["data_age_seconds"] is not None
        # A machine that an edge takes over is the edge's, and shown once.
        await api.control.ensure_buckets(["edge-pump-1"])
        await api.control.assign("s1", "pump-1", "edge-pump-1")
        await api.until(lambda: len(api.reported.assignments) == 2)
        assert await names(api) == ["fan-1", "pump-1"]
        assert ((await pump(api))["edge"], (await pump(api))["model"]) == ("edge-pump-1", None)


async def test_the_log_is_ahead_of_the_store(api: Api) -> None:
    await api.store.write([readings(2), event(9, started(1))])
    async with following(api):
        look = looking(api)
        await look.look()
        assert (await pump(api))["state"] == "anomalous"
        body = Scores(
            "pump-1/window-pca", "ab" * 32, 2.0, ("flow",), np.array([T0]), np.array([0.5], np.float32),
            np.zeros(1, np.uint8), np.ones((1, 1), np.float32), np.ones((1, 1)),
        )  # fmt: skip
        header = Header("s1", "inference-1", "pump-1", FrameKind.SCORES, b"e" * 16, 1, 1)
        api.live.take(Stored(SCORES, "pump-1", encode(header, body), {}, "0", 1, T0))
        api.live.take(told(1, ended(2)))
        for _ in range(2):  # a store that is behind changes nothing
            found = await pump(api)
            assert (found["site"], found["state"], found["score"]) == ("s1", "normal", 0.5)
            await look.look()
        api.live.take(told(2, started(1)))  # the log brings old things again: it is over all the same
        assert (await pump(api))["state"] == "normal"


async def test_without_scores_it_is_learning_and_without_readings_unknown(api: Api) -> None:
    await api.store.write([readings(2)])
    async with following(api):
        await looking(api).look()
        assert ((await pump(api))["state"], (await pump(api))["model"]) == ("learning", None)
        api.live.fleet.others.take_site("new-1", "s2")
        assert (await api.get("/v1/machines/new-1/status"))["state"] == "unknown"
        await api.get("/v1/machines/none/status", 404)


async def test_who_is_retired_is_not_shown_and_who_is_made_by_hand_is(
    api: Api, nats_server: NatsServer, tmp_path: Path
) -> None:
    await api.store.write([readings(2)])
    async with (
        open_jetstream(nats_server.url, credentials=nats_server.credentials) as log,
        open_database(f"sqlite:///{tmp_path}/app.db", setting="api.app_url") as database,
        following(api),
    ):
        reader = await open_assets(database)
        owner = Owner(log, reader, api.clock)
        commands = Commands(owner, api.clock)
        await owner.see(Sightings(series=[("pump-1", "flow", "l/min")]))
        await commands.create(Kind.MACHINE, "hand-1", {}, By("ann", "1"))
        look = looking(api, reader)
        await look.look()
        assert await names(api) == ["fan-1", "hand-1", "pump-1"]
        await commands.retire(Kind.MACHINE, "pump-1", "sold", By("ann", "2"))
        await look.look()
        api.live.fleet.others.take_site("pump-1", "s1")  # it sends all the same
        assert await names(api) == ["fan-1", "hand-1"]
