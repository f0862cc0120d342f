"""The broker's port on paho: slower than our own driver, and by other hands."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple

from gateway.port import SHARED_PREFIX, Arrivals, BrokerClient, Version, Will, shares_need_mqtt5
from shared.broker_url import broker_address
from shared.paho import MqttClient, open_mqtt
from shared.tls import Certificates


class PahoBroker:
    """`BrokerClient` over the project's paho client."""

    def __init__(self, client: MqttClient, where: str, *, mqtt5: bool) -> None:
        self._client = client
        self._where = where
        self._mqtt5 = mqtt5

    @property
    def connected(self) -> asyncio.Event:
        """Set while the broker accepts us."""
        return self._client.connected

    @property
    def connections(self) -> int:
        """How often it did."""
        return self._client.connections

    @property
    def last_error(self) -> str:
        """Why it last did not."""
        return self._client.last_error

    @property
    def sessions_lost(self) -> int:
        """How often the broker had forgotten our session."""
        return self._client.sessions_lost

    async def subscribe(self, *filters: str, qos: int = 1) -> None:
        """See the port."""
        if not self._mqtt5 and any(each.startswith(SHARED_PREFIX) for each in filters):
            raise shares_need_mqtt5(self._where)
        await self._client.subscribe(*filters, qos=qos)

    async def receive(self, limit: int) -> Arrivals:
        """See the port."""
        taken = await self._client.receive(limit)
        connection = taken[-1].connection
        return Arrivals(
            [message.topic for message in taken],
            [message.payload for message in taken],
            # An inbox may still hold what came over an earlier connection: that is not ours to acknowledge.
            [message.mid if message.qos and message.connection == connection else 0 for message in taken],
            connection,
        )

    def ack(self, arrivals: Arrivals, indices: Sequence[int] | None = None) -> None:
        """See the port."""
        handles = arrivals.handles
        self._client.ack_ids(
            arrivals.connection, handles if indices is None else [handles[index] for index in indices]
        )

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """See the port."""
        await self._client.publish(topic, payload, qos=qos, retain=retain)


@asynccontextmanager
async def open_paho(
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
    mqtt5 = version == "5"
    async with open_mqtt(
        url,
        client_id=client_id,
        username=username,
        password=password,
        clean=clean,
        receive_maximum=receive_maximum,
        keepalive=keepalive,
        connect_seconds=connect_seconds,
        will=None if will is None else (lambda: astuple(will())),
        mqtt5=mqtt5,
        session_seconds=session_seconds,
        tls=tls,
    ) as client:
        host, port, _ = broker_address(url)
        yield PahoBroker(client, f"{host}:{port}", mqtt5=mqtt5)
