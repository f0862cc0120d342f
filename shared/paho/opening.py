"""Making a client and keeping its connection's loop running beside its owner."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from shared.errors import Misconfigured
from shared.names import MQTT_PORT
from shared.paho.client import MqttClient

CONNECT_SECONDS: Final = 5.0


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
    paho.connect_timeout = connect_seconds
    paho.max_inflight_messages = 0  # the client bounds them; paho's bound scans all of them at each PUBACK
    paho.connect_async(parts.hostname, port, keepalive)
    client = MqttClient(
        paho,
        f"{parts.hostname}:{port}",
        keeps_session=not clean,
        receive_maximum=receive_maximum,
        connect_seconds=connect_seconds,
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
