"""Ingest lets old rows go: all of them, in pieces, and not while the store is away."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from cloud.ingest.retention import Expirer
from cloud.ingest.settings import IngestSettings
from cloud.telemetry.port import DAY_US, HOUR_US, Entry, Retention, TelemetryStore, open_store
from shared.clock import ManualClock
from shared.errors import Unavailable
from shared.eventlog import Stored
from shared.frames import Header, Kind, Readings
from shared.names import SENSOR_READINGS


def frame(start_us: int, count: int) -> Entry:
    index = np.arange(count)
    body = Readings(
        ("t1",), ("degC",), index * 0, start_us + index * 1_000, index, index.astype(np.float64), np.zeros(count, np.uint8)
    )  # fmt: skip
    header = Header("s1", "edge-1", "pump-1", Kind.READINGS, b"e" * 16, 1, count)
    return Entry(Stored(SENSOR_READINGS, "pump-1", b"", {}, "0", 1, 0), header, body)


class Away:
    """A store that is away once."""

    def __init__(self, store: TelemetryStore) -> None:
        self._store = store
        self.asked = asyncio.Event()

    async def expire(self, retention: Retention, now_us: int) -> int:
        if not self.asked.is_set():
            self.asked.set()
            raise Unavailable("locked")
        return await self._store.expire(retention, now_us)


async def test_all_that_is_old_goes_in_pieces_once_the_store_is_there(tmp_path: Path) -> None:
    clock, registry = ManualClock(), CollectorRegistry()
    begin = clock.now_us() // HOUR_US * HOUR_US - 2 * DAY_US
    async with open_store(f"sqlite:///{tmp_path}/t.db") as store:
        await store.write([frame(begin, 12_000)])
        away = Away(store)
        expirer = Expirer(away, Retention(raw_us=DAY_US), clock, registry)  # type: ignore[arg-type]
        stop = asyncio.Event()
        task = asyncio.create_task(expirer.run(stop, every=0.001))
        async with asyncio.timeout(20):
            while registry.get_sample_value("im_ingest_expired_rows_total") != 12_000:
                await asyncio.sleep(0.005)
        stop.set()
        await task
        assert away.asked.is_set()
        assert await store.count("pump-1") == 0
        [hours] = await store.rollups("pump-1", None, HOUR_US, 0, begin + DAY_US)
        assert hours.rows.sum() == 12_000


def test_what_is_made_from_something_is_kept_as_long() -> None:
    def settings(**days: int) -> IngestSettings:
        return IngestSettings(nats_url="nats://h", telemetry_url="sqlite:///t.db", **days)  # type: ignore[arg-type]

    assert settings().retention == Retention()
    assert settings(retention_raw_days=0, retention_minute_days=0).retention == Retention(None, None, None)
    with pytest.raises(ValueError, match="as long as"):
        settings(retention_raw_days=500)
    with pytest.raises(ValueError, match="as long as"):
        settings(retention_hour_days=399)
