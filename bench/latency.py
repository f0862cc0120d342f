"""From a sensor to the event log, through real processes on an idle plant, beside a bare MQTT hop on the same broker.

An edge agent and a gateway run as processes on one nats-server. A device publishes a reading every 50 ms whose event
time is the moment of sending, to the microsecond; every other one crosses a plain limit, so each makes an urgent event,
too. The log's own time of each record then says how long it took; no clock but this machine's is involved. `bare` is
publish → receive at QoS 1 with one client of each, at the same pace in the same run: the floor.
Run: python -m bench.latency (alone: a busy machine measures its other work)
"""

import asyncio
import os
import re
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson

from shared import names
from shared.eventlog import EventLog, open_event_log
from shared.frame_codec import decode
from shared.frames import Readings
from shared.jetstream import default_budgets, ensure_topics
from shared.nats import open_control
from shared.paho import MqttClient, open_mqtt
from tests.parts import Part, edge_part, gateway_part
from tests.servers import NatsServer

READINGS = 400
PACE_S = 0.05
TOKEN = "bench"  # noqa: S105 - the bench's own process
BUDGET_MS = {
    "sensor → commit": "p50 ≤ 2",
    "urgent event → log": "p50 ≤ 10, p99 ≤ 40",
    "telemetry → log": "≤ 110",
}


async def bare(sender: MqttClient, receiver: MqttClient) -> list[float]:
    """Milliseconds from publish to receive."""
    await receiver.subscribe("bare/x")
    took = []
    for _ in range(READINGS):
        await asyncio.sleep(PACE_S)
        started = time.perf_counter()
        publishing = asyncio.create_task(sender.publish("bare/x", b"x" * 80))
        received = await receiver.receive(1)
        took.append((time.perf_counter() - started) * 1e3)
        receiver.ack(received)
        await publishing
    return took


async def device(client: MqttClient) -> None:
    """One reading every 50 ms, stamped as it is sent."""
    for n in range(READINGS):
        await asyncio.sleep(PACE_S)
        row = {"ts": datetime.now(UTC).isoformat(), "value": 200.0 * (n % 2), "unit": "bar"}
        await client.publish("plant/s1/m1/pressure", orjson.dumps(row))


async def delays(log: EventLog) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds from the sensor to the edge's receipt, to the log by frame, and to the log as an event."""
    receipt: list[float] = []
    telemetry: list[float] = []
    urgent: list[float] = []
    async for record in log.read(names.SENSOR_READINGS):
        _, body = decode(record.value)
        if isinstance(body, Readings):
            receipt += ((body.arrival_us - body.time_us) / 1e3).tolist()
            telemetry += ((record.time_us - body.time_us) / 1e3).tolist()
    async for record in log.read(names.MACHINE_EVENTS):
        event = orjson.loads(record.value)
        if event["type"].startswith("limit."):
            urgent.append(record.time_us / 1e3 - datetime.fromisoformat(event["time"]).timestamp() * 1e3)
    return receipt, telemetry, urgent


def commit_quantile(edge: Part, share: float) -> float:
    """Milliseconds from receipt to durable, interpolated in the buckets of the edge's histogram."""
    _, text = edge.get("/metrics", TOKEN)
    found = re.findall(r'im_edge_commit_seconds_bucket\{le="([^"]+)"\} ([\d.e+]+)', text)
    edges = [0.0, *(float(bound) for bound, _ in found if bound != "+Inf")]
    counts = [0.0, *(float(count) for bound, count in found if bound != "+Inf")]
    return float(np.interp(share * float(found[-1][1]), counts, edges)) * 1e3


def show(name: str, took: Sequence[float], floor: float) -> None:
    """One line of the table."""
    p50, p99 = np.quantile(took, [0.5, 0.99])
    print(f"{name:24} {len(took):6} {p50:8.2f} {p99:8.2f} {p50 / floor:9.1f}   {BUDGET_MS.get(name, '')}")


async def measure(server: NatsServer, folder: Path) -> None:
    """Run the plant and print the table."""
    budgets = default_budgets(server.max_file_store)
    await ensure_topics(server.url, credentials=server.credentials, budgets=budgets)
    limits = {"m1": {"pressure": {"high": 100.0}}}
    edge = edge_part(server, folder, limits=limits, token=TOKEN, report_seconds=1.0)
    gateway = gateway_part(server, folder)

    def client(name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a context manager of a client
        return open_mqtt(
            f"mqtt://127.0.0.1:{server.mqtt_port}",
            client_id=name,
            username="admin",
            password="secret",  # noqa: S106
        )

    async with (
        open_event_log(server.url, credentials=server.credentials) as log,
        open_control(server.url, credentials=server.credentials) as control,
        client("device") as sensor,
        client("bare-out") as sender,
        client("bare-in") as receiver,
    ):
        await control.ensure_buckets(["e1"], models_bytes=1 << 20)
        await control.assign("s1", "m1", "e1")
        try:
            for part in (edge.start(), gateway.start()):
                await asyncio.to_thread(part.wait)
            floor, _ = await asyncio.gather(bare(sender, receiver), device(sensor))
            await asyncio.sleep(1.0)  # the last frame's cut
            receipt, telemetry, urgent = await delays(log)
            commit = commit_quantile(edge, 0.5), commit_quantile(edge, 0.99)
        finally:
            edge.stop()
            gateway.stop()
    middle = float(np.median(floor))
    print(
        f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores: above 1, these are a busy machine's figures"
    )
    print(f"{'idle plant, ms':24} {'n':>6} {'p50':>8} {'p99':>8} {'floors':>9}   budget")
    show("bare MQTT hop (floor)", floor, middle)
    show("sensor → edge's receipt", receipt, middle)
    print(
        f"{'receipt → commit':24} {'':6} {commit[0]:8.2f} {commit[1]:8.2f} {commit[0] / middle:9.1f}   (histogram)"
    )
    both = float(np.median(receipt)) + commit[0]
    print(
        f"{'sensor → commit':24} {'':6} {both:8.2f} {'':8} {both / middle:9.1f}   {BUDGET_MS['sensor → commit']} (sum)"
    )
    show("urgent event → log", urgent, middle)
    show("telemetry → log", telemetry, middle)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        server = NatsServer(Path(folder) / "nats").start()
        try:
            asyncio.run(measure(server, Path(folder)))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
