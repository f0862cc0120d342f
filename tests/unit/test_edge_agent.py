"""The whole agent against a real nats-server: devices in, frames out, models by the control plane, deaths between."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from edge.agent import run
from edge.outbox_file import OutboxFile
from edge.settings import EdgeSettings
from shared.clock import ManualClock
from shared.dead_letter import DeadLetter
from shared.errors import Unavailable
from shared.events import (
    AnomalyStarted,
    EdgeStarted,
    Event,
    ModelActivated,
    ModelRefused,
    parse_event,
)
from shared.frame_codec import decode
from shared.frames import Kind, Scores
from shared.machine_events import LimitCrossed
from shared.nats import ControlPlane, open_control
from shared.packing import Item, pieces
from shared.paho import MqttClient, open_mqtt
from shared.uplink import Ack
from tests.servers import NatsServer
from tests.unit.edge_models import SENSORS, UNITS, artifact, desired, plant, rows

WAIT = 30.0
START_MS = time.time_ns() // 1_000_000 - 600_000


async def until(holds: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        await asyncio.sleep(0.01)


class Gateway:
    """The far end: keeps every frame, acks while it is told to."""

    def __init__(self, client: MqttClient) -> None:
        self._client = client
        self.acking = True
        self.frames: dict[tuple[bytes, int], bytes] = {}
        self.copies = 0

    async def run(self) -> None:
        while True:
            messages = await self._client.receive(100)
            for message in messages:
                header, _ = decode(message.payload)
                assert message.topic.endswith("urgent" if header.kind is Kind.EVENT else "frames")
                known = self.frames.setdefault((header.epoch, header.first), message.payload)
                assert known == message.payload, "a resend differs"
                self.copies += 1
                if self.acking:
                    ack = Ack("e1", header.epoch, ((header.first, header.last),))
                    await self._client.publish("im/v1/s1/e1/acks", ack.encode())
            self._client.ack(messages)

    def bodies(self, kind: Kind) -> list[Any]:
        found = [decode(data) for data in self.frames.values()]
        return [body for header, body in found if header.kind is kind]

    def rows(self) -> list[float]:
        return sorted(v for body in self.bodies(Kind.READINGS) for v in body.value.tolist())

    def events(self) -> list[Event]:
        return [parse_event(record) for body in self.bodies(Kind.EVENT) for record in body.record]


def settings(server: NatsServer, folder: Path, **more: Any) -> EdgeSettings:  # noqa: ANN401
    mqtt = {"url": f"mqtt://127.0.0.1:{server.mqtt_port}", "username": "admin", "password": "secret"}
    base = {
        "site": "s1",
        "edge": "e1",
        "machines": ["pump", "fan"],
        "folder": str(folder / "edge"),
        "devices": mqtt | {"client_id": "e1-devices"},
        "uplink": mqtt | {"client_id": "e1-uplink"},
        "nats_url": server.url,
        "credentials": server.credentials,
        "report_seconds": 0.2,
        "limits": {"fan": {"speed": {"high": 100.0}}},
    }
    return EdgeSettings.load(flags=base | more, environ={})


@asynccontextmanager
async def agent(chosen: EdgeSettings) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    task = asyncio.create_task(run(chosen, stop))
    try:
        yield task
    finally:
        stop.set()
        await task


@asynccontextmanager
async def gateway(server: NatsServer) -> AsyncIterator[Gateway]:
    url = f"mqtt://127.0.0.1:{server.mqtt_port}"
    async with open_mqtt(url, client_id="gateway", username="admin", password="secret") as client:
        await client.subscribe("im/v1/s1/e1/frames", "im/v1/s1/e1/urgent")
        far = Gateway(client)
        task = asyncio.create_task(far.run())
        try:
            yield far
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def device(server: NatsServer) -> AsyncIterator[MqttClient]:
    url = f"mqtt://127.0.0.1:{server.mqtt_port}"
    async with open_mqtt(url, client_id="device", username="admin", password="secret") as client:
        yield client


@asynccontextmanager
async def control(server: NatsServer) -> AsyncIterator[ControlPlane]:
    async with open_control(server.url, credentials=server.credentials) as plane:
        await plane.ensure_buckets(["e1"], models_bytes=64 << 20)
        yield plane


async def publish(
    client: MqttClient,
    machine: str,
    sensor: str,
    *values: float,
    first: int = 0,
    unit: str = "mm",
    every_ms: int = 1000,
) -> None:
    batch = [
        {"ts": START_MS + (first + n) * every_ms, "value": v, "unit": unit} for n, v in enumerate(values)
    ]
    payload = orjson.dumps(batch if len(batch) > 1 else batch[0])
    await client.publish(f"plant/s1/{machine}/{sensor}", payload)


async def register_session(server: NatsServer) -> None:
    """As after the agent's first start: its broker keeps what devices publish while it is away."""
    url = f"mqtt://127.0.0.1:{server.mqtt_port}"
    async with open_mqtt(url, client_id="e1-devices", username="admin", password="secret") as client:
        await client.subscribe("plant/s1/pump/+", "plant/s1/fan/+")


