"""How soon one window is scored over HTTP, and how many a second: beside bare onnxruntime, in one run.

    python -m bench.inference [--seconds 5]

The service is a real process, as `up` starts it, on a real nats-server; its model is a fitted window PCA (8 cells of 3
sensors) unless `--window` asks for a longer one. Clients are coroutines of this process on the same cores, each with one
request out at a time, over raw keep-alive connections, so that the client costs little. "alone" is the service with
`batch_windows = 1`: requests take their turns at the model. Bare onnxruntime scores the same windows in this process, one at a
time and in batches, and shows what HTTP, validation and answers cost. The goal is a p99 below 50 ms.
"""

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from cloud.training.logic import Config, Recording, fit
from shared.artifact import unpack
from shared.onnxruntime import Scorer
from tests.parts import Part
from tests.servers import NatsServer
from tests.unit.edge_models import SECOND, SENSORS, START, UNITS, plant
from tests.unit.inference_parts import open_inference

CONCURRENCY = (1, 8, 64)
GOAL_MS = 50.0
WARM_UP = 200


@dataclass(frozen=True)
class Measured:
    """Latencies of a run, in seconds, and how long it took."""

    seconds: float
    latencies: "np.ndarray[tuple[int], np.dtype[np.float64]]"

    def quantile_ms(self, share: float) -> float:
        """A quantile of the latencies."""
        return float(np.quantile(self.latencies, share)) * 1000

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds


def model(window: int) -> bytes:
    """A fitted model of one machine."""
    table = plant(3000, 1)
    recording = Recording(START + np.arange(len(table)) * SECOND, SENSORS, UNITS, table)
    config = Config(window=window)
    return fit(recording, machine="pump", machine_type="pump", now_us=START, step_us=SECOND, config=config)


async def client(port: int, request: bytes, until: float, latencies: list[float]) -> None:
    """One request after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        begin = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not answered: {head[:200]!r}")
        size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(size)
        latencies.append(time.perf_counter() - begin)
    writer.close()


async def load(port: int, body: bytes, clients: int, seconds: float) -> Measured:
    """So many clients at once."""
    head = (
        f"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    latencies: list[float] = []
    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client(port, head.encode() + body, begin + seconds, latencies))
    return Measured(time.perf_counter() - begin, np.array(latencies))


def bare(data: bytes, window: int, batch: int, seconds: float) -> Measured:
    """The runtime alone, in this thread; a latency is a window's share of its batch's time."""
    scorer = Scorer(unpack(data))
    windows = np.stack([plant(window, seed) for seed in range(batch)])
    for _ in range(WARM_UP):
        scorer.score(windows)
    latencies: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        started = time.perf_counter()
        scorer.score(windows)
        latencies += [(time.perf_counter() - started) / batch] * batch
    return Measured(time.perf_counter() - begin, np.array(latencies))


def show(what: str, clients: str, measured: Measured) -> None:
    """A line of the table."""
    p50, p99 = measured.quantile_ms(0.5), measured.quantile_ms(0.99)
    print(f"{what:<28} {clients:>8} {p50:>10.2f} {p99:>10.2f} {measured.per_second:>12,.0f}", flush=True)


def shared_by(part: Part) -> str:
    """Windows a run of the model, from the service's own metrics."""
    figures = part.figures("secret")
    runs = figures.get("im_inference_batch_windows_count", 0.0)
    return f"{figures.get('im_inference_batch_windows_sum', 0.0) / runs:.2f}" if runs else "none"


async def prepare(root: Path, nats: NatsServer, data: bytes) -> None:
    """A champion of the machine."""
    async with open_inference(root, nats) as inference:
        await inference.promoted(data)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--window", type=int, default=8, help="cells in a window")
    given = parser.parse_args()
    data, table = model(given.window), plant(given.window, 7)
    body = orjson.dumps(
        {
            "machine": "pump",
            "windows": {
                "time_us": [START],
                "sensors": list(SENSORS),
                "units": dict(zip(SENSORS, UNITS, strict=True)),
                "values": [table.tolist()],
            },
        }
    )
    print(f"{'':<28} {'clients':>8} {'p50 ms':>10} {'p99 ms':>10} {'windows/s':>12}")
    for batch in CONCURRENCY:
        show("bare onnxruntime", f"batch {batch}", bare(data, given.window, batch, given.seconds))
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder, NatsServer(Path(folder) / "nats") as nats:
        root = Path(folder)
        asyncio.run(prepare(root, nats, data))
        for name, batch_windows in (("service", 256), ("service, alone", 1)):
            part = Part(
                root / str(batch_windows),
                "cloud run inference",
                "inference",
                {
                    "token": "secret",
                    "telemetry_url": f"sqlite:///{root / 'telemetry.db'}",
                    "nats_url": nats.url,
                    "credentials": nats.credentials,
                    "batch_windows": batch_windows,
                },
            ).start()
            try:
                part.wait()
                port = int(part.url.rsplit(":", 1)[1])
                asyncio.run(load(port, body, 8, 1.0))
                for clients in CONCURRENCY:
                    measured = asyncio.run(load(port, body, clients, given.seconds))
                    show(name, str(clients), measured)
                    worst = (
                        max(worst, measured.quantile_ms(0.99))
                        if batch_windows > 1 and clients == 1
                        else worst
                    )
                print(f"{'':<28} {shared_by(part)} windows a run of the model")
            finally:
                part.stop()
    print(f"goal: one window's p99 below {GOAL_MS:g} ms: {worst:.2f} ms")


if __name__ == "__main__":
    main()
