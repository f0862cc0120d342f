"""The servers that the event log's suite runs over, and what its tests say again and again."""

import asyncio
import secrets
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deploy.servers.kafka import Kafka
from shared import kafka, names
from shared.errors import IndustrialMindError, Misconfigured, Unavailable
from shared.eventlog import Batch, EventLog, Record, Stored, Subscription
from shared.jetstream import LogOptions, TopicBudget, ensure_topics, open_jetstream
from shared.jetstream.group import GroupOptions
from shared.kafka import KafkaOptions, open_kafka
from shared.nats import Timeouts
from shared.supervise import free_ports
from tests.servers import NatsServer

LEASE_S = 0.8
SMALL_BYTES = 256 << 10


@dataclass(frozen=True)
class Names:
    """Topics of one partition and a group that no other test has touched; `small` has room for little."""

    topic: str = names.SENSOR_READINGS
    other: str = names.SCORES
    small: str = names.AUDIT
    group: str = "store"


class Backend(Protocol):
    """What the suite needs of a backend's server, and in what a backend differs."""

    url: str
    credentials: str
    names: Names
    lease: bool
    """A group has one member that works, by a lease. On Kafka members share the partitions."""
    fills_up: bool
    """A topic has a size at which it refuses. Kafka has none but the disk's, which all topics share."""
    drops_resends: bool
    """A record's id lets the log drop a resend. Kafka does that within one producer only, where it needs no id."""
    to_strangers: type[IndustrialMindError]
    """What a client without credentials gets. Kafka hangs up on it as it would when going down."""
    at_once_s: float
    """How soon four calls know that the server is away."""
    replaced_s: float
    """How long a member may stand for after its process was killed."""

    async def start(self) -> None: ...
    def kill(self) -> None: ...
    def restart(self) -> None: ...
    def end(self) -> None: ...
    async def make_room(self) -> None: ...
    def open(self, *, ack_wait: float = 30.0) -> AbstractAsyncContextManager[EventLog]: ...
    def open_nowhere(self, connect: float) -> AbstractAsyncContextManager[EventLog]: ...
    def open_elsewhere(self) -> str:
        """Code that defines `open_log()` for another process."""
        ...


class JetStreamBackend:
    """nats-server as `industrialmind up` runs it."""

    lease = fills_up = drops_resends = True
    to_strangers: type[IndustrialMindError] = Misconfigured
    at_once_s, replaced_s = 2.0, 5.0

    def __init__(self, folder: Path) -> None:
        self._server = NatsServer(folder)
        self.url, self.credentials = self._server.url, self._server.credentials
        self.names = Names()

    async def start(self) -> None:
        self._server.start()
        await self._ensure(SMALL_BYTES)

    async def make_room(self) -> None:
        await self._ensure(4 * SMALL_BYTES)

    async def _ensure(self, small: int) -> None:
        budgets = {
            self.names.topic: TopicBudget(64 << 20, 3600.0),
            self.names.other: TopicBudget(64 << 20),
            self.names.small: TopicBudget(small),
        }
        await ensure_topics(
            self.url,
            credentials=self.credentials,
            budgets=budgets,
            max_file_store=self._server.max_file_store,
        )

    def kill(self) -> None:
        self._server.kill()

    def restart(self) -> None:
        self._server.start()

    def end(self) -> None:
        self._server.kill()

    def open(self, *, ack_wait: float = 30.0) -> AbstractAsyncContextManager[EventLog]:
        options = LogOptions(
            timeouts=Timeouts(connect=5, request=3, produce=5, backoff_first=0.05, backoff_cap=0.3),
            group=GroupOptions(lease=LEASE_S, ack_wait=ack_wait),
        )
        return open_jetstream(self.url, credentials=self.credentials, options=options)

    def open_nowhere(self, connect: float) -> AbstractAsyncContextManager[EventLog]:
        options = LogOptions(timeouts=Timeouts(connect=connect))
        return open_jetstream(
            f"nats://127.0.0.1:{free_ports(1)[0]}", credentials="admin:secret", options=options
        )

    def open_elsewhere(self) -> str:
        return f"""
from shared.jetstream import LogOptions, open_jetstream
from shared.jetstream.group import GroupOptions
def open_log():
    options = LogOptions(group=GroupOptions(lease={LEASE_S}))
    return open_jetstream({self.url!r}, credentials={self.credentials!r}, options=options)
"""