async def state(plane: ControlPlane, key: str = "state") -> Any:  # noqa: ANN401
    try:
        found = await plane.reported("e1")
    except Unavailable:
        return {}
    return orjson.loads(found[key]) if key in found else {}


async def reported(plane: ControlPlane, holds: Callable[[Any], Any], what: str, key: str = "state") -> Any:  # noqa: ANN401
    deadline = time.monotonic() + WAIT
    while not ((found := await state(plane, key)) and holds(found)):
        assert time.monotonic() < deadline, f"waited in vain until {what}: {found}"
        await asyncio.sleep(0.02)
    return found


async def test_readings_rejects_and_limits_reach_the_gateway_and_are_freed(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    await register_session(nats_server)
    async with (
        control(nats_server) as plane,
        gateway(nats_server) as far,
        agent(settings(nats_server, tmp_path)),
        device(nats_server) as client,
    ):
        await until(far.events, "the agent says that it came up")
        assert isinstance(far.events()[0], EdgeStarted)
        await publish(client, "pump", "level", *range(50))
        await publish(client, "fan", "speed", 101.0, unit="rpm")
        await client.publish("plant/s1/pump/level", b"not json")
        await client.publish("plant/s1/pump/Bad_Sensor", b"{}")
        bad = [
            {"ts": START_MS, "value": float("nan"), "unit": "mm"},
            {"ts": START_MS + 99, "value": 7, "unit": "mm"},
        ]
        await client.publish("plant/s1/pump/other", orjson.dumps(bad))
        await until(lambda: len(far.rows()) == 52, "all readings are there")
        await until(lambda: len(far.bodies(Kind.REJECT)) >= 1, "the dead letters are there")
        await until(
            lambda: sum(len(body) for body in far.bodies(Kind.REJECT)) == 3,
            "all three dead letters are there",
        )
        letters = [DeadLetter.decode(r) for body in far.bodies(Kind.REJECT) for r in body.record]
        assert all(letter.source == "e1" and letter.reason for letter in letters)
        await until(
            lambda: any(isinstance(e, LimitCrossed) for e in far.events()), "the limit's event is there"
        )
        ledger = await reported(
            plane, lambda x: x["buffered"] == [] and x["waiting"] == 0, "all is freed", "ledger"
        )
        counts = {m: sum(count for count, _ in hours.values()) for m, hours in ledger["tally"].items()}
        assert counts == {"pump": 51, "fan": 1}
        assert ledger["produced"] == 52 + 3 + len(far.events())
        found = (await state(plane))["machines"]
        assert found["pump"]["state"] == "learning"
        assert found["pump"]["last"]["level"]["value"] == 49
        behind_us = START_MS * 1000 - time.time_ns() // 1000
        assert found["fan"]["skew_us"] == pytest.approx(behind_us, abs=60e6)
        assert found["pump"]["skew_us"] is None


async def test_a_model_is_delivered_scores_swaps_and_bad_ones_are_refused(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    chosen = settings(nats_server, tmp_path)
    await register_session(nats_server)
    async with control(nats_server) as plane, gateway(nats_server) as far, device(nats_server) as client:
        good, better = artifact(), artifact(seed=9)
        wanted = desired(good)

        async def deliver(data: bytes, version: int, machine: str = "pump", **more: str) -> None:
            spec = desired(data, version).to_dict() | more
            if not more.get("object"):
                await plane.put_model(spec["object"], data)
            await plane.desire("e1", machine, orjson.dumps(spec))

        async def feed(table: "np.ndarray[Any, Any]", first: int) -> None:
            for at, row in enumerate(table):
                for sensor, unit, value in zip(SENSORS, UNITS, row, strict=True):
                    await publish(client, "pump", sensor, float(value), first=first + at, unit=unit)

        async with agent(chosen):
            await deliver(good, 1)
            await feed(plant(30, 3), 0)
            await reported(
                plane, lambda x: x["machines"]["pump"]["sha256"] == wanted.sha256, "the model runs"
            )
            await publish(client, "fan", "speed", *range(5), unit="rpm")
            await plane.desire("e1", "pump", b"{")
            await reported(
                plane, lambda x: "desired" in x["machines"]["pump"]["refused"], "nonsense is refused"
            )
            await deliver(good, 2, object="absent", sha256="0" * 64)
            await reported(
                plane, lambda x: "object store" in x["machines"]["pump"]["refused"], "absence is told"
            )
            await plane.put_model("half", better[: len(better) // 2])
            await deliver(better, 3, object="half")
            await reported(
                plane, lambda x: "hash" in x["machines"]["pump"]["refused"], "half a file is refused"
            )
            await deliver(good, 4, machine="fan")
            await reported(
                plane, lambda x: "not for fan" in x["machines"]["fan"]["refused"], "a foreign model"
            )
            await deliver(better, 5)
            await reported(plane, lambda x: x["machines"]["pump"]["version"] == 5, "the second model runs")
            await feed(plant(40, 4, fault_from=0), 30)
            found = await reported(
                plane, lambda x: x["machines"]["pump"]["state"] == "anomalous", "the fault shows"
            )
            lead = found["machines"]["pump"]["leading"][0]
            assert lead["sensor"] == "temperature"
            assert lead["seen"] > lead["expected"]
            await until(
                lambda: any(isinstance(e, AnomalyStarted) for e in far.events()), "the event is there"
            )
            await until(lambda: len(far.rows()) == 70 * 3 + 5, "every row is there")
        kinds = [type(event) for event in far.events()]
        assert kinds.count(ModelActivated) == 2
        assert kinds.count(ModelRefused) == 4
        stamps = [
            t for body in far.bodies(Kind.SCORES) if isinstance(body, Scores) for t in body.time_us.tolist()
        ]
        assert len(stamps) == len(set(stamps))
        # A restart with no network: the model on disk is at work at once.
        nats_server.stop()
        async with agent(chosen) as task:
            await asyncio.sleep(0)
            assert not task.done()
        nats_server.start()
        async with agent(chosen):
            found = await reported(plane, lambda x: x["machines"]["pump"]["version"] == 5, "it runs again")
            assert found["machines"]["pump"]["state"] == "anomalous"


async def test_no_row_is_lost_when_the_broker_dies_and_acks_fail(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    chosen = settings(nats_server, tmp_path, nats_url="")
    await register_session(nats_server)
    async with gateway(nats_server) as far, device(nats_server) as client:
        async with agent(chosen):
            await publish(client, "pump", "level", *range(40))
            await until(lambda: len(far.rows()) == 40, "the first rows are there")
            far.acking = False
            await publish(client, "pump", "level", *range(100, 140), first=100)
            await until(lambda: len(far.rows()) == 80, "the second rows are there, unacknowledged")
        copies = far.copies
        far.acking = True
        nats_server.kill()
        async with agent(chosen):
            nats_server.start()
            await until(lambda: far.copies > copies, "what was not acknowledged comes again")
            await publish(client, "pump", "level", *range(200, 240), first=200)
            await until(lambda: len(far.rows()) == 120, "the third rows are there")
            folder = chosen.outbox_path
    assert far.rows() == [float(v) for v in (*range(40), *range(100, 140), *range(200, 240))]
    epochs = {epoch for epoch, _ in far.frames}
    assert len(epochs) == 1
    file = OutboxFile(folder, site="s1", edge="e1", max_bytes=1 << 30, clock=ManualClock())
    numbers = sorted((h.first, h.last) for h in (decode(data)[0] for data in far.frames.values()))
    kept = [(ref.first, ref.last) for ref in file.frames()]
    file.close()
    at = 1
    for first, last in sorted({*numbers, *kept}):
        assert first == at
        at = last + 1


async def test_rotten_rows_are_reported_and_neither_sent_nor_in_the_way(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    path = tmp_path / "edge" / "outbox.db"
    file = OutboxFile(path, site="s1", edge="e1", max_bytes=1 << 30, clock=ManualClock())
    for first in (0, 10):  # twelve rows in a frame, twelve more waiting
        with file.transaction():
            file.append(pieces([Item("pump", Kind.READINGS, rows(plant(4, 1), first))]))
            if not first:
                file.cut(partial=True)
    file.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE frames SET data = substr(data, 1, length(data) - 4) || x'00000000'")
        db.execute("UPDATE waiting SET body = substr(body, 1, length(body) - 4) || x'00000000'")
    db.close()
    await register_session(nats_server)
    async with (
        control(nats_server) as plane,
        gateway(nats_server) as far,
        agent(settings(nats_server, tmp_path)),
        device(nats_server) as client,
    ):
        await publish(client, "pump", "level", *range(50))
        await until(lambda: len(far.rows()) == 50, "the whole rows are there")
        ledger = await reported(
            plane, lambda x: x["buffered"] == [] and x["waiting"] == 0, "all is freed", "ledger"
        )
        assert sum(last - first + 1 for first, last in ledger["damaged"]) == 24
        assert (await state(plane))["outbox"]["damaged"] == 24
        assert far.bodies(Kind.REJECT) == []


async def test_a_full_outbox_leaves_messages_with_the_broker(nats_server: NatsServer, tmp_path: Path) -> None:
    """Readings so rare that thinning would gain nothing: what does not fit waits."""
    chosen = settings(nats_server, tmp_path, nats_url="", buffer={"max_bytes": 1 << 20})
    values = np.random.default_rng(1).normal(size=(60, 1000))
    await register_session(nats_server)
    async with gateway(nats_server) as far, device(nats_server) as client:
        far.acking = False
        async with agent(chosen):
            for number, row in enumerate(values):
                first = -(number + 1) * 1000
                await publish(client, "pump", "level", *row.tolist(), first=first, every_ms=70_000)
            await until(lambda: len(far.rows()) > 20_000, "the outbox is filling")
        assert len(far.rows()) < values.size
        far.acking = True
        async with agent(chosen):
            await until(lambda: len(set(far.rows())) == values.size, "everything is there after all")
    assert sorted(set(far.rows())) == sorted(values.reshape(-1).tolist())


def test_the_agent_is_light() -> None:
    script = """
import importlib, pkgutil, sys
import edge
for module in pkgutil.iter_modules(edge.__path__, "edge."):
    importlib.import_module(module.name)
heavy = {"torch", "pandas", "fastapi", "sklearn", "onnx", "uvicorn", "chromadb", "mlflow"} & set(sys.modules)
heavy |= {"langchain", "langchain_core", "dash", "sqlalchemy", "scipy"} & set(sys.modules)
assert not heavy, heavy
import psutil
print(psutil.Process().memory_info().rss)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 130_000_000
