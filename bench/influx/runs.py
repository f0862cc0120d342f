"""One run: one contestant, a fresh topic, a fresh InfluxDB; what it took, and whether every point arrived."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confluent_kafka import Producer

from bench.influx.contestants import Contestant, Place, lines_file
from bench.influx.points import Points, lines
from bench.influx.target import Target
from bench.peers.process import Started, Used, machine_cpu_s, used
from bench.peers.topics import Topics
from deploy.servers.influxdb import InfluxDB
from shared.names import LOG_TOPICS

_LOOK_S: Final = 0.05
_TOO_LONG_S: Final = 180.0
_FLUSH_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds of a run; the contestant's own and InfluxDB's with their peaks of memory.

    `others` are the cores that nobody of ours had.
    """

    own: Used
    influxdb: Used
    kafka_cpu_s: float
    others: float


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to: `seconds` from the first record sent to the last point that InfluxDB confirmed.

    `again`: points that were written more than once. `wrong`: series whose count or sum is not what was sent.
    """

    points: int
    seconds: float
    spent: Spent
    again: int
    wrong: int


@dataclass(frozen=True, slots=True)
class Load:
    """The points, of which the first `warm` are not counted: with them start-up and connections are over."""

    points: Points
    warm: int

    @property
    def warm_records(self) -> int:
        """How many records that is."""
        return self.warm // self.points.rows

    @property
    def counted(self) -> int:
        """Points whose time is taken."""
        return self.points.count - self.warm


class Meter:
    """Counts from when it is made."""

    def __init__(self, own: int, influxdb: int, kafka: int) -> None:
        self._pids = (own, influxdb, kafka, os.getpid())
        self._before = self._now()

    def spent(self) -> Spent:
        """What was used since."""
        own, influxdb, kafka, ours, busy, clock = (
            now - before for now, before in zip(self._now(), self._before, strict=True)
        )
        others = max(0.0, busy - own - influxdb - kafka - ours) / clock
        peaks = [used(pid).peak_bytes for pid in self._pids[:2]]
        return Spent(Used(own, peaks[0]), Used(influxdb, peaks[1]), kafka, others)

    def _now(self) -> tuple[float, ...]:
        # Our own children are the others: of ourselves only what this process did.
        ours = os.times()
        return (
            *(used(pid).cpu_s for pid in self._pids[:3]),
            ours.user + ours.system,
            machine_cpu_s(),
            time.monotonic(),
        )


def measure(contestant: Contestant, load: Load, folder: Path, topics: Topics, kafka_pid: int) -> Run:
    """Run a contestant. Raises RuntimeError if it dies, or all is not over within three minutes."""
    folder.mkdir(parents=True)
    topics.drop(contestant.topic, *LOG_TOPICS)
    topics.make(contestant.topic, *LOG_TOPICS)
    with InfluxDB(folder / "influxdb") as server:
        target = Target(server)
        place = Place(folder, topics.bootstrap, server)
        feed = _feed(contestant, load, place)
        with Started(contestant.command(place), folder / "contestant.log") as process:
            if contestant.told_token:
                process.tell(server.token)
                process.heard("ready")
            feed(process, 0, load.warm_records)
            _wait_written(process, target, load.warm)
            meter, begun = Meter(process.pid, server.pid, kafka_pid), time.monotonic()
            feed(process, load.warm_records, len(load.points.records))
            _wait_written(process, target, load.points.count)
            seconds, spent = time.monotonic() - begun, meter.spent()
            again = target.written() - load.points.count
        wrong = _wrong(target, contestant, load.points)
        target.close()
    return Run(load.counted, seconds, spent, again, wrong)


Feed = Callable[[Started, int, int], None]
"""Sends the records from one number up to another."""


def _feed(contestant: Contestant, load: Load, place: Place) -> Feed:
    if contestant.form is None:
        return _ready_made(load, place)
    form = contestant.form
    values = [form(load.points, record) for record in load.points.records]
    keys = [f"{record.machine}" for record in load.points.records]
    producer = Producer(
        {
            "bootstrap.servers": place.bootstrap,
            "acks": "all",
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_000_000,
        }
    )

    def feed(_: Started, first: int, end: int) -> None:
        _produce(producer, contestant.topic, keys[first:end], values[first:end])

    return feed


def _produce(producer: Producer, topic: str, keys: Sequence[str], values: Sequence[bytes]) -> None:
    for key, value in zip(keys, values, strict=True):
        producer.produce(topic, value, key)
    if producer.flush(_FLUSH_S):
        raise RuntimeError("Kafka does not take the records")


def _ready_made(load: Load, place: Place) -> Feed:
    file = lines_file(place)
    file.write_bytes(b"\n".join(lines(load.points, record) for record in load.points.records))

    def feed(process: Started, first: int, end: int) -> None:
        process.tell(str((end - first) * load.points.rows))

    return feed


def _wait_written(process: Started, target: Target, count: int) -> None:
    """Return once InfluxDB has confirmed so many points."""
    deadline = time.monotonic() + _TOO_LONG_S
    while target.written() < count:
        if not process.alive or time.monotonic() > deadline:
            raise RuntimeError(f"{process.why}: {target.written():,} of {count:,} points\n{process.said()}")
        time.sleep(_LOOK_S)


def _wrong(target: Target, contestant: Contestant, sent: Points) -> int:
    held = {series: (has.count, has.total) for series, has in target.sums(contestant.measurement).items()}
    return len(set(held.items()) ^ set(sent.sums().items()))
