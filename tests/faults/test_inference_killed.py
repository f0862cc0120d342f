"""The inference service killed again and again while a machine with no edge sends and clients ask: nothing lost or doubled.

Everything is real and a process of its own: broker and log, gateway, ingest, inference. The device speaks plain JSON.
"""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from cloud.ledger.audit import audit
from cloud.registry.app import decide_for, register
from cloud.telemetry.port import open_store
from shared.clock import SystemClock
from shared.eventlog import open_event_log
from shared.frame_codec import decode
from shared.frames import ScoreState
from shared.jetstream import default_budgets, ensure_topics
from shared.names import INFERENCE, SCORES
from shared.nats import open_control
from shared.paho import open_mqtt
from tests.parts import Part, gateway_part
from tests.servers import NatsServer
from tests.unit.edge_models import SECOND, SENSORS, UNITS, artifact, loaded, plant

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

ROWS = 400
KILLS = 2
TABLE = plant(ROWS, 5, fault_from=250)


async def test_killed_under_load_every_window_is_stored_once(
    nats_server: NatsServer, tmp_path: Path, seed: int
) -> None:
    server, rng, clock = nats_server, random.Random(seed), SystemClock()
    url, credentials = server.url, server.credentials
    await ensure_topics(url, credentials=credentials, budgets=default_budgets(server.max_file_store))
    store_url = f"sqlite:///{tmp_path / 'telemetry.db'}"
    log = {"nats_url": url, "credentials": credentials, "telemetry_url": store_url}
    gateway = gateway_part(server, tmp_path, direct=True, client_id="gateway-1")
    ingest = Part(tmp_path, "cloud run ingest", "ingest", log)
    inference = Part(tmp_path, "cloud run inference", "inference", log | {"token": "secret"})
    async with open_event_log(url, credentials=credentials) as events:
        async with open_control(url, credentials=credentials) as control:
            await control.ensure_buckets([], models_bytes=64 << 20)
            model = await register(events, control, artifact(), clock)
            await decide_for(events, model.version_hash, INFERENCE, clock)
        parts = [gateway.start(), ingest.start()]
        try:
            ingest.wait()
            gateway.wait()
            parts.append(inference.start())
            inference.wait()
            ended = asyncio.Event()
            asking = asyncio.create_task(ask(inference, ended))
            sending = asyncio.create_task(send(server))
            for _ in range(KILLS):
                scored = await events.end(SCORES)
                async with asyncio.timeout(60):
                    while await events.end(SCORES) == scored:  # this life must leave something
                        await asyncio.sleep(0.02)
                await asyncio.sleep(rng.uniform(0.0, 0.5))
                await asyncio.to_thread(inference.kill)
                inference.start()
                await asyncio.to_thread(inference.wait)
            first_us = await sending
            ended.set()
            answers = await asking
            async with open_store(store_url, read_only=True) as store:
                async with asyncio.timeout(60):
                    while (
                        not (found := await windows(store, "pump"))
                        or max(found) < first_us + (ROWS - 3) * SECOND
                    ):
                        await asyncio.sleep(0.1)
                judge(found, first_us)
                report = await audit(events, store, {})
                assert report.findings == ()
                assert report.rows_in_log == report.rows_in_store == ROWS * len(SENSORS)
                told = [each.fact.type for each in await store.events("pump")]
                assert told.count("anomaly.started") == 1
            epochs = {decode(each.value)[0].epoch async for each in events.read(SCORES)}
            assert len(epochs) == KILLS + 1
            assert answers > 20
        finally:
            for part in parts:
                part.stop()


async def send(server: NatsServer) -> int:
    """The device: all rows, some twenty a second, with rubbish between them."""
    first_us = (time.time_ns() // 1000 // SECOND - 3600) * SECOND
    async with open_mqtt(
        f"mqtt://127.0.0.1:{server.mqtt_port}",
        client_id="device",
        username="admin",
        password="secret",
        clean=True,
    ) as client:
        await client.connected.wait()
        for row, values in enumerate(TABLE.tolist()):
            for name, unit, value in zip(SENSORS, UNITS, values, strict=True):
                at_ms = (first_us + row * SECOND) // 1000
                payload = orjson.dumps({"ts": at_ms, "value": value, "unit": unit})
                await client.publish(f"plant/s1/pump/{name}", payload)
            if row % 50 == 0:
                await client.publish("plant/s1/pump/flow", b"\xff rubbish")
            await asyncio.sleep(0.04)
    return first_us


async def ask(inference: Part, ended: asyncio.Event) -> int:
    """Clients beside it; returns how many answers they had. While the service is down there are none, and never a 5xx."""
    answers = 0
    times = [1_700_000_000 * SECOND + row * SECOND for row in range(20)]
    columns = {name: TABLE[:20, at].tolist() for at, name in enumerate(SENSORS)}
    body = {
        "machine": "pump",
        "rows": {"time_us": times, "values": columns, "units": dict(zip(SENSORS, UNITS, strict=True))},
    }
    rubbish: list[Any] = [{}, [], {"machine": 7}, body | {"most": -1}, body | {"windows": {}}]
    wanted = float(loaded().scorer.score(TABLE[None, 12:20]).score[0])
    async with httpx.AsyncClient(base_url=inference.url, headers={"Authorization": "Bearer secret"}) as http:
        while not ended.is_set():
            try:
                good = await http.post("/v1/score", json=body)
                bad = await http.post("/v1/score", json=rubbish[answers % len(rubbish)])
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            if good.status_code != 503:  # the registry is read within the first moments
                assert good.status_code == 200, good.text
                assert good.json()["score"][0] == pytest.approx(wanted, rel=1e-6)
                answers += 1
            assert bad.status_code == 422, bad.text
            await asyncio.sleep(0.02)
    return answers


async def windows(store: Any, machine: str) -> dict[int, tuple[float, int]]:  # noqa: ANN401 - a reader
    """Right edge to score and state of each stored window."""
    found: dict[int, tuple[float, int]] = {}
    for part in await store.scores(machine, 0, 2**62, 10_000):
        for time_us, score, state in zip(
            part.time_us.tolist(), part.score.tolist(), part.state.tolist(), strict=True
        ):
            assert time_us not in found
            found[time_us] = score, state
    return found


def judge(found: dict[int, tuple[float, int]], first_us: int) -> None:
    """From the first window on without a hole, each with the score that its rows have."""
    edges = sorted(found)
    assert np.diff(edges).tolist() == [SECOND] * (len(edges) - 1)
    assert edges[0] <= first_us + 10 * SECOND
    for time_us in edges[20:]:
        row = (time_us - first_us) // SECOND
        score, state = found[time_us]
        assert state != ScoreState.UNSCORED
        wanted = float(loaded().scorer.score(TABLE[None, row - 7 : row + 1]).score[0])
        assert score == pytest.approx(wanted, rel=1e-6)
