"""Edge and gateway as real processes, killed and starved: every row that was committed is in the log, once."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared import names
from shared.eventlog import EventLog, open_event_log
from shared.frame_codec import decode
from shared.frames import Aggregates, Readings
from shared.jetstream import default_budgets, ensure_topics
from shared.nats import ControlPlane, open_control
from shared.paho import MqttClient, open_mqtt
from tests.parts import Part, edge_part, gateway_part
from tests.servers import NatsServer

pytestmark = [pytest.mark.e2e, pytest.mark.real]

WAIT = 60.0
KILLS = 2
START_MS = time.time_ns() // 1_000_000 - 3_600_000


class Far:
    """The far end: the log, what the edge reports, and a device."""

    def __init__(self, log: EventLog, control: ControlPlane, device: MqttClient) -> None:
        self.log, self._control, self._device = log, control, device
        self.sent = 0

    async def send(self, count: int) -> None:
        """A batch of readings, the n-th with value n and a time of its own; returns once the broker has it."""
        rows = [{"ts": START_MS + n, "value": n, "unit": "bar"} for n in range(self.sent, self.sent + count)]
        await self._device.publish("plant/s1/m1/pressure", orjson.dumps(rows))
        self.sent += count

    async def end(self) -> int:
        return (await self.log.end(names.SENSOR_READINGS)).get("0", 0)

    async def until_committed(self, edge: Part) -> None:
        """Return once the edge has given a row to all that was sent, or lets its devices wait for room."""
        async with asyncio.timeout(WAIT):
            while (await asyncio.to_thread(edge.get, "/readyz"))[0] != HTTPStatus.SERVICE_UNAVAILABLE:
                report = orjson.loads((await self._control.reported("e1")).get("ledger", b"{}"))
                if report.get("produced", 0) + report.get("waiting", 0) >= self.sent:
                    return
                await asyncio.sleep(0.05)
        assert "the outbox is full" in edge.said()

    async def until_drained(self) -> dict[str, Any]:
        """The edge's report once the log has all that was sent and the edge has nothing left."""
        async with asyncio.timeout(WAIT):
            while await self.told() < self.sent:
                await asyncio.sleep(0.2)
            while True:
                report: dict[str, Any] = orjson.loads((await self._control.reported("e1"))["ledger"])
                if not report["buffered"] and not report["waiting"]:
                    return report
                await asyncio.sleep(0.05)

    async def rows(self) -> list[tuple[bytes, int, float]]:
        """(epoch, row, value) of every reading in the log."""
        found: list[tuple[bytes, int, float]] = []
        async for record in self.log.read(names.SENSOR_READINGS):
            header, body = decode(record.value)
            if isinstance(body, Readings):
                found += [
                    (header.epoch, header.first + n, value) for n, value in enumerate(body.value.tolist())
                ]
        return found

    async def thinned(self) -> int:
        """How many readings aggregates in the log stand for, each aggregate once."""
        buckets: dict[tuple[bytes, int], int] = {}
        async for record in self.log.read(names.SENSOR_READINGS):
            header, body = decode(record.value)
            if isinstance(body, Aggregates):
                rows = {(header.epoch, header.first + n): int(count) for n, count in enumerate(body.rows)}
                assert rows.items() <= (buckets | rows).items(), "one row with two contents"
                buckets |= rows
        return sum(buckets.values())

    async def told(self) -> int:
        """How many readings the log has, as themselves or in an aggregate."""
        return len({value for _, _, value in await self.rows()}) + await self.thinned()

    async def assert_all_there_once(self) -> None:
        """After dropping resends (the same row again): each reading once, as itself or in one aggregate."""
        rows = set(await self.rows())
        assert len({(epoch, row) for epoch, row, _ in rows}) == len(rows), "one row with two values"
        raw = {value for _, _, value in rows}
        assert raw <= set(range(self.sent))
        assert len(raw) + await self.thinned() == self.sent


@asynccontextmanager
async def far_end(server: NatsServer) -> AsyncIterator[Far]:
    budgets = default_budgets(server.max_file_store)
    await ensure_topics(server.url, credentials=server.credentials, budgets=budgets)
    async with (
        open_event_log(server.url, credentials=server.credentials) as log,
        open_control(server.url, credentials=server.credentials) as control,
        open_mqtt(
            f"mqtt://127.0.0.1:{server.mqtt_port}", client_id="device", username="admin", password="secret"
        ) as device,
    ):
        await control.ensure_buckets(["e1"], models_bytes=1 << 20)
        await control.assign("s1", "m1", "e1")
        yield Far(log, control, device)


async def moved(end: Callable[[], Any], last: int) -> None:
    """Return as soon as the log has grown: its confirmation is on the way to the gateway, or was just read."""
    async with asyncio.timeout(WAIT):
        while await end() <= last:
            await asyncio.sleep(0)


async def test_a_gateway_killed_between_append_and_ack_loses_and_doubles_nothing(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    edge, gateway = edge_part(nats_server, tmp_path).start(), gateway_part(nats_server, tmp_path).start()
    try:
        async with far_end(nats_server) as far:
            await asyncio.gather(asyncio.to_thread(edge.wait), asyncio.to_thread(gateway.wait))
            stop = asyncio.Event()

            async def stream() -> None:
                while not stop.is_set():
                    await far.send(20)
                    await asyncio.sleep(0.002)

            streaming = asyncio.create_task(stream())
            for _ in range(KILLS):
                await moved(far.end, await far.end())
                gateway.kill()
                gateway.start()
                await asyncio.to_thread(gateway.wait)
            stop.set()
            await streaming
            report = await far.until_drained()
            assert report["acked"] == [[1, report["produced"]]]
            assert report["damaged"] == []
            await far.assert_all_there_once()
    finally:
        edge.stop()
        gateway.stop()


async def test_a_full_outbox_is_thinned_and_loses_nothing(nats_server: NatsServer, tmp_path: Path) -> None:
    edge = edge_part(nats_server, tmp_path, buffer={"max_bytes": 1 << 20}).start()
    gateway = gateway_part(nats_server, tmp_path)
    try:
        async with far_end(nats_server) as far:
            await asyncio.to_thread(edge.wait)
            for _ in range(90):
                await far.send(1000)
            await far.until_committed(edge)
            gateway.start()
            report = await far.until_drained()
            assert sum(last - first + 1 for first, last in report["degraded"]) >= await far.thinned() > 0
            await far.assert_all_there_once()
            assert (tmp_path / "e1" / "outbox.db").stat().st_size < 2 << 20
    finally:
        edge.stop()
        gateway.stop()
