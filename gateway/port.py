"""The gateway's port to an MQTT broker: batches of messages in, acknowledgements when the log has them.

Two drivers stand behind it: `gateway.mqtt` (our own, lean) and `gateway.paho`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from shared.errors import Misconfigured
from shared.tls import Certificates

Driver = Literal["lean", "paho"]
Version = Literal["auto", "3.1.1", "5"]

SHARED_PREFIX: Final = "$share/"
SESSION_SECONDS: Final = 7 * 24 * 3600


@dataclass(slots=True)
class Arrivals:
    """Messages in order of arrival, as parallel lists. `handles` are packet ids, 0 for QoS 0."""

    topics: list[str]
    payloads: list[bytes]
    handles: list[int]
    connection: int

    def __len__(self) -> int:
        return len(self.topics)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for a client that vanishes."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


class BrokerClient(Protocol):
    """One connection to a broker, kept up for ever."""

    @property
    def connected(self) -> asyncio.Event:
        """Set while the broker accepts us."""
        ...

    @property
    def connections(self) -> int:
        """How often it did."""
        ...

    @property
    def last_error(self) -> str:
        """Why it last did not, in words; empty once it does."""
        ...

    @property
    def sessions_lost(self) -> int:
        """How often a reconnect met a broker that had forgotten our persistent session, and what it held for us."""
        ...

    async def subscribe(self, *filters: str, qos: int = 1) -> None:
        """Subscribe, now and after each reconnect; returns once granted. Raises Misconfigured if refused."""
        ...

    async def receive(self, limit: int) -> Arrivals:
        """At least one message and at most `limit`, all of one connection.

        While the inbox is full (messages, or their bytes) the socket is not read: nothing is dropped, the broker
        holds the rest.
        """
        ...

    def ack(self, arrivals: Arrivals, indices: Sequence[int] | None = None) -> None:
        """Tell the broker that these (None: all) are done. Those of an earlier connection are ignored."""
        ...

    async def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> None:
        """Return once the broker confirmed the message (QoS 1) or the socket took it (QoS 0).

        Waits while there is no connection. Raises Rejected if the broker refuses it, Unavailable at the close.
        """
        ...


def shares_need_mqtt5(where: str) -> Misconfigured:
    """What a shared subscription over MQTT 3.1.1 comes to."""
    return Misconfigured(
        f"the MQTT broker at {where} speaks 3.1.1 with us, which has no shared subscriptions",
        hint="use a broker with MQTT 5 (mosquitto, EMQX), or one gateway with share_group empty",
    )


@asynccontextmanager
async def open_broker(
    url: str,
    *,
    client_id: str,
    username: str = "",
    password: str = "",
    clean: bool = False,
    receive_maximum: int = 1000,
    keepalive: int = 30,
    connect_seconds: float = 5.0,
    will: Callable[[], Will] | None = None,
    driver: Driver = "lean",
    version: Version = "auto",
    session_seconds: int = SESSION_SECONDS,
    tls: Certificates | None = None,
) -> AsyncIterator[BrokerClient]:
    """A client of the broker at `mqtt://host:port` or `mqtts://host:port`, which connects in the background, for ever, with backoff.

    Unless `clean`, its session persists: on MQTT 5 for `session_seconds`. `will` is asked anew at each connect.
    `version` "auto" tries MQTT 5 and falls back to 3.1.1 (with paho: 3.1.1 at once). A wrong password is kept in
    `last_error` and tried again, since credentials rotate. `tls`: whom to trust behind `mqtts` and what to show; when its
    files change the connection is made anew. Raises Misconfigured for another URL.
    """
    match driver:
        case "lean":
            from gateway.mqtt import open_lean as open_driver  # noqa: PLC0415 - only the chosen driver loads
        case "paho":
            from gateway.paho import open_paho as open_driver  # noqa: PLC0415 - the same
    async with open_driver(
        url,
        client_id=client_id,
        username=username,
        password=password,
        clean=clean,
        receive_maximum=receive_maximum,
        keepalive=keepalive,
        connect_seconds=connect_seconds,
        will=will,
        version=version,
        session_seconds=session_seconds,
        tls=tls,
    ) as client:
        yield client
