"""One run: one contestant, one source, fresh topics; what it took, and whether all arrived."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from bench.peers.checks import Verdict, same_payloads
from bench.peers.contestants import READINGS_FILTER, Contestant, Place
from bench.peers.process import Started, Used, machine_cpu_s, python, used
from bench.peers.scenario import PAYLOAD_BYTES, Scenario
from bench.peers.topics import Logged, Topics
from deploy.servers.mosquitto import Mosquitto
from shared.names import LOG_TOPICS

Source = Literal["stand-in", "mosquitto"]

RAW: Final = "raw subscriber"
_WINDOW: Final = 4000
"""Messages of the publisher that mosquitto has not acknowledged yet."""
_QUIET_S: Final = 1.0
_TOO_LONG_S: Final = 120.0
_STAND_IN = "bench.peers.stand_in"


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds of a run; the contestant's own with its peak of memory. `others` are the cores that nobody of ours had."""

    own: Used
    source_cpu_s: float
    kafka_cpu_s: float
    others: float


@dataclass(frozen=True, slots=True)
class Run:
    """What one run came to: `seconds` from the first message sent to the last one in the log.

    `ahead` is the most messages that were acknowledged and not yet in the log; None where nobody could see it.
    """

    messages: int
    readings: int
    seconds: float
    spent: Spent
    records: int
    verdict: Verdict
    ahead: int | None


@dataclass(frozen=True, slots=True)
class Servers:
    """What all runs share."""

    topics: Topics
    kafka_pid: int
    nats_url: str
    nats_credentials: str


@dataclass(frozen=True, slots=True)
class Feed:
    """A source that is ready: its process, which of the processes count as it, and the broker in front of it."""

    process: Started
    pids: tuple[int, ...]
    broker: Mosquitto | None
    port: int

    def cpu_s(self) -> float:
        """What the source has used so far."""
        return sum(used(pid).cpu_s for pid in self.pids)


class Meter:
    """Counts from when it is made."""

    def __init__(self, process: Started, from_: Feed, kafka_pid: int) -> None:
        self._process = process
        self._feed = from_
        self._kafka_pid = kafka_pid
        self._before = self._now()

    def spent(self) -> Spent:
        """What was used since."""
        own, source, kafka, busy, clock = (
            now - before for now, before in zip(self._now(), self._before, strict=True)
        )
        others = max(0.0, busy - own - source - kafka) / clock
        return Spent(Used(own, self._process.used().peak_bytes), source, kafka, others)

    def _now(self) -> tuple[float, float, float, float, float]:
        """CPU seconds of the contestant, the source, Kafka and the whole machine; seconds of the clock."""
        own, kafka = self._process.used().cpu_s, used(self._kafka_pid).cpu_s
        return own, self._feed.cpu_s(), kafka, machine_cpu_s(), time.monotonic()


@contextmanager
def feed(source: Source, scenario: Scenario, count: int, folder: Path) -> Iterator[Feed]:
    """The source of `count` messages of a scenario; nothing is sent before the word."""
    if source == "stand-in":
        command = python(_STAND_IN, str(scenario.folder), str(count))
        with Started(command, folder / "source.log") as process:
            yield Feed(process, (process.pid,), None, process.heard("port"))
        return
    with Mosquitto(folder / "mosquitto", persistence=False, settings={"log_type": "subscribe"}) as broker:
        arguments = (f"127.0.0.1:{broker.port}", str(scenario.folder), str(count), str(_WINDOW))
        with Started(python("bench.peers.publisher", *arguments), folder / "source.log") as process:
            process.tell(broker.credentials)
            process.heard("connected")
            yield Feed(process, (process.pid, broker.pid), broker, broker.port)


