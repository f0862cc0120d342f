"""Urgent events on their way to the log, while 1,000 readings a second go through the same gateway.

mosquitto, Kafka, an edge agent and a gateway run as processes of their own. A sensor crosses its plain limit again and
again; the edge commits, makes an event, cuts an urgent frame; the gateway writes it to Kafka; a follower sees it. Beside
it an edge-like publisher sends event frames of its own straight to the broker. Meanwhile a publisher sends plain JSON
of machines with no edge. Times are of one machine's clock; the log's stamp counts whole milliseconds.
Run: PYTHONPATH=. python bench/urgent.py [--seconds N] [--write-docs] (alone: a busy machine measures its other work)
"""

import argparse
import asyncio
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Consumer, TopicPartition

from bench.peers import docs, scenario
from bench.peers.process import Started, machine_cpu_s, python, used
from bench.peers.report import host, table
from bench.peers.topics import PARTITIONS, Topics
from deploy.servers.kafka import Kafka
from deploy.servers.mosquitto import Mosquitto
from deploy.servers.nats import Nats
from shared.frame_codec import encode
from shared.frames import Header, Kind, Records
from shared.machine_events import LimitCrossed
from shared.names import LOG_TOPICS, MACHINE_EVENTS
from shared.nats import open_control
from shared.paho import open_mqtt
from tests.parts import Part

BACKGROUND = 1000
PACE_S = 0.05
GOAL = "p50 ≤ 10, p99 ≤ 40"


@dataclass
class Follower:
    """Follows the log's events from its end: when each was seen, by its id."""

    bootstrap: str
    seen: dict[str, float] = field(default_factory=dict)
    stamped: dict[str, float] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    ready: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until told to stop, in a thread of its own."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": "bench",
                "fetch.wait.max.ms": 100,
                "log_level": 2,
            }
        )
        consumer.assign([TopicPartition(MACHINE_EVENTS, n, 0) for n in range(PARTITIONS)])
        while not self.stop.is_set():
            message = consumer.poll(0.1)
            self.ready.set()
            if message is None or message.error():
                continue
            now = time.time()
            event = orjson.loads(message.value() or b"")
            self.seen[event["id"]] = now
            self.stamped[event["id"]] = message.timestamp()[1] / 1e3
            if event["type"].startswith("limit."):
                self.times[event["id"]] = datetime.fromisoformat(event["time"]).timestamp()
        consumer.close()


class Cores:
    """How many cores each process takes, and all others on the machine, from when it is made."""

    def __init__(self, **pids: int) -> None:
        self._pids = pids
        self._before = self._now()

    def taken(self) -> str:
        """In words."""
        *own, all_of_it, clock = (now - then for now, then in zip(self._now(), self._before, strict=True))
        parts = [f"{name} {spent / clock:.2f}" for name, spent in zip(self._pids, own, strict=True)]
        return f"Cores taken meanwhile: {', '.join(parts)}, all else {(all_of_it - sum(own)) / clock:.2f}."

    def _now(self) -> list[float]:
        return [*(used(pid).cpu_s for pid in self._pids.values()), machine_cpu_s(), time.monotonic()]


def mqtt(broker: Mosquitto, name: str) -> Any:  # noqa: ANN401 - a context manager of a client
    """A client of the broker."""
    return open_mqtt(broker.url, client_id=name, username=broker.username, password=broker.password)


async def frames(broker: Mosquitto, count: int) -> dict[str, float]:
    """Event frames as an edge sends them; when each was sent, by the event's id."""
    sent: dict[str, float] = {}
    async with mqtt(broker, "edge-like") as client:
        for n in range(1, count + 1):
            await asyncio.sleep(PACE_S)
            event = LimitCrossed(
                source="edge/e0", subject="m0", occurred_at=datetime.now(UTC), edge="e0",
                sensor="pressure", side="high", value=float(n), limit=0.0, unit="bar",
                rule="limit/pressure/high", onset=None,
            )  # fmt: skip
            header = Header("s1", "e0", "m0", Kind.EVENT, scenario.EPOCH, n, 1)
            frame = encode(header, Records((event.to_json(),)))
            sent[event.id] = time.time()
            await client.publish("im/v1/s1/e0/urgent", frame)
    return sent


async def sensor(broker: Mosquitto, count: int) -> None:
    """A reading every 50 ms, every other one beyond its limit."""
    async with mqtt(broker, "device") as client:
        for n in range(count):
            await asyncio.sleep(PACE_S)
            row = {"ts": datetime.now(UTC).isoformat(), "value": 200.0 * (n % 2), "unit": "bar"}
            await client.publish("plant/s1/m1/pressure", orjson.dumps(row))


