"""MQTT for asyncio on paho: publishes that survive reconnects, and messages that the caller acknowledges.

The event loop drives paho's socket itself (no thread, no hand-over a message); only the blocking connect runs in a
thread. MQTT 3.1.1, which every broker speaks. This is the only module that imports paho.
"""

import asyncio
import contextlib
import random
import socket
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from shared.errors import Misconfigured, Unavailable
from shared.names import MQTT_PORT

log = structlog.get_logger()

CONNECT_SECONDS: Final = 5.0
BACKOFF_SECONDS: Final = (0.1, 5.0)
PUBLISH_IN_FLIGHT: Final = 500
INBOX_BYTES: Final = 32 * 1024 * 1024
_STABLE_SECONDS: Final = 2.0
_TICK_SECONDS: Final = 1.0
_READS_A_TURN: Final = 200


@dataclass(frozen=True, slots=True)
class MqttMessage:
    """A message as it came. The last three fields are the handle that `ack` needs."""

    topic: str
    payload: bytes
    retain: bool
    dup: bool
    qos: int
    mid: int
    connection: int


class MqttClient:
    """One connection to one broker, kept up for ever. Made by `open_mqtt`; not thread-safe.

    `connected` is set while the broker accepts us, `connections` counts how often it did, `last_error` says in
    words why it last did not.
    """

    def __init__(self, paho: mqtt.Client, where: str, *, keeps_session: bool, receive_maximum: int) -> None:
        self.connected = asyncio.Event()
        self.connections = 0
        self.last_error = ""
        self._paho = paho
        self._where = where
        self._keeps_session = keeps_session
        self._receive_maximum = receive_maximum
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._lost = asyncio.Event()
        self._inbox: deque[MqttMessage] = deque()
        self._arrived = asyncio.Event()
        self._inbox_bytes = 0
        self._received = 0
        self._paused = False
        self._slots = asyncio.Semaphore(PUBLISH_IN_FLIGHT)
        self._published: dict[int, asyncio.Future[None]] = {}
        self._flushing = False
        self._flushed = asyncio.Event()
        self._filters: dict[str, int] = {}
        self._granted: dict[str, asyncio.Future[None]] = {}
        self._subscribing: dict[int, list[str]] = {}
        paho.on_connect = self._on_connect
        paho.on_disconnect = self._on_disconnect
        paho.on_message = self._on_message
        paho.on_publish = self._on_publish
        paho.on_subscribe = self._on_subscribe
        paho.on_socket_close = lambda *_: self._release()
        paho.on_socket_register_write = lambda *_: self._write_soon()

    async def wait_connected(self, timeout: float) -> None:  # noqa: ASYNC109 - the error names the cause
        """Return once connected. Raises Unavailable with `last_error` after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self.connected.wait()
        except TimeoutError as error:
            raise Unavailable(self.last_error or f"no connection to {self._where} yet") from error

    async def wait_lost(self) -> None:
        """Return once there is no connection."""
        if self.connected.is_set():
            await self._lost.wait()

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        """Return once the broker confirmed the message (QoS 1) or the socket took it (QoS 0).

        Waits while there is no connection and while too many are in flight; after a reconnect the unconfirmed
        are sent again. When cancelled, the message may still be delivered. Raises Unavailable if the client closes.
        """
        await self._slots.acquire()
        try:
            while not self.connected.is_set():
                await self.connected.wait()
            info = self._paho.publish(topic, payload, qos)
            while info.rc == mqtt.MQTT_ERR_QUEUE_SIZE:  # the id is still in use by a message 65,535 ago
                info = self._paho.publish(topic, payload, qos)
        except BaseException:
            self._slots.release()
            raise
        if qos:
            done = self._published[info.mid] = self._loop.create_future()
            await done
            return
        self._slots.release()
        while self.connected.is_set() and self._paho.want_write():
            self._flushed.clear()
            await self._flushed.wait()

    async def subscribe(self, *filters: str, qos: int = 1) -> None:
        """Subscribe, now and after each reconnect; returns once granted. Raises Misconfigured if refused."""
        waits = []
        for each in filters:
            self._filters[each] = qos
            waits.append(self._granted.setdefault(each, self._loop.create_future()))
        if self.connected.is_set():
            self._send_subscribe(filters)
        await asyncio.gather(*waits)

    async def receive(self, limit: int) -> list[MqttMessage]:
        """At least one message and at most `limit`, in order of arrival.

        When `receive_maximum` messages or 32 MiB wait, the socket is not read any more: nothing is dropped, the broker holds
        the rest. PUBACKs then wait too, so one who receives and publishes much uses two clients.
        """
        while not self._inbox:
            self._arrived.clear()
            await self._arrived.wait()
        taken = [self._inbox.popleft() for _ in range(min(limit, len(self._inbox)))]
        self._inbox_bytes -= sum(len(message.payload) for message in taken)
        if self._paused and not self._is_full(0.5):
            self._resume()
        return taken

    def ack(self, messages: Sequence[MqttMessage]) -> None:
        """Tell the broker that these are done. Those of an earlier connection are ignored: they come again."""
        for message in messages:
            if message.qos and message.connection == self.connections and self.connected.is_set():
                self._paho.ack(message.mid, message.qos)

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        low, high = BACKOFF_SECONDS
        delay = low
        while True:
            started = self._loop.time()
            try:
                await self._connect()
            except OSError as error:
                self._note(f"can't reach the MQTT broker at {self._where}: {error}")
            else:
                await self._serve()
            delay = low if self._loop.time() - started > _STABLE_SECONDS else min(2 * delay, high)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def close(self) -> None:
        """Say good-bye (the broker keeps a persistent session) and fail what still waits."""
        if self.connected.is_set():
            self._paho.disconnect()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._lost.wait()
        for waiting in (*self._published.values(), *self._granted.values()):
            if not waiting.done():
                waiting.set_exception(Unavailable(f"the MQTT client of {self._where} was closed"))
                waiting.exception()  # whoever awaits it sees it; nobody else needs a warning

    async def _connect(self) -> None:
        connecting = asyncio.ensure_future(asyncio.to_thread(self._paho.reconnect))
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:
            await asyncio.gather(connecting, return_exceptions=True)  # at most the connect time-out
            raise

    async def _serve(self) -> None:
        """Drive the connected socket until it is lost."""
        self._lost.clear()
        opened = self._paho.socket()
        if not isinstance(opened, socket.socket):
            return
        self._socket = opened
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small packets wait for nobody
        self._loop.add_reader(opened, self._read)
        self._write_soon()
        deadline = self._loop.time() + CONNECT_SECONDS
        try:
            while not self._lost.is_set():
                # Not wait_for: in Python 3.11 it swallows a cancellation that meets a finished wait.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_SECONDS):
                        await self._lost.wait()
                if self.connected.is_set():
                    # A paused connection reads no ping's answer: only the broker may judge it dead.
                    if not self._paused:
                        self._paho.loop_misc()
                elif not self._lost.is_set() and self._loop.time() > deadline:
                    self._note(f"the MQTT broker at {self._where} accepts connections but does not answer")
                    return
        finally:
            self._release()
            self._end_connection()

    def _read(self) -> None:
        for _ in range(_READS_A_TURN):
            before = self._received
            self._paho.loop_read()
            if self._is_full() and self._socket is not None:
                self._paused = True
                self._loop.remove_reader(self._socket)
                return
            if self._received == before or self._socket is None:
                return

    def _is_full(self, share: float = 1.0) -> bool:
        return len(self._inbox) >= self._receive_maximum * share or self._inbox_bytes >= INBOX_BYTES * share

    def _resume(self) -> None:
        self._paused = False
        if self._socket is not None:
            self._loop.add_reader(self._socket, self._read)

    def _write_soon(self) -> None:
        # Called by paho in the connecting thread too: there is no socket of ours yet, and `_serve` flushes.
        if self._socket is not None:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._socket is None:
            return
        self._flushing = True
        self._paho.loop_write()
        self._flushing = False
        self._watch_writable()

    def _watch_writable(self) -> None:
        if self._socket is None:  # lost while writing
            return
        if self._paho.want_write():
            self._loop.add_writer(self._socket, self._flush)
        else:
            self._loop.remove_writer(self._socket)
            self._flushed.set()

    def _release(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket = None

    def _end_connection(self) -> None:
        self.connected.clear()
        self._lost.set()
        self._flushed.set()
        self._subscribing.clear()
        self._paused = False
        if self._keeps_session:  # the broker sends the unacknowledged again; handling them twice is waste
            self._inbox = deque(message for message in self._inbox if not message.qos)
            self._inbox_bytes = sum(len(message.payload) for message in self._inbox)

    def _note(self, problem: str) -> None:
        if problem != self.last_error:
            log.warning("mqtt", problem=problem)
        self.last_error = problem

    def _send_subscribe(self, filters: Sequence[str]) -> None:
        _, mid = self._paho.subscribe([(each, self._filters[each]) for each in filters])
        if mid is not None:
            self._subscribing[mid] = list(filters)

    def _on_connect(self, _c: mqtt.Client, _u: object, _f: object, code: ReasonCode, _p: object) -> None:
        if code.is_failure:
            self._note(f"the MQTT broker at {self._where} refuses the login: {code}; check user and password")
            return
        self.connections += 1
        if self.last_error:
            log.info("mqtt connected", where=self._where, connection=self.connections)
        self.last_error = ""
        self.connected.set()
        if self._filters:
            self._send_subscribe(list(self._filters))

    def _on_disconnect(self, _c: mqtt.Client, _u: object, _f: object, code: ReasonCode, _p: object) -> None:
        if self.connected.is_set() and code.is_failure:
            self._note(f"lost the MQTT broker at {self._where}: {code}")
        self._end_connection()

    def _on_message(self, _c: mqtt.Client, _u: object, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "\N{REPLACEMENT CHARACTER}"
        self._received += 1
        self._inbox_bytes += len(message.payload)
        self._inbox.append(
            MqttMessage(
                topic,
                bytes(message.payload),
                message.retain,
                message.dup,
                message.qos,
                message.mid,
                self.connections,
            )
        )
        self._arrived.set()

    def _on_publish(self, _c: mqtt.Client, _u: object, mid: int, code: ReasonCode, _p: Properties) -> None:
        if self._flushing:
            return  # a QoS 0 message was written; its id may be that of a QoS 1 message that still waits
        del code  # 3.1.1 has no refusal here
        done = self._published.pop(mid, None)
        if done is not None:
            self._slots.release()
            if not done.done():
                done.set_result(None)

    def _on_subscribe(
        self, _c: mqtt.Client, _u: object, mid: int, codes: Sequence[ReasonCode], _p: object
    ) -> None:
        for each, code in zip(self._subscribing.pop(mid, []), codes, strict=False):
            waiting = self._granted[each]
            if code.is_failure:
                self._note(f"the MQTT broker at {self._where} refuses the subscription to {each!r}: {code}")
                if not waiting.done():
                    self._filters.pop(each, None)
                    del self._granted[each]
                    waiting.set_exception(
                        Misconfigured(
                            self.last_error, hint="grant it to this user in the broker's permissions"
                        )
                    )
            elif not waiting.done():
                waiting.set_result(None)


@asynccontextmanager
async def open_mqtt(
    url: str,
    *,
    client_id: str,
    username: str = "",
    password: str = "",
    clean: bool = False,
    receive_maximum: int = 1000,
    keepalive: int = 30,
) -> AsyncIterator[MqttClient]:
    """A client of the broker at `mqtt://host:port`, with manual acks and (unless `clean`) a persistent session.

    It connects in the background, for ever, with jittered backoff; the broker need not be up yet. A wrong password
    is logged, kept in `last_error` and tried again, since credentials rotate. Raises Misconfigured for another URL.
    """
    parts = urlsplit(url)
    if parts.scheme != "mqtt" or not parts.hostname:
        raise Misconfigured(f"{url!r} is not an MQTT broker's URL", hint="use mqtt://HOST:PORT")
    paho: Any = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=clean,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    if username:
        paho.username_pw_set(username, password)
    port = parts.port or MQTT_PORT
    paho.connect_timeout = CONNECT_SECONDS
    paho.max_inflight_messages = 0  # the client bounds them; paho's bound scans all of them at each PUBACK
    paho.connect_async(parts.hostname, port, keepalive)
    client = MqttClient(
        paho, f"{parts.hostname}:{port}", keeps_session=not clean, receive_maximum=receive_maximum
    )
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
        abandoned = paho.socket()
        if abandoned is not None:
            abandoned.close()
