"""The MQTT client: one connection kept up for ever. Only the blocking connect runs in a thread."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Sequence
from typing import Final

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from shared.errors import Misconfigured, Rejected, Unavailable
from shared.paho.inbox import Inbox, MqttMessage
from shared.paho.pump import Pump
from shared.tls import NewestContext

log = structlog.get_logger()

BACKOFF_SECONDS: Final = (0.1, 5.0)
PUBLISH_IN_FLIGHT: Final = 500
_STABLE_SECONDS: Final = 2.0
_TICK_SECONDS: Final = 1.0
_PUBACK: Final = b"\x40\x02"  # without reason code or properties, MQTT 3.1.1 and 5 alike


class MqttClient:
    """One connection to one broker, kept up for ever. Made by `open_mqtt`; not thread-safe.

    `connected` is set while the broker accepts us, `connections` counts how often it did, `last_error` says in
    words why it last did not. `sessions_lost` counts reconnects to a broker that had forgotten our persistent session;
    `session_present` is whether it had one of our client id when it last accepted us.
    """

    def __init__(
        self,
        paho: mqtt.Client,
        where: str,
        *,
        keeps_session: bool,
        receive_maximum: int,
        connect_seconds: float,
        will: Callable[[], tuple[str, bytes, int, bool]] | None = None,
        tls: NewestContext | None = None,
    ) -> None:
        self.connected = asyncio.Event()
        self.connections = 0
        self.last_error = ""
        self.sessions_lost = 0
        self.session_present = False
        self._paho = paho
        self._where = where
        self._keeps_session = keeps_session
        self._connect_seconds = connect_seconds
        self._will = will
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._lost = asyncio.Event()
        self._inbox = Inbox(receive_maximum)
        self._unacknowledged: set[int] = set()  # packet ids of QoS 1 messages of this connection
        self._pump = Pump(paho, self._inbox)
        self._slots = asyncio.Semaphore(PUBLISH_IN_FLIGHT)
        self._published: dict[int, asyncio.Future[None]] = {}
        self._filters: dict[str, int] = {}
        self._granted: dict[str, asyncio.Future[None]] = {}
        self._subscribing: dict[int, list[str]] = {}
        paho.on_connect = self._on_connect
        paho.on_disconnect = self._on_disconnect
        paho.on_message = self._on_message
        paho.on_publish = self._on_publish
        paho.on_subscribe = self._on_subscribe

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

    async def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Return once the broker confirmed the message (QoS 1) or the socket took it (QoS 0).

        Waits while there is no connection and while too many are in flight; after a reconnect the unconfirmed
        are sent again. When cancelled, the message may still be delivered. Raises Unavailable if the client closes,
        Rejected if the broker refuses the message (only MQTT 5 says so).
        """
        await self._slots.acquire()
        try:
            while not self.connected.is_set():
                await self.connected.wait()
            info = self._paho.publish(topic, payload, qos, retain)
            while info.rc == mqtt.MQTT_ERR_QUEUE_SIZE:  # the id is still in use by a message 65,535 ago
                info = self._paho.publish(topic, payload, qos, retain)
        except BaseException:
            self._slots.release()
            raise
        if qos:
            done = self._published[info.mid] = self._loop.create_future()
            await done
            return
        self._slots.release()
        while self.connected.is_set() and self._paho.want_write():
            await self._pump.flushed()

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
        taken = await self._inbox.take(limit)
        self._pump.make_room()
        return taken

    def ack(self, messages: Sequence[MqttMessage]) -> None:
        """Tell the broker that these are done. Those of an earlier connection are ignored: they come again."""
        if self.connected.is_set():
            self._send_pubacks([m.mid for m in messages if m.qos == 1 and m.connection == self.connections])

    def ack_ids(self, connection: int, mids: Sequence[int]) -> None:
        """The same for QoS 1 messages of that connection by their packet ids; 0 stands for none."""
        if connection == self.connections and self.connected.is_set():
            self._send_pubacks([mid for mid in mids if mid])

    def _send_pubacks(self, mids: Sequence[int]) -> None:
        """All in one write: paho's own `ack` makes a system call of each, which at 5,000 a second is a third of a core."""
        self._unacknowledged.difference_update(mids)
        packets = b"".join(_PUBACK + mid.to_bytes(2) for mid in mids)
        if packets:
            self._paho._packet_queue(mqtt.PUBACK, packets, 0, 1)  # noqa: SLF001 - it has no public one for several

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        low, high = BACKOFF_SECONDS
        delay = low
        while True:
            started = self._loop.time()
            try:
                await self._connect()
            except OSError as error:
                if self._tls is not None:
                    self._tls.abandon()
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
        if self._will is not None:
            topic, payload, qos, retain = self._will()
            self._paho.will_set(topic, payload, qos, retain)
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
        self._pump.attach(opened)
        deadline = self._loop.time() + self._connect_seconds
        try:
            while not self._lost.is_set():
                # Not wait_for: in Python 3.11 it swallows a cancellation that meets a finished wait.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_SECONDS):
                        await self._lost.wait()
                if self.connected.is_set():
                    if self._tls is not None and self._tls.outdated:
                        self._paho.disconnect()  # and connect again, showing the new certificate
                        continue
                    # A paused connection reads no ping's answer: only the broker may judge it dead.
                    if not self._pump.paused:
                        self._paho.loop_misc()
                elif not self._lost.is_set() and self._loop.time() > deadline:
                    self._note(f"the MQTT broker at {self._where} accepts connections but does not answer")
                    return
        finally:
            self._pump.release()
            self._end_connection()

    def _end_connection(self) -> None:
        self.connected.clear()
        self._lost.set()
        self._pump.end()
        self._subscribing.clear()

    def _note(self, problem: str) -> None:
        if problem != self.last_error:
            log.warning("mqtt", problem=problem)
        self.last_error = problem

    def _send_subscribe(self, filters: Sequence[str]) -> None:
        _, mid = self._paho.subscribe([(each, self._filters[each]) for each in filters])
        if mid is not None:
            self._subscribing[mid] = list(filters)

    def _on_connect(
        self, _c: mqtt.Client, _u: object, flags: mqtt.ConnectFlags, code: ReasonCode, _p: object
    ) -> None:
        if code.is_failure:
            self._note(f"the MQTT broker at {self._where} refuses the login: {code}; check user and password")
            return
        if self._keeps_session and flags.session_present:
            self._inbox.forget_unacknowledged()
        elif self._keeps_session and self.connections:
            self.sessions_lost += 1
            log.warning("the MQTT broker forgot our session: what it held for us is lost", where=self._where)
        self.session_present = flags.session_present
        self.connections += 1
        self._unacknowledged.clear()
        if self.last_error:
            log.info("mqtt connected", where=self._where, connection=self.connections)
        self.last_error = ""
        self.connected.set()
        if self._filters:
            self._send_subscribe(list(self._filters))

    def _on_disconnect(self, _c: mqtt.Client, _u: object, _f: object, code: ReasonCode, _p: object) -> None:
        if self.connected.is_set() and code.is_failure:
            self._note(f"lost the MQTT broker at {self._where}: {code}")
        elif not self.connected.is_set() and self._tls is not None and not self.last_error:
            self._note(
                f"the MQTT broker at {self._where} hangs up before it answers; does it accept our certificate:"
                " who signed it, its time, its revocation?"
            )
        self._end_connection()

    def _on_message(self, _c: mqtt.Client, _u: object, message: mqtt.MQTTMessage) -> None:
        if message.qos == 1:
            if message.dup and message.mid in self._unacknowledged:
                return  # nats-server sends again what waits for its acknowledgement for long: here it is, being worked on
            self._unacknowledged.add(message.mid)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "\N{REPLACEMENT CHARACTER}"
        self._inbox.put(
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

    def _on_publish(self, _c: mqtt.Client, _u: object, mid: int, code: ReasonCode, _p: Properties) -> None:
        if self._pump.flushing:
            return  # a QoS 0 message was written; its id may be that of a QoS 1 message that still waits
        done = self._published.pop(mid, None)
        if done is not None:
            self._slots.release()
            if not done.done():
                if code.is_failure:  # 3.1.1 has no refusal here
                    done.set_exception(
                        Rejected(f"the MQTT broker at {self._where} refuses the message: {code}")
                    )
                else:
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