def measure(
    contestant: Contestant, source: Source, scenario: Scenario, count: int, folder: Path, servers: Servers
) -> Run:
    """Run a contestant. Raises RuntimeError if a part of it dies or all is not over within two minutes."""
    folder.mkdir(parents=True)
    topics = servers.topics
    topics.drop(contestant.topic, *LOG_TOPICS)
    topics.make(contestant.topic, *LOG_TOPICS)
    with feed(source, scenario, count, folder) as from_:
        user, password = (from_.broker.username, from_.broker.password) if from_.broker else ("", "")
        place = Place(
            folder, from_.port, user, password, topics.bootstrap, servers.nats_url, servers.nats_credentials
        )
        begun = contestant.start(place)
        with Started(begun.command, folder / "contestant.log") as process:
            if begun.told:
                process.tell(begun.told)
            _wait_subscribed(process, from_, scenario, begun.health_port)
            meter = Meter(process, from_, servers.kafka_pid)
            from_.process.tell("go")
            told = from_.process.hear()
            _wait_logged(process, topics, contestant, count)
            spent = meter.spent()
    logged = topics.read(contestant.topic)
    verdict = contestant.check(logged.values, scenario, count)
    per_message = np.full(len(logged.values), count / max(1, len(logged.values)))
    topics.drop(contestant.topic)
    return Run(
        count,
        scenario.readings * count // scenario.count,
        float(logged.appended_ms.max(initial=0)) / 1e3 - told["started"],
        spent,
        len(logged.values),
        verdict,
        _ahead(told, logged, per_message) if contestant.one_each and from_.broker is None else None,
    )


def measure_raw(source: Source, scenario: Scenario, count: int, folder: Path, servers: Servers) -> Run:
    """The floor: no log, only the reception of all."""
    folder.mkdir(parents=True)
    kept = folder / "payloads"
    with feed(source, scenario, count, folder) as from_:
        arguments = (f"127.0.0.1:{from_.port}", READINGS_FILTER, str(count), str(kept))
        with Started(python("bench.peers.raw_subscriber", *arguments), folder / "contestant.log") as process:
            process.tell(from_.broker.credentials if from_.broker else ":")
            process.heard("subscribed")
            if from_.broker is None:
                from_.process.heard("subscribed")
            meter = Meter(process, from_, servers.kafka_pid)
            from_.process.tell("go")
            told = from_.process.hear()
            ended = process.heard("ended")
            spent = meter.spent()
    got = kept.read_bytes()
    values = [got[at : at + PAYLOAD_BYTES] for at in range(0, len(got), PAYLOAD_BYTES)]
    verdict = same_payloads(values, scenario, count)
    return Run(count, count, ended - told["started"], spent, len(values), verdict, None)


def _wait_subscribed(process: Started, from_: Feed, scenario: Scenario, health_port: int) -> None:
    """Return once the contestant gets what the source will send, and says that it is ready if it says so at all."""
    if from_.broker is None:
        from_.process.heard("subscribed")
    else:
        levels = scenario.topic.count("/")
        _until(
            process,
            lambda broker=from_.broker: any(
                line.rsplit(" ", 1)[-1].count("/") == levels
                for line in broker.log_file.read_text().splitlines()
                if " 1 " in line
            ),
        )
    if health_port:
        _until(process, lambda: _ready(health_port))


def _ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _wait_logged(process: Started, topics: Topics, contestant: Contestant, count: int) -> None:
    """Return once a record a message is there, or, where records hold many, nothing has come for a while."""
    seen, since = -1, time.monotonic()

    def settled() -> bool:
        nonlocal seen, since
        records = sum(topics.ends(contestant.topic))
        if records != seen:
            seen, since = records, time.monotonic()
        if contestant.one_each:
            return records >= count
        return records > 0 and time.monotonic() - since > _QUIET_S

    _until(process, settled, look_s=0.2)


def _until(process: Started, reached: Any, look_s: float = 0.03) -> None:  # noqa: ANN401 - a question
    deadline = time.monotonic() + _TOO_LONG_S
    while not reached():
        if not process.alive or time.monotonic() > deadline:
            raise RuntimeError(f"{process.why}\n{process.said()}")
        time.sleep(look_s)


def _ahead(told: dict[str, Any], logged: Logged, weight: NDArray[np.float64]) -> int:
    """The most messages that the source saw acknowledged before the log had them. The log's clock counts whole ms."""
    samples = np.array(told["samples"]).reshape(-1, 2)
    appended = np.sort(logged.appended_ms) / 1e3
    total = np.cumsum(weight)
    had = np.searchsorted(appended, samples[:, 0], side="right")
    in_log = np.concatenate(([0.0], total))[had]
    return max(0, int((samples[:, 1] - in_log).max(initial=0)))
