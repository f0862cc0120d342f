"""One run: one contestant, a fresh topic, a fresh InfluxDB; what it took, and whether every point arrived."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from confluent_kafka import Producer

from bench.influx.contestants import Contestant, Place, lines_file
from bench.influx.points import Points, lines
from bench.influx.target import Target
from bench.peers.process import Started, Used, machine_cpu_s, used
from bench.peers.topics import Topics
from deploy.servers.influxdb import InfluxDB
from deploy.servers.postgresql import PostgreSQL
from shared.names import LOG_TOPICS

_LOOK_S: Final = 0.05
_TOO_LONG_S: Final = 180.0
_FLUSH_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds of a run; the contestant's own and InfluxDB's with their peaks of memory.

    `books_cpu_s`: of the SQL server of who needs one. `others` are the cores that nobody of ours had.
    """

    own: Used
    influxdb: Used
    kafka_cpu_s: float
    books_cpu_s: float
    others: float

    @property
    def all_cpu_s(self) -> float:
        """Of the contestant and all its servers."""
        return self.own.cpu_s + self.influxdb.cpu_s + self.kafka_cpu_s + self.books_cpu_s


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to: `seconds` from the first record sent to the last point that InfluxDB confirmed.

    `more`: points that were written beside the readings, or again. `wrong`: series whose count or sum is not what was sent.
    """

    points: int
    seconds: float
    spent: Spent
    more: int
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

    def __init__(self, own: int, influxdb: int, kafka: int, books: int | None) -> None:
        self._pids = (own, influxdb, kafka, *((books,) if books is not None else ()))
        self._before = self._now()

    def spent(self) -> Spent:
        """What was used since."""
        *each, ours, busy, clock = (
            now - before for now, before in zip(self._now(), self._before, strict=True)
        )
        own, influxdb, kafka, *books = each
        others = max(0.0, busy - ours - sum(each)) / clock
        peaks = [used(pid).peak_bytes for pid in self._pids[:2]]
        return Spent(Used(own, peaks[0]), Used(influxdb, peaks[1]), kafka, sum(books), others)

    def _now(self) -> tuple[float, ...]:
        # Of ourselves only what this process did: our children are the others.
        ours = os.times()
        return (
            *(used(pid).cpu_s for pid in self._pids),
            ours.user + ours.system,
            machine_cpu_s(),
            time.monotonic(),
        )


def measure(contestant: Contestant, load: Load, folder: Path, topics: Topics, kafka_pid: int) -> Run:
    """Run a contestant. Raises RuntimeError if it dies, or all is not over within three minutes."""
    folder.mkdir(parents=True)
    topics.drop(contestant.topic, *LOG_TOPICS)
    topics.make(contestant.topic, *LOG_TOPICS)
    with ExitStack() as servers:
        server = servers.enter_context(InfluxDB(folder / "influxdb"))
        books = servers.enter_context(PostgreSQL(folder / "books")) if contestant.books else None
        target = Target(server)
        servers.callback(target.close)
        place = Place(folder, topics.bootstrap, server, books.url if books else "")
        feed = _feed(contestant, load, place)
        process = servers.enter_context(Started(contestant.command(place), folder / "contestant.log"))
        if contestant.told_token:
            process.tell(server.token)
            process.heard("ready")
        whole = partial(_wait_written, process, target, derives=contestant.books)
        feed(process, 0, load.warm_records)
        whole(load.warm)
        meter = Meter(process.pid, server.pid, kafka_pid, books.pid if books else None)
        begun = time.monotonic()
        feed(process, load.warm_records, len(load.points.records))
        whole(load.points.count)
        seconds, spent = time.monotonic() - begun, meter.spent()
        more = target.written() - load.points.count
        return Run(load.counted, seconds, spent, more, _wrong(target, load.points))


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


def _wait_written(process: Started, target: Target, count: int, *, derives: bool) -> None:
    """Return once InfluxDB has confirmed so many readings. Who `derives` points of them writes more: these are counted."""
    deadline = time.monotonic() + _TOO_LONG_S
    while target.written() < count or (derives and target.held() < count):
        if not process.alive or time.monotonic() > deadline:
            raise RuntimeError(f"{process.why}: {target.held():,} of {count:,} points\n{process.said()}")
        time.sleep(_LOOK_S)


def _wrong(target: Target, sent: Points) -> int:
    held = {series: (has.count, has.total) for series, has in target.sums().items()}
    return len(set(held.items()) ^ set(sent.sums().items()))
