"""How many readings the live stream's broadcaster takes, beside decoding alone, and how late a live reading is told.

    python -m bench.live [--seconds 20] [--flood 42000]

The latency is from the append to the log to the message at a WebSocket client, while five machines send eight sensors
once a second, alone and beside a backfill of `--flood` readings a second from a process of its own. Frames wait up to
100 ms in the edge before that, and a client is told at most five times a second, so about 100 ms of it is waiting.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import orjson
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import connect

from cloud.api.app import build_app
from cloud.api.fleet import Reported
from cloud.api.journal import Journal
from cloud.api.live import Broadcaster
from cloud.api.models import ModelDetail, PromotionAnswer
from cloud.api.settings import ApiSettings
from cloud.telemetry.port import open_store
from shared.clock import SystemClock
from shared.errors import NotFound
from shared.eventlog import EventLog, Record, Stored, open_event_log
from shared.frame_codec import decode, encode
from shared.frames import Header, Kind, Readings
from shared.health import Health
from shared.jetstream import ensure_topics
from shared.names import SENSOR_READINGS
from shared.nats import open_control
from shared.supervise import free_ports
from shared.uvicorn import serve
from tests.servers import NatsServer

MACHINES = 5
SENSORS = 8
CLOCK = SystemClock()


def frame(machine: int, rows: int, last_us: int) -> bytes:
    """`rows` rows of eight sensors, a second apart, that end at `last_us`."""
    index = np.arange(rows)
    times = last_us - (rows - 1 - index) // SENSORS * 1_000_000
    body = Readings(
        tuple(f"sensor-{n}" for n in range(SENSORS)),
        ("mm/s",) * SENSORS,
        index % SENSORS,
        times,
        np.full(rows, CLOCK.now_us()),
        np.sin(index),
        np.zeros(rows, np.uint8),
    )
    return encode(Header("s1", f"e{machine}", f"m{machine}", Kind.READINGS, b"e" * 16, 1, rows), body)


def stored(value: bytes, machine: int) -> Stored:
    """A frame as the log gives it."""
    return Stored(SENSOR_READINGS, f"m{machine}", value, {}, "0", 1, 0)


def rate(frames: list[Stored], rows: int, take: Callable[[Stored], object]) -> float:
    """Rows a second."""
    begin = time.perf_counter()
    for record in frames:
        take(record)
    return len(frames) * rows / (time.perf_counter() - begin)


def take(journal: Journal, record: Stored) -> None:
    """What the broadcaster does with a frame."""
    header, body = decode(record.value)
    if isinstance(body, Readings):
        journal.take_readings(header.machine, body)


def throughput() -> None:
    """Print rows a second for decoding, for history and for news."""
    now = CLOCK.now_us()
    print("rows/frame  decode only   history (ratio)      news (ratio)   [rows/s]")
    for rows in (8, 200, 1000):
        count = 200_000 // rows
        frames = [
            stored(frame(n % MACHINES, rows, now - (count - n) * rows * 1_000_000), n % MACHINES)
            for n in range(count)
        ]
        journal = Journal()
        floor = rate(frames, rows, lambda record: decode(record.value))
        news = rate(frames, rows, partial(take, journal))
        history = rate(frames, rows, partial(take, journal))
        print(
            f"{rows:10}  {floor:11,.0f}  {history:12,.0f} ({history / floor:.2f})"
            f"  {news:12,.0f} ({news / floor:.2f})"
        )


def flood(url: str, credentials: str, readings_a_second: int, seconds: float) -> None:
    """Append history for so long."""

    async def run() -> None:
        async with open_event_log(url, credentials=credentials) as log:
            begin, sent = time.monotonic(), 0
            past = CLOCK.now_us() - 6 * 3_600_000_000
            frames = [frame(n % MACHINES, 1000, past + n * 125_000_000) for n in range(50)]
            while time.monotonic() < begin + seconds:
                due = int((time.monotonic() - begin) * readings_a_second) // 1000
                await asyncio.gather(
                    *(
                        log.append(SENSOR_READINGS, f"m{n % MACHINES}", [Record(frames[n % 50])])
                        for n in range(sent, due)
                    )
                )
                sent = max(sent, due)
                await asyncio.sleep(0.02)

    asyncio.run(run())


async def send_live(log: EventLog, seconds: float) -> None:
    """Eight sensors of each machine once a second, machines spread over the second."""
    until = CLOCK.monotonic() + seconds
    number = 0
    while CLOCK.monotonic() < until:
        machine = number % MACHINES
        await log.append(SENSOR_READINGS, f"m{machine}", [Record(frame(machine, SENSORS, CLOCK.now_us()))])
        number += 1
        await asyncio.sleep(1 / MACHINES)


async def hear(port: int, late: list[float], rows: list[int]) -> None:
    """Note how late each machine's news is, until cancelled."""
    headers = {"Authorization": "Bearer bench"}
    async with connect(f"ws://127.0.0.1:{port}/v1/live", additional_headers=headers, proxy=None) as socket:
        async for text in socket:
            now = CLOCK.now_us()
            for sensors in orjson.loads(text).get("readings", {}).values():
                late.append((now - max(points[-1][0] for points in sensors.values())) / 1000)
                rows.append(sum(len(points) for points in sensors.values()))