class KafkaServer(Kafka):
    """One broker for a whole run, which asks its clients who they are; topics and groups are each test's own."""

    credentials = "im:secret"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        listener = f"SASL://127.0.0.1:{free_ports(1)[0]}"
        properties = self._properties()
        self.settings |= {
            "listeners": f"{properties['listeners']},{listener}",
            "advertised.listeners": f"{properties['advertised.listeners']},{listener}",
            "listener.security.protocol.map": f"{properties['listener.security.protocol.map']},SASL:SASL_PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config": (
                'org.apache.kafka.common.security.plain.PlainLoginModule required user_im="secret";'
            ),
        }
        self.secured = listener.replace("SASL", "kafka")

    def command(self) -> Sequence[str]:
        """Compiled in haste: it lives for minutes and is started again and again."""
        java, *rest = super().command()
        return [java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *rest]


class KafkaBackend:
    """The run's broker, and topics of its own."""

    lease = fills_up = drops_resends = False
    to_strangers: type[IndustrialMindError] = Unavailable
    at_once_s, replaced_s = 8.0, 30.0

    def __init__(self, server: KafkaServer) -> None:
        self.server = server
        self.url, self.credentials = server.secured, server.credentials
        own = secrets.token_hex(4)
        self.names = Names(f"{own}-topic", f"{own}-other", f"{own}-small", f"{own}-store")

    async def start(self) -> None:
        if not self.server.running:
            await asyncio.to_thread(self.server.start)
        at = self.names
        await self.ensure({at.topic: 1, at.other: 1, at.small: 1})

    async def ensure(self, partitions: dict[str, int]) -> None:
        await kafka.ensure_topics(
            self.url, credentials=self.credentials, topics=(), named=partitions, options=self.options()
        )

    async def make_room(self) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.start()

    def end(self) -> None:
        """The server goes on for the next test."""

    def options(self, *, ack_wait: float = 30.0, poll_interval: float = 300.0) -> KafkaOptions:
        return KafkaOptions(produce=8.0, ack_wait=ack_wait, session=6.0, poll_interval=poll_interval)

    def open(self, *, ack_wait: float = 30.0) -> AbstractAsyncContextManager[EventLog]:
        return open_kafka(self.url, credentials=self.credentials, options=self.options(ack_wait=ack_wait))

    def open_nowhere(self, connect: float) -> AbstractAsyncContextManager[EventLog]:
        return open_kafka(f"kafka://127.0.0.1:{free_ports(1)[0]}", options=KafkaOptions(connect=connect))

    def open_elsewhere(self) -> str:
        return f"""
from shared.kafka import KafkaOptions, open_kafka
def open_log():
    return open_kafka({self.url!r}, credentials={self.credentials!r}, options=KafkaOptions(session=6.0))
"""


def numbered(first: int, count: int, size: int = 16) -> list[Record]:
    return [Record(str(n).encode().ljust(size, b".")) for n in range(first, first + count)]


def numbers(records: Sequence[Stored]) -> list[int]:
    return [int(record.value.rstrip(b".")) for record in records]


async def whole(log: EventLog, topic: str) -> list[Stored]:
    return [stored async for stored in log.read(topic)]


async def fetch_some(member: Subscription, limit: int = 1000, wait: float = 30.0) -> Batch:
    """The first batch that is not empty, waiting out a server that is away."""
    async with asyncio.timeout(wait):
        while True:
            try:
                batch = await member.fetch(limit, 0.5)
            except Unavailable as error:
                await asyncio.sleep(min(error.retry_after, 0.05))
                continue
            if batch.records:
                return batch


async def fetch_count(
    member: Subscription, count: int, *, ack: bool = True, wait: float = 30.0
) -> list[Stored]:
    found: list[Stored] = []
    while len(found) < count:
        batch = await fetch_some(member, wait=wait)
        found += batch.records
        if ack:
            await batch.ack()
    return found


async def insist(log: EventLog, topic: str, records: Sequence[Record]) -> None:
    """Append until it is confirmed."""
    async with asyncio.timeout(60):
        while True:
            try:
                await log.append(topic, "m1", records)
            except Unavailable:
                await asyncio.sleep(0.02)
            else:
                return
