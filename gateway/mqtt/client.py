"""The client: one connection kept up for ever, with its session, subscriptions and publishes."""

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.mqtt import packets
from gateway.mqtt.connection import Connection
from gateway.mqtt.inbox import Inbox
from gateway.mqtt.outbox import Outbox
from gateway.mqtt.packets import MQTT5, Connack, Level, Malformed
from gateway.mqtt.subscriptions import Subscriptions
from gateway.port import Arrivals, BrokerClient, Version, Will
from shared.broker_url import broker_address
from shared.tls import Certificates, TlsFiles

log = structlog.get_logger()

BACKOFF_SECONDS: Final = (0.1, 5.0)
_STABLE_SECONDS: Final = 2.0
_TICK_SECONDS: Final = 1.0
_LEVELS: Final[dict[Version, Level]] = {"auto": 5, "3.1.1": 4, "5": 5}


@dataclass(frozen=True, slots=True)
class Options:
    """What the client was opened with."""

    host: str
    port: int
    client_id: str
    username: str
    password: str
    clean: bool
    receive_maximum: int
    keepalive: int
    connect_seconds: float
    will: Callable[[], Will] | None
    version: Version
    session_seconds: int
    tls: Certificates | None = None

    @property
    def where(self) -> str:
        """The broker, for messages."""
        return f"{self.host}:{self.port}"


