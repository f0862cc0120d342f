"""Append throughput of the event log on both backends against the bare driver, in one run on fresh servers.

    python -m bench.eventlog [--seconds 5] [--bytes 4096] [--only jetstream|kafka]

JetStream: both sides get the same server (`sync_interval: always`: every confirmation follows a flush), the same
payload and the same number of callers that wait for their confirmation before they send again.

Kafka: idempotent, `acks=all`, lz4 on both sides; the bare one is a plain loop of `produce` and `poll` with a callback a
record and as much in flight. Rounds alternate; the median of three counts. Records differ, so compression has work.
"""

import argparse
import asyncio
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import nats
from confluent_kafka import KafkaError, Message, Producer
from nats.js.client import JetStreamContext

from deploy.servers.kafka import Kafka
from industrialmind.embedded import EmbeddedNats
from shared import kafka, names
from shared.eventlog import EventLog, Record
from shared.jetstream import ensure_topics, open_jetstream
from shared.kafka import KafkaOptions
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


class Form(NamedTuple):
    """What is appended: records an append, their size, and callers at once."""

    records: int
    size: int
    callers: int


FORMS = (Form(1000, 150, 8), Form(1, 150, 128), Form(1, 20_000, 32))


async def compare_kafka(url: str, seconds: float) -> None:
    """Run both sides with each form and print the table."""
    await kafka.ensure_topics(url, topics=(), named={BARE: 1, names.SENSOR_READINGS: 1})
    print("Kafka, one broker, records/s and µs of CPU a record (both sides' whole process)")
    print(f"{'append':>18} {'side':>16} {'records/s':>10} {'CPU µs':>8}")
    async with kafka.open_kafka(url) as log:
        for form in FORMS:
            values = [random.randbytes(form.size // 2).hex().encode() for _ in range(1000)]
            sides: dict[str, list[tuple[float, float]]] = {"confluent-kafka": [], "event log": []}
            for _ in range(3):
                sides["confluent-kafka"].append(await asyncio.to_thread(bare_kafka, url, values, seconds))
                sides["event log"].append(await kafka_log(log, values, form, seconds))
            rates = []
            for side, rounds in sides.items():
                rate, cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
                rates.append(rate)
                print(f"{f'{form.records} x {form.size} B':>18} {side:>16} {rate:>10.0f} {cpu:>8.2f}")
            print(f"{'':>18} {'ratio':>16} {rates[1] / rates[0]:>10.2f}")


def bare_kafka(url: str, values: Sequence[bytes], seconds: float) -> tuple[float, float]:
    """Records a second and µs of CPU a record of a plain produce loop."""
    producer = Producer(
        {
            "bootstrap.servers": url.removeprefix("kafka://"),
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 1,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    confirmed = 0

    def report(error: KafkaError | None, _: Message) -> None:
        nonlocal confirmed
        confirmed += error is None

    most = min(KafkaOptions().in_flight_records, KafkaOptions().in_flight_bytes // len(values[0]))
    began, used = time.perf_counter(), time.process_time()
    while time.perf_counter() < began + seconds:
        for value in values[:: max(1, 1000 // most)]:
            producer.produce(BARE, value, b"m1", on_delivery=report)
        producer.poll(0)
        while len(producer) > most:
            producer.poll(0.001)
    producer.flush(60)
    took = time.perf_counter() - began
    return confirmed / took, 1e6 * (time.process_time() - used) / confirmed


async def kafka_log(
    log: EventLog, values: Sequence[bytes], form: Form, seconds: float
) -> tuple[float, float]:
    """The same through the port."""
    records = [Record(value) for value in values]
    until = time.perf_counter() + seconds
    confirmed = 0

    async def caller(first: int) -> None:
        nonlocal confirmed
        at = first
        while time.perf_counter() < until:
            part = records if form.records == len(records) else records[at : at + form.records]
            await log.append(names.SENSOR_READINGS, "m1", part)
            confirmed += len(part)
            at = (at + form.records) % len(records)

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller(7 * n) for n in range(form.callers)))
    took = time.perf_counter() - began
    return confirmed / took, 1e6 * (time.process_time() - used) / confirmed


def main() -> None:
    """Start each server, compare, stop it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=5.0)
    options.add_argument("--bytes", type=int, default=4096)
    options.add_argument("--only", choices=["jetstream", "kafka"])
    chosen = options.parse_args()
    if chosen.only != "kafka":
        on_jetstream(chosen.seconds, chosen.bytes)
    if chosen.only != "jetstream":
        with tempfile.TemporaryDirectory(prefix="bench-eventlog-") as folder, Kafka(Path(folder)) as server:
            asyncio.run(compare_kafka(server.url, chosen.seconds))


def on_jetstream(seconds: float, size: int) -> None:
    """JetStream's part."""
    folder = Path(tempfile.mkdtemp(prefix="bench-eventlog-"))
    nats_port, mqtt_port = free_ports(2)
    server = EmbeddedNats(folder, [], nats_port=nats_port, mqtt_port=mqtt_port)
    server.write_config()
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(server.command(), stderr=log)
    try:
        asyncio.run(compare(server, seconds, size))
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
