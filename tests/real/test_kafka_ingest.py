"""Ingest beside a Kafka that is frozen: it says so, and goes on by itself when Kafka does."""

import asyncio
from pathlib import Path

import httpx
import pytest

from cloud.ingest.app import run
from cloud.ingest.logic import TOPICS
from cloud.ingest.settings import IngestSettings
from cloud.telemetry.port import open_store
from deploy.servers.kafka import Kafka
from shared import names
from shared.eventlog import Record, open_event_log
from shared.kafka import ensure_topics
from shared.supervise import free_ports
from tests.unit.test_ledger_logic import frame

pytestmark = pytest.mark.real


async def test_it_is_not_ready_while_kafka_is_frozen(tmp_path: Path, kafka: Kafka) -> None:
    await ensure_topics(kafka.url, topics=TOPICS, partitions=2)
    settings = IngestSettings(
        nats_url="nats://127.0.0.1:1",
        log_url=kafka.url,
        telemetry_url=f"sqlite:///{tmp_path}/t.db",
        group="frozen",
        port=free_ports(1)[0],
    )
    stop = asyncio.Event()
    task = asyncio.create_task(run(settings, stop))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}") as client:

        async def until(status: int) -> None:
            async with asyncio.timeout(40):
                while True:
                    try:
                        if (await client.get("/readyz")).status_code == status:
                            return
                    except httpx.TransportError:
                        assert not task.done()
                    await asyncio.sleep(0.1)

        await until(200)
        kafka.pause()
        try:
            await until(503)
        finally:
            kafka.resume()
        await until(200)
        row = frame(1, 3, offset=1, edge="edge-frozen", at=0)
        async with open_event_log(kafka.url) as log:
            await log.append(names.SENSOR_READINGS, "m1", [Record(row.value)])
        async with open_store(settings.telemetry_url, read_only=True) as store, asyncio.timeout(40):
            while not await store.stored_ranges("edge-frozen"):
                await asyncio.sleep(0.1)
    stop.set()
    await task