class LeanBroker:
    """`BrokerClient` on our own codec. Made by `open_lean`; not thread-safe. See the port."""

    def __init__(self, options: Options) -> None:
        self.connected = asyncio.Event()
        self.connections = 0
        self.last_error = ""
        self.sessions_lost = 0
        self.level: Level = _LEVELS[options.version]
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox(options.receive_maximum)
        self._outbox = Outbox(options.where)
        self._subscriptions = Subscriptions(options.where)
        self._connection: Connection | None = None
        self._keepalive = options.keepalive
        self._spoke = 0.0
        self._closing = False
        self._shown: ssl.SSLContext | None = None

    async def subscribe(self, *filters: str, qos: int = 1) -> None:
        """See the port."""
        granted = self._subscriptions.want(filters, qos)
        if self.connected.is_set():
            self._send(self._subscriptions.packet(self._outbox.next_id(), self.level, filters))
        await granted

    async def receive(self, limit: int) -> Arrivals:
        """See the port."""
        taken = await self._inbox.take(limit)
        taken.connection = self.connections
        if self._connection is not None:
            self._connection.make_room()
        return taken

    def ack(self, arrivals: Arrivals, indices: Sequence[int] | None = None) -> None:
        """See the port."""
        if arrivals.connection != self.connections or not self.connected.is_set():
            return
        handles = arrivals.handles if indices is None else [arrivals.handles[index] for index in indices]
        if 0 in handles:
            handles = [handle for handle in handles if handle]
        if handles:
            self._send(packets.pubacks(handles))

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """See the port."""
        if qos:
            async with self._outbox.sending(topic, payload, retain=retain) as held:
                while not self.connected.is_set():
                    await self.connected.wait()
                self._outbox.number(held)
                self._send(held.packet(self.level))
                await held.done
            return
        while not self.connected.is_set():
            await self.connected.wait()
        self._send(packets.publish(topic, payload, self.level, retain=retain))
        if self._connection is not None:
            await self._connection.drained()

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        low, high = BACKOFF_SECONDS
        delay = low
        while True:
            started = self._loop.time()
            level = self.level
            try:
                await self._connect_and_serve()
            except (OSError, TimeoutError) as error:
                self._note(
                    f"can't reach the MQTT broker at {self._options.where}: {error or 'no answer in time'}"
                )
            if level != self.level:
                continue  # the broker wants the older version
            delay = low if self._loop.time() - started > _STABLE_SECONDS else min(2 * delay, high)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def close(self) -> None:
        """Say good-bye (the broker keeps a persistent session) and fail what still waits."""
        self._closing = True
        connection = self._connection
        if connection is not None and self.connected.is_set():
            connection.write(packets.disconnect(self.level))
            connection.end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await connection.lost.wait()
        self._outbox.close()
        self._subscriptions.close()

    async def _connect_and_serve(self) -> None:
        """One connection, from its socket to its end. Raises OSError, TimeoutError if there is none."""
        options = self._options
        self._shown = None if options.tls is None else options.tls.context()
        async with asyncio.timeout(options.connect_seconds):
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._inbox, self._on_packet, self.level),
                options.host,
                options.port,
                ssl=self._shown,
            )
        self._connection = connection
        deadline = self._loop.time() + options.connect_seconds
        self._keepalive = options.keepalive
        try:
            self._send(
                packets.connect(
                    options.client_id,
                    self.level,
                    clean=options.clean,
                    keepalive=options.keepalive,
                    username=options.username,
                    password=options.password,
                    will=None if options.will is None else options.will(),
                    receive_maximum=options.receive_maximum,
                    session_seconds=options.session_seconds,
                )
            )
            while not connection.lost.is_set():
                # Not wait_for: in Python 3.11 it swallows a cancellation that meets a finished wait.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(_TICK_SECONDS, options.connect_seconds)):
                        await connection.lost.wait()
                self._look_after(connection, deadline)
        finally:
            connection.end()
            self._end_connection(connection)

    def _look_after(self, connection: Connection, deadline: float) -> None:
        """Once a second: answers that are late, pings that are due."""
        now = self._loop.time()
        if connection.lost.is_set():
            return
        if not self.connected.is_set():
            if now > deadline:
                connection.end("accepts connections but does not answer")
            return
        if self._options.tls is not None and self._options.tls.context() is not self._shown:
            self._send(packets.disconnect(self.level))
            connection.end()  # and connect again, showing the new certificate
            return
        if not self._keepalive:
            return
        # A connection that is not read hears no ping's answer: only the broker may judge it dead.
        if not connection.full and now - connection.heard > 1.5 * self._keepalive:
            connection.end("has fallen silent")
        elif now - self._spoke > self._keepalive / 2 or now - connection.heard > self._keepalive / 2:
            self._send(packets.PINGREQ)

    def _end_connection(self, connection: Connection) -> None:
        was_connected = self.connected.is_set()
        self.connected.clear()
        self._connection = None
        self._inbox.end_connection(persistent=not self._options.clean)
        if self._closing:
            return
        if connection.problem:
            self._note(f"the MQTT broker at {self._options.where} {connection.problem}")
        elif was_connected:
            self._note(f"lost the MQTT broker at {self._options.where}: it closed the connection")
        elif connection.level == self.level and not self.last_error:
            self._note(
                f"the MQTT broker at {self._options.where} closed the connection before it answered"
                + (": does it accept our certificate?" if self._options.tls is not None else "")
            )

    def _on_packet(self, head: int, body: bytes) -> None:
        """A packet that is no message. Raises Malformed."""
        if head == packets.CONNACK:
            self._on_connack(packets.read_connack(body, self.level))
        elif not self.connected.is_set():
            raise Malformed(f"packet 0x{head:02x} before CONNACK")
        elif head == packets.PUBACK:
            self._outbox.settle(*packets.read_puback(body, self.level))
        elif head == packets.SUBACK:
            problem = self._subscriptions.settle(*packets.read_suback(body, self.level))
            if problem:
                self._note(problem)
        elif head == packets.DISCONNECT:
            self._require_connection().end(f"ends it: {packets.read_disconnect(body, self.level)}")
        elif head != packets.PINGRESP:
            raise Malformed(f"packet 0x{head:02x}, which no server sends to a subscriber")

    def _on_connack(self, answer: Connack) -> None:
        if self.connected.is_set():
            raise Malformed("a second CONNACK")
        connection = self._require_connection()
        if answer.code:
            self._on_refusal(connection, answer)
            return
        if self.connections and not answer.session_present and not self._options.clean:
            self.sessions_lost += 1
            log.warning(
                "the MQTT broker forgot our session: what it held for us is lost", where=self._options.where
            )
        self.connections += 1
        self._inbox.resume(comes_again=answer.session_present)
        if self.last_error:
            log.info("mqtt connected", where=self._options.where, connection=self.connections)
        self.last_error = ""
        if answer.keepalive is not None:
            self._keepalive = answer.keepalive
        self.connected.set()
        self._subscriptions.begin(answer, self.level)
        self._send(self._subscriptions.packet(self._outbox.next_id(), self.level))
        for packet in self._outbox.again(self.level):
            self._send(packet)

    def _on_refusal(self, connection: Connection, answer: Connack) -> None:
        if answer.code != packets.UNSUPPORTED_VERSION[self.level]:
            connection.end(f"refuses the login: {answer.reason}; check user and password")
        elif self._options.version == "auto" and self.level == MQTT5:
            self.level = 4
            connection.end()
        else:
            connection.end(f"does not speak the wanted version of MQTT: {answer.reason}")

    def _require_connection(self) -> Connection:
        if self._connection is None:  # packets only come over one
            raise Malformed("a packet of no connection")
        return self._connection

    def _send(self, data: bytes) -> None:
        if data and self._connection is not None:
            self._spoke = self._loop.time()
            self._connection.write(data)

    def _note(self, problem: str) -> None:
        if problem != self.last_error:
            log.warning("mqtt", problem=problem)
        self.last_error = problem


@asynccontextmanager
async def open_lean(
    url: str,
    *,
    client_id: str,
    username: str,
    password: str,
    clean: bool,
    receive_maximum: int,
    keepalive: int,
    connect_seconds: float,
    will: Callable[[], Will] | None,
    version: Version,
    session_seconds: int,
    tls: Certificates | None = None,
) -> AsyncIterator[BrokerClient]:
    """See `open_broker`."""
    host, port, secure = broker_address(url)
    if not secure:
        tls = None
    elif tls is None:
        tls = TlsFiles().open()
    client = LeanBroker(
        Options(
            host, port, client_id, username, password, clean, receive_maximum, keepalive, connect_seconds,
            will, version, session_seconds, tls,
        )
    )  # fmt: skip
    owner = asyncio.current_task()

    def ended(task: "asyncio.Task[None]") -> None:
        # A bug in the connection's loop ends its owner, who then sees it; nobody waits for ever.
        if not task.cancelled() and task.exception() is not None and owner is not None:
            owner.cancel()

    running = asyncio.create_task(client.run(), name=f"mqtt {client_id}")
    running.add_done_callback(ended)
    try:
        yield client
    finally:
        await client.close()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