def parts(folder: Path, broker: Mosquitto, nats: Nats, kafka: Kafka) -> tuple[Part, Part]:
    """The edge of machine m1, and the gateway."""
    link = {"url": broker.url, "username": broker.username, "password": broker.password}
    edge = {
        "site": "s1", "edge": "e1", "machines": ["m1"], "folder": str(folder / "e1"),
        "devices": link | {"client_id": "e1-devices"}, "uplink": link | {"client_id": "e1-uplink"},
        "nats_url": nats.url, "credentials": nats.credentials, "limits": {"m1": {"pressure": {"high": 100.0}}},
    }  # fmt: skip
    gateway = {
        "mqtt_url": broker.url, "mqtt_username": broker.username, "mqtt_password": broker.password,
        "nats_url": nats.url, "credentials": nats.credentials, "log_url": kafka.url,
    }  # fmt: skip
    return Part(folder, "edge run", "edge", edge), Part(folder, "gateway run", "gateway", gateway)


async def measure(folder: Path, broker: Mosquitto, nats: Nats, kafka: Kafka, seconds: int) -> str:
    """Run the plant; the table of it."""
    topics = Topics(kafka.bootstrap)
    topics.make(*LOG_TOPICS)
    async with open_control(nats.url, credentials=nats.credentials) as control:
        await control.ensure_buckets(["e0", "e1"], models_bytes=1 << 20)
        for n in range(2):
            await control.assign("s1", f"m{n}", f"e{n}")
    background = scenario.json_readings(folder / "json", BACKGROUND * (seconds + 2))
    edge, gateway = parts(folder, broker, nats, kafka)
    follower = Follower(kafka.bootstrap)
    thread = threading.Thread(target=follower.run)
    thread.start()
    command = (str(background.folder), str(background.count), "4000", str(BACKGROUND))
    try:
        for part in (edge.start(), gateway.start()):
            await asyncio.to_thread(part.wait)
        await asyncio.to_thread(follower.ready.wait)
        with Started(python("bench.peers.publisher", f"127.0.0.1:{broker.port}", *command)) as publisher:
            publisher.tell(broker.credentials)
            publisher.heard("connected")
            publisher.tell("go")
            await asyncio.sleep(1.0)  # the first readings are taken in a process that is still warming up
            count = int(seconds / PACE_S) - 20
            cores = Cores(gateway=gateway.pid, edge=edge.pid, Kafka=kafka.pid, mosquitto=broker.pid)
            sent, _ = await asyncio.gather(frames(broker, count), sensor(broker, count))
            taken = cores.taken()
            publisher.heard("acked")
            await asyncio.sleep(1.0)  # the last events' way
    finally:
        follower.stop.set()
        thread.join()
        edge.stop()
        gateway.stop()
        topics.close()
    return f"{report(follower, sent)}\n\n{taken}"


def report(follower: Follower, sent: dict[str, float]) -> str:
    """The table; missing events are an error."""
    lost = [event for event in sent if event not in follower.seen]
    if lost or len(follower.times) < len(sent):
        raise SystemExit(f"{len(lost)} of {len(sent)} event frames, or events of the edge, did not arrive")
    own = {event: moment for event, moment in follower.times.items() if event not in sent}
    rows = [
        line("event frame at the broker → log's stamp", [follower.stamped[e] - t for e, t in sent.items()]),
        line("event frame at the broker → follower", [follower.seen[e] - t for e, t in sent.items()]),
        line("sensor → edge → log's stamp", [follower.stamped[e] - t for e, t in own.items()], GOAL),
        line("sensor → edge → follower", [follower.seen[e] - t for e, t in own.items()]),
    ]
    return table((f"ms, at {BACKGROUND:,} messages/s beside", "events", "p50", "p99", "goal"), rows)


def line(name: str, seconds: Sequence[float], goal: str = "") -> tuple[str, ...]:
    """One line of the table."""
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e3
    return name, str(len(seconds)), f"{p50:.1f}", f"{p99:.1f}", goal


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="urgent events, sensor to log")
    parser.add_argument("--seconds", type=int, default=25, help="how long the load lasts")
    parser.add_argument(
        "--write-docs", action="store_true", help="keep the table in docs/benchmarks-gateway.md"
    )
    chosen = parser.parse_args()
    about = host()
    print(about, flush=True)
    stamped = {"log.message.timestamp.type": "LogAppendTime"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            Nats(folder / "nats") as nats,
            Mosquitto(folder / "mosquitto") as broker,
            Kafka(folder / "kafka", settings=stamped) as kafka,
        ):
            figures = asyncio.run(measure(folder, broker, nats, kafka, chosen.seconds))
    print(figures)
    if chosen.write_docs:
        docs.keep("urgent", f"{about}.\n\n{figures}")


if __name__ == "__main__":
    main()
