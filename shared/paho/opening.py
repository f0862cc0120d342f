"""Making a client and keeping its connection's loop running beside its owner."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from shared.broker_url import broker_address
from shared.paho.client import MqttClient
from shared.tls import Certificates, NewestContext, TlsFiles

CONNECT_SECONDS: Final = 5.0
SESSION_SECONDS: Final = 7 * 24 * 3600
MAX_RECEIVE: Final = 65_535


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
    connect_seconds: float = CONNECT_SECONDS,
    will: Callable[[], tuple[str, bytes, int, bool]] | None = None,
    mqtt5: bool = False,
    session_seconds: int = SESSION_SECONDS,
    tls: Certificates | None = None,
) -> AsyncIterator[MqttClient]:
    """A client of the broker at `mqtt://host:port` or `mqtts://host:port`, with manual acks and (unless `clean`) a persistent session.

    `will`, asked anew at each connect, gives topic, payload, QoS and retain of the client's last will. `mqtt5` speaks
    MQTT 5 (default 3.1.1), where a session that persists ends `session_seconds` after its connection.

    It connects in the background, for ever, with jittered backoff; the broker need not be up yet. A wrong password
    is logged, kept in `last_error` and tried again, since credentials rotate. `tls`: whom to trust behind `mqtts` and what
    to show; when its files change the connection is made anew. Raises Misconfigured for another URL.
    """
    host, port, secure = broker_address(url)
    newest = NewestContext(tls or TlsFiles().open()) if secure else None
    paho: Any = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if mqtt5 else clean,
        protocol=mqtt.MQTTv5 if mqtt5 else mqtt.MQTTv311,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    if username:
        paho.username_pw_set(username, password)
    if newest is not None:
        paho.tls_set_context(newest)
    paho.connect_timeout = connect_seconds
    paho.max_inflight_messages = 0  # the client bounds them; paho's bound scans all of them at each PUBACK
    if mqtt5:
        session: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = 0 if clean else session_seconds
        session.ReceiveMaximum = min(receive_maximum, MAX_RECEIVE)
        paho.connect_async(host, port, keepalive, clean_start=clean, properties=session)
    else:
        paho.connect_async(host, port, keepalive)
    client = MqttClient(
        paho,
        f"{host}:{port}",
        keeps_session=not clean,
        receive_maximum=receive_maximum,
        connect_seconds=connect_seconds,
        will=will,
        tls=newest,
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
