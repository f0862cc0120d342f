"""A gateway that was away while its session's queue grew to a million messages, through a restart of the broker."""

import asyncio
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest

from deploy.servers.kafka import Kafka
from deploy.servers.mosquitto import Mosquitto
from deploy.servers.nats import Nats
from shared import kafka
from shared.eventlog import open_event_log
from shared.frame_codec import decode
from shared.frames import Readings
from shared.names import SENSOR_READINGS
from shared.nats import open_control
from tests.faults.flood import MACHINES, flood
from tests.faults.rounds import MINUTES
from tests.parts import Part

TOKEN = "metrics"
CARRIED = 'im_gateway_messages_total{lane="direct"}'
MESSAGES = 1_000_000
RSS_MB = 150.0
DRAIN_S = 1800.0


class PatientMosquitto(Mosquitto):
    """A broker whose files take long to write and to read."""

    ready_s: ClassVar[float] = 300.0
    stop_s: ClassVar[float] = 300.0


@pytest.mark.real
@pytest.mark.timeout(30 * MINUTES)
def test_a_million_messages_queued_on_disk_drain_in_bounded_memory(tmp_path: Path) -> None:
    count, start_ms = MESSAGES, time.time_ns() // 1_000_000 - 3_600_000
    # Saved at an orderly stop alone: else the whole queue is written again every few seconds while it grows.
    broker = PatientMosquitto(tmp_path / "mqtt", settings={"autosave_interval": "0"})
    with broker, Nats(tmp_path / "nats", sync="1s") as nats, Kafka(tmp_path / "kafka") as log:
        asyncio.run(_set_up(nats, log))
        gateway = _gateway(tmp_path, broker, nats, log)
        try:
            gateway.start().wait()
            gateway.stop()
            begun = time.monotonic()
            asyncio.run(flood(broker.port, broker.credentials, count, start_ms))
            published = time.monotonic() - begun
            broker.stop()
            size = (broker.folder / "mosquitto.db").stat().st_size
            assert size > count * 50, "the queue is not on the disk"
            broker.start()
            begun = time.monotonic()
            peak = _drained(gateway.start(), count)
            took = time.monotonic() - begun
        finally:
            gateway.kill()
        seen, again = asyncio.run(_seen(log, count, start_ms))
        sys.stdout.write(
            f"{count:,} messages: published in {published:.0f} s, {size / 1e6:.0f} MB on the broker's disk, drained in "
            f"{took:.0f} s ({count / took:,.0f} a second), the gateway took at most {peak:.0f} MB; "
            f"{again} readings came twice\n"
        )
        assert seen == count
        assert peak < RSS_MB


def _gateway(folder: Path, broker: Mosquitto, nats: Nats, log: Kafka) -> Part:
    settings = {
        "mqtt_url": broker.url,
        "mqtt_username": broker.username,
        "mqtt_password": broker.password,
        "nats_url": nats.url,
        "credentials": nats.credentials,
        "log_url": log.url,
        "token": TOKEN,
    }
    return Part(folder / "gateway", "gateway run", "gateway", settings)


def _drained(gateway: Part, count: int) -> float:
    """Wait until the gateway acknowledged so many messages; returns its largest resident memory in MB."""
    process = psutil.Process(gateway.pid)
    until = time.monotonic() + DRAIN_S
    peak = 0.0
    while gateway.figures(TOKEN).get(CARRIED, 0.0) < count:
        assert gateway.ended is None, gateway.said()
        assert time.monotonic() < until, gateway.said()
        peak = max(peak, process.memory_info().rss / 1e6)
        time.sleep(0.1)  # between two looks
    return peak


async def _set_up(nats: Nats, log: Kafka) -> None:
    await kafka.ensure_topics(log.url)
    async with open_control(nats.url, credentials=nats.credentials) as control:
        await control.ensure_buckets([], models_bytes=1 << 20)


async def _seen(log: Kafka, count: int, start_ms: int) -> tuple[int, int]:
    """How many of the readings the log holds with their value and time, and how many came again."""
    found = np.zeros(count, np.int64)
    async with open_event_log(log.url) as event_log:
        async for record in event_log.read(SENSOR_READINGS):
            header, body = decode(record.value)
            assert isinstance(body, Readings)
            number = body.value.astype(np.int64)
            assert np.array_equal(body.time_us, (start_ms + number) * 1000)
            assert set((number % MACHINES).tolist()) == {int(header.machine.removeprefix("d"))}
            np.add.at(found, number, 1)
    return int((found > 0).sum()), int((found - 1).clip(0).sum())
