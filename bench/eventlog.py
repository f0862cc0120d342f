"""Append throughput of the event log against a bare nats-py publish loop, in one run on one fresh server.

    python -m bench.eventlog [--seconds 5] [--bytes 4096]

Both sides get the same server (`sync_interval: always`: every confirmation follows a flush), the same payload and
the same number of callers that wait for their confirmation before they send again.
"""

import argparse
import asyncio
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
from nats.js.client import JetStreamContext

from industrialmind.embedded import EmbeddedNats
from shared import names
from shared.eventlog import EventLog, Record
from shared.jetstream import ensure_topics, open_jetstream
from shared.supervise import free_ports

CALLERS = (1, 16, 128)
BARE = "bare"

Send = Callable[[], Awaitable[object]]


async def measure(send: Send, callers: int, seconds: float) -> tuple[float, float, float]:
    """Confirmed appends a second, and their p50 and p99 in ms, with `callers` sending at once."""
    until = time.perf_counter() + seconds
    waits: list[float] = []

    async def caller() -> None:
        while (began := time.perf_counter()) < until:
            await send()
            waits.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    took = time.perf_counter() - began
    centiles = statistics.quantiles(waits, n=100)
    return len(waits) / took, 1000 * centiles[49], 1000 * centiles[98]


async def compare(server: EmbeddedNats, seconds: float, size: int) -> None:
    """Run both sides at each number of callers and print the table."""
    await server.wait_ready()
    admin = server.credentials("admin")
    await ensure_topics(server.nats_url, credentials=admin.userinfo)
    payload = bytes(size)
    print(f"{size} bytes a record, {seconds:g} s a cell, sync_interval: always")
    print(f"{'callers':>8} {'side':>10} {'records/s':>10} {'p50 ms':>8} {'p99 ms':>8}")
    client = await nats.connect(server.nats_url, user=admin.name, password=admin.password)
    stream = client.jetstream()
    await stream.add_stream(name=BARE, subjects=[f"{BARE}.>"])
    async with open_jetstream(server.nats_url, credentials=admin.userinfo) as log:
        for callers in CALLERS:
            rates = []
            for side, send in (("nats-py", bare(stream, payload)), ("event log", ours(log, payload))):
                rate, p50, p99 = await measure(send, callers, seconds)
                rates.append(rate)
                print(f"{callers:>8} {side:>10} {rate:>10.0f} {p50:>8.2f} {p99:>8.2f}")
            print(f"{'':>8} {'ratio':>10} {rates[1] / rates[0]:>10.2f}")
    await client.close()


def bare(stream: JetStreamContext, payload: bytes) -> Send:
    """A publish as nats-py does it."""
    return lambda: stream.publish(f"{BARE}.m1", payload, timeout=30)


def ours(log: EventLog, payload: bytes) -> Send:
    """An append through the port."""
    record = Record(payload)
    return lambda: log.append(names.SENSOR_READINGS, "m1", [record])


def main() -> None:
    """Start a server, compare, stop it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=5.0)
    options.add_argument("--bytes", type=int, default=4096)
    chosen = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-eventlog-"))
    nats_port, mqtt_port = free_ports(2)
    server = EmbeddedNats(folder, [], nats_port=nats_port, mqtt_port=mqtt_port)
    server.write_config()
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(server.command(), stderr=log)
    try:
        asyncio.run(compare(server, chosen.seconds, chosen.bytes))
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
