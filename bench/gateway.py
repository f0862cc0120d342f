"""Readings a second through the gateway's plan and append, beside a bare nats-py publish of the same bytes.

The same nats-server, stream and frames for both: `publish` awaits a window of confirmations from JetStream with
nats-py and does nothing else; `gateway` checks each frame's header, groups, and appends through the log's port.
Run: python -m bench.gateway
"""

import asyncio
import tempfile
import time
from pathlib import Path

import nats
import numpy as np

from gateway.logic import Incoming, Planner
from shared.clock import SystemClock
from shared.device_json import parse_device
from shared.frame_codec import encode
from shared.frames import Header, Kind, Readings
from shared.jetstream import ensure_topics, open_jetstream
from shared.names import DeviceTopic
from tests.servers import NatsServer

MACHINES = 5
BATCH = 320  # 64 frames in flight from each of five edges
ASSIGNED = {f"m{i}": ("s1", f"e{i}") for i in range(MACHINES)}
EPOCH = bytes(16)


def frames(count: int, rows: int, start: int) -> list[Incoming]:
    """Frames of `rows` readings of four sensors, edge after edge, rows from `start`."""
    rng = np.random.default_rng(7)
    made = []
    for i in range(count):
        machine, turn = i % MACHINES, i // MACHINES
        times = np.arange(rows, dtype=np.int64) * 250_000 + 1_700_000_000_000_000
        body = Readings(
            ("inlet-pressure", "outlet-pressure", "flow", "temperature"),
            ("bar", "bar", "l/min", "degC"),
            np.arange(rows, dtype=np.int64) % 4,
            times,
            times + 1500,
            rng.normal(20, 1, rows),
            np.zeros(rows, np.uint8),
        )
        header = Header("s1", f"e{machine}", f"m{machine}", Kind.READINGS, EPOCH, start + turn * rows, rows)
        made.append(Incoming(f"im/v1/s1/e{machine}/frames", encode(header, body)))
    return made


async def through_gateway(server: NatsServer, batch: list[Incoming]) -> float:
    """Seconds to plan and append all."""
    planner, clock = Planner("gateway-1", EPOCH), SystemClock()
    async with open_jetstream(server.url, credentials=server.credentials) as log:
        started = time.perf_counter()
        for at in range(0, len(batch), BATCH):
            plan = planner.frames(batch[at : at + BATCH], ASSIGNED, now_us=clock.now_us())
            await asyncio.gather(
                *(log.append(group.topic, group.key, group.records) for group in plan.groups)
            )
        return time.perf_counter() - started


async def bare_publish(server: NatsServer, batch: list[Incoming]) -> float:
    """Seconds for nats-py to have all confirmed, a window at a time."""
    client = await nats.connect(server.url, user="admin", password="secret")  # noqa: S106 - the bench's own server
    context = client.jetstream(publish_async_max_pending=BATCH)
    started = time.perf_counter()
    for at in range(0, len(batch), BATCH):
        window = batch[at : at + BATCH]
        pending = [await context.publish_async("log.sensor-readings.m0", each.payload) for each in window]
        await asyncio.gather(*pending)
    took = time.perf_counter() - started
    await client.close()
    return took


def only_plan(batch: list[Incoming]) -> float:
    """Seconds for the plan alone, with no log."""
    planner = Planner("gateway-1", EPOCH)
    started = time.perf_counter()
    for at in range(0, len(batch), BATCH):
        planner.frames(batch[at : at + BATCH], ASSIGNED, now_us=0)
    return time.perf_counter() - started


def only_json() -> tuple[float, float]:
    """Readings a second of a device's JSON: batches of 1,000, and single messages."""
    topic = DeviceTopic("s1", "m1", "flow")
    item = b'{"ts":1700000000123.456,"value":20.25,"unit":"l/min","quality":"good"}'
    rates = []
    for payload, rows, repeats in ((b"[" + b",".join([item] * 1000) + b"]", 1000, 50), (item, 1, 20_000)):
        started = time.perf_counter()
        for _ in range(repeats):
            parse_device(topic, payload, now_us=1_800_000_000_000_000)
        rates.append(rows * repeats / (time.perf_counter() - started))
    return rates[0], rates[1]


async def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        server = NatsServer(Path(folder) / "nats", max_file_store=4 << 30).start()
        try:
            await ensure_topics(
                server.url, credentials=server.credentials, max_file_store=server.max_file_store
            )
            print(f"{'rows a frame':>12} {'way':>16} {'frames/s':>10} {'readings/s':>12}")
            for rows, count in ((1000, 3200), (20, 9600)):
                batch = frames(count, rows, start=1)
                ways = {
                    "plan alone": only_plan(batch),
                    "nats-py publish": await bare_publish(server, batch),
                    "gateway": await through_gateway(server, batch),
                }
                for way, seconds in ways.items():
                    print(f"{rows:>12} {way:>16} {count / seconds:>10,.0f} {count * rows / seconds:>12,.0f}")
        finally:
            server.stop()
    batched, single = only_json()
    print(f"device JSON: {batched:,.0f} readings/s in batches of 1,000, {single:,.0f} one by one")


if __name__ == "__main__":
    asyncio.run(main())