async def latency(seconds: float, flooding: int) -> None:
    """Print p50, p95 and the most, in ms."""
    with tempfile.TemporaryDirectory() as folder:
        server = NatsServer(Path(folder) / "nats").start()
        try:
            await measure(server, Path(folder), seconds, flooding)
        finally:
            server.stop()


async def measure(server: NatsServer, folder: Path, seconds: float, flooding: int) -> None:
    """The same on a running server."""
    url, credentials = server.url, server.credentials
    await ensure_topics(url, credentials=credentials, max_file_store=1 << 28)
    async with (
        open_control(url, credentials=credentials) as control,
        open_event_log(url, credentials=credentials) as log,
        open_event_log(url, credentials=credentials) as devices,
        open_store(f"sqlite:///{folder}/t.db") as store,
    ):
        await control.ensure_buckets([f"e{n}" for n in range(MACHINES)])
        for n in range(MACHINES):
            await control.assign("s1", f"m{n}", f"e{n}")
        reported = Reported(control)
        live = Broadcaster(reported, CLOCK, stale_after=10)
        empty = {"telemetry_url": "", "nats_url": "", "credentials": ""}
        app = build_app(
            ApiSettings.load(flags={"token": "bench", **empty}, environ={}),
            store=store, reported=reported, live=live, health=Health(), registry=CollectorRegistry(), clock=CLOCK,
            ledger=no_ledger, models=no_models, promote=no_promotion,
        )  # fmt: skip
        [port] = free_ports(1)
        stop = asyncio.Event()
        late: list[float] = []
        rows: list[int] = []
        work = [
            reported.follow(),
            live.run(log),
            serve(app, "127.0.0.1", port, stop, section="api", what="bench"),
        ]
        tasks = [asyncio.create_task(each) for each in work]
        await asyncio.sleep(1)
        tasks.append(asyncio.create_task(hear(port, late, rows)))
        await send_live(devices, 2)
        late.clear()
        process = multiprocessing.get_context("spawn").Process(
            target=flood, args=(url, credentials, flooding, seconds)
        )
        if flooding:
            process.start()
        before = await devices.end(SENSOR_READINGS)
        began = time.process_time()
        await send_live(devices, seconds)
        used = (time.process_time() - began) / seconds
        logged = await devices.end(SENSOR_READINGS)
        if flooding:
            await asyncio.to_thread(process.join)
        tasks[-1].cancel()
        stop.set()
        await tasks[2]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    p50, p95 = np.percentile(late, [50, 95])
    # Appended by the flood: all records but the live ones, of which five came a second.
    flooded = (sum(logged.values()) - sum(before.values()) - MACHINES * seconds) * 1000 / seconds
    print(f"{max(0.0, flooded):12,.0f}  {len(late):8}  {p50:6.0f}  {p95:6.0f}  {max(late):6.0f}   {used:.0%}")


async def no_ledger() -> bytes:
    """Not asked here."""
    return b"{}"


async def no_models() -> tuple[list[ModelDetail], dict[str, int]]:
    """None are registered."""
    return [], {}


async def no_promotion(machine: str, *_: object) -> PromotionAnswer:
    """There is nothing to promote."""
    raise NotFound(machine)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--flood", type=int, default=42_000)
    options = parser.parse_args()
    throughput()
    print("\nflood rows/s  messages     p50     p95    most   [ms]; of one core, with the sender")
    for flooding in (0, options.flood):
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(latency(options.seconds, flooding))


if __name__ == "__main__":
    main()
