"""How a Kafka cluster is reached: its address, its clients' common settings, and whether anyone answers at all."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import parse_qs, urlsplit

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from shared.errors import Misconfigured, NotFound, Unavailable

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")

RECORD_BYTES: Final = 512 << 10
"""The largest record a topic takes, key, headers and framing included: the same on every log."""
_PORT: Final = 9092
_HINT: Final = "use kafka://HOST:PORT[,HOST:PORT][?security=ssl&ca=FILE] and credentials USER:PASSWORD"
FATAL: Final = (KafkaException, SystemError)
"""What a poll raises once its producer can't go on: the second where a report was to be given at the same moment."""
_WATCH_S: Final = 0.1
_PROBE_S: Final = 0.5
_REFUSED: Final = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED)  # noqa: SLF001 - their names
_MISSING: Final = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - its name
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - its name
)


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """A log user's waits, in seconds, and bounds."""

    connect: float = 5.0
    request: float = 5.0
    """How long one question to the brokers may take."""
    produce: float = 30.0
    """How long an append waits for its confirmation."""
    linger: float = 0.001
    """How long records wait for company before they are sent."""
    in_flight_records: int = 32_768
    in_flight_bytes: int = 16 << 20
    ack_wait: float = 60.0
    """What a member leaves unacknowledged comes to it again after this."""
    session: float = 10.0
    """A member that died without leaving is replaced after this."""
    poll_interval: float = 300.0
    prefetch_kbytes: int = 16_384
    """How much a reader or member fetches ahead."""


def client_config(url: str, credentials: str) -> dict[str, Any]:
    """What every client of this cluster is made with. Raises Misconfigured."""
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    hosts = parts.netloc.split(",")
    security, ca = query.pop("security", "plain"), query.pop("ca", "")
    if parts.scheme != "kafka" or query or "@" in parts.netloc or parts.path.strip("/") or not all(hosts):
        raise Misconfigured(f"{url!r} is no Kafka log", hint=_HINT)
    if security not in ("plain", "ssl"):
        raise Misconfigured(f"{url!r} has an unknown security {security!r}", hint=_HINT)
    user, colon, password = credentials.partition(":")
    if credentials and not (user and colon and password):
        raise Misconfigured("the log's credentials are not USER:PASSWORD", hint=_HINT)
    config: dict[str, Any] = {
        "bootstrap.servers": ",".join(_with_port(host, url) for host in hosts),
        "client.id": "industrialmind",
        "log_level": 2,  # what matters is told through errors
        "topic.metadata.refresh.interval.ms": 60_000,  # how soon partitions that were added are seen
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        "socket.keepalive.enable": True,
        "security.protocol": {"plain": "PLAINTEXT", "ssl": "SSL"}[security],
    }
    if ca:
        config["ssl.ca.location"] = ca
    if credentials:
        config |= {
            "security.protocol": {"plain": "SASL_PLAINTEXT", "ssl": "SASL_SSL"}[security],
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": password,
        }
    return config


def _with_port(host: str, url: str) -> str:
    try:
        split = urlsplit(f"//{host}")
        port = split.port or _PORT
    except ValueError as error:
        raise Misconfigured(f"{url!r}: {error}", hint=_HINT) from error
    if not split.hostname:
        raise Misconfigured(f"{url!r} names no host", hint=_HINT)
    name = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
    return f"{name}:{port}"


def unavailable(what: str, error: KafkaError | KafkaException) -> Unavailable:
    """The error of a client as the caller's."""
    inner = error.args[0] if isinstance(error, KafkaException) else error
    text = inner.str() if isinstance(inner, KafkaError) else str(inner)
    return Unavailable(f"Kafka: {what}: {text}")


class Thread:
    """One thread for one client's blocking calls. A cancelled caller first waits for its call to end."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, lambda: call(*args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                try:
                    await asyncio.wait([future])
                except asyncio.CancelledError:
                    continue  # the client is not ours again before the call has ended
            future.exception()
            raise

    def close(self) -> None:
        """Let the thread end after its last call."""
        self._executor.shutdown(wait=False)


class _Said:
    """Takes a client's own log lines, which would else go to stderr as they are."""

    def log(self, level: int, form: str, *args: object) -> None:
        """One line; the client's levels are those of `logging`."""
        log.debug("Kafka client", level=level, said=form % args)


class Link:
    """Whether any broker answers, and what all clients of the log need to know about the cluster."""

    def __init__(self, config: Mapping[str, Any], options: KafkaOptions) -> None:
        self._loop = asyncio.get_running_loop()
        self._address = config["bootstrap.servers"]
        self.options = options
        self._config = dict(config)
        self._refused = ""
        self._said = ""
        self._away = ""
        self._since = 0.0
        self._judged = asyncio.Event()
        self._probing: asyncio.Task[None] | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._thread = Thread("kafka-link")
        self.admin = AdminClient(self.config())

    def config(self, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - the driver's own values
        """The settings of a client; `_` in a name stands for `.`."""
        own = {name.replace("_", "."): value for name, value in more.items()}
        return {**self._config, "error_cb": self.notice, "logger": _Said(), **own}

    def notice(self, error: KafkaError) -> None:
        """A client's error, told in whichever thread polls that client."""
        if error.code() in _REFUSED:
            self._refused = error.str()
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its name
            self._said = error.str()
        else:
            self._loop.call_soon_threadsafe(self._doubt)

    async def open(self) -> None:
        """Wait for the first answer. Raises Misconfigured (refused), Unavailable."""
        until = self._loop.time() + self.options.connect
        while True:
            left = until - self._loop.time()
            try:
                await self._thread.run(self._ask, min(max(left, 0.01), _PROBE_S))
            except KafkaException as error:
                if self._refused:
                    raise Misconfigured(
                        f"Kafka at {self._address} refused the credentials ({self._refused})",
                        hint="check the user and password",
                    ) from error
                if self._loop.time() >= until:
                    raise Unavailable(
                        f"Kafka at {self._address} does not answer: {self._said or error}"
                    ) from error
            else:
                break
        self._watch()

    @property
    def in_doubt(self) -> bool:
        """Whether `check` has anything to say; for those who can't afford to ask it each time."""
        return self._probing is not None and not self._probing.done()

    async def check(self) -> None:
        """Raises Unavailable while no broker answers; waits a moment where that is not certain yet."""
        self.admin.poll(0)
        if self.in_doubt:
            await self._judged.wait()
        if self._away:
            raise Unavailable(self._away, retry_after=_PROBE_S)

    def lost(self, seconds: float) -> str:
        """Why no broker answers, once that is so for longer than `seconds`; else empty."""
        return self._away if self._loop.time() - self._since > seconds else ""

    async def partitions(self, topic: str) -> list[int]:
        """The topic's partitions. Raises NotFound, Unavailable."""
        try:
            found = await self._thread.run(self.admin.list_topics, topic, timeout=self.options.request)
        except KafkaException as error:
            raise unavailable(f"asking for {topic}", error) from error
        about = found.topics[topic]
        if about.error is not None and about.error.code() in _MISSING:
            raise NotFound(f"Kafka has no topic {topic!r}: industrialmind log ensure makes the topics")
        if about.error is not None:
            raise unavailable(f"asking for {topic}", about.error)
        return sorted(about.partitions)

    async def close(self) -> None:
        """End the watch."""
        if self._watching is not None:
            self._watching.cancel()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        self._thread.close()

    def _ask(self, wait: float) -> None:
        try:
            self.admin.list_topics("industrialmind", timeout=wait)
        finally:
            self.admin.poll(0)

    def _watch(self) -> None:
        self.admin.poll(0)
        self._watching = self._loop.call_later(_WATCH_S, self._watch)

    def _doubt(self) -> None:
        if self._watching is not None and (self._probing is None or self._probing.done()):
            self._judged.clear()
            self._probing = asyncio.create_task(self._probe(), name="kafka probe")

    async def _probe(self) -> None:
        """Ask until someone answers."""
        while True:
            try:
                await self._thread.run(self._ask, _PROBE_S)
            except KafkaException as error:
                if not self._away:
                    log.warning("connection to Kafka lost", brokers=self._address)
                    self._since = self._loop.time()
                self._away = str(unavailable(f"no answer from {self._address}", error))
                self._judged.set()
            else:
                self._away = ""
                self._judged.set()
                return


def is_missing(error: KafkaError) -> bool:
    """Whether it says that a topic does not exist."""
    return error.code() in _MISSING


def place(topic: str, partition: int, offset: int) -> TopicPartition:
    """A place in a topic, by Kafka's own offset."""
    return TopicPartition(topic, partition, offset)
