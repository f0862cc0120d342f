"""The gateway's MQTT client on mosquitto: MQTT 5, wills, shared subscriptions, and what a dead member leaves behind.

The last is what docs/how-to/run-several-gateways.md says of this broker, and why each lane's session is as it is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from deploy.servers.mosquitto import Mosquitto
from gateway.mqtt import LeanBroker
from gateway.port import BrokerClient, Version, Will, open_broker

pytestmark = pytest.mark.real

QUIET_S = 0.5


@asynccontextmanager
async def client(
    server: Mosquitto,
    name: str,
    *,
    clean: bool = True,
    receive_maximum: int = 1000,
    version: Version = "auto",
    will: Will | None = None,
) -> AsyncIterator[LeanBroker]:
    async with open_broker(
        server.url,
        client_id=name,
        username=server.username,
        password=server.password,
        clean=clean,
        receive_maximum=receive_maximum,
        version=version,
        will=None if will is None else lambda: will,
    ) as opened:
        yield cast("LeanBroker", opened)


class Member:
    """A member of the group: takes what comes until it is told to end, or dies without a word."""

    def __init__(self, server: Mosquitto, name: str, filters: str, *, clean: bool, acks: bool = True) -> None:
        self.got: list[bytes] = []
        self.joined = asyncio.Event()
        self._arguments = (server, name, filters, clean, acks)
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        server, name, filters, clean, acks = self._arguments
        async with client(server, name, clean=clean, receive_maximum=100) as opened:
            subscribing = asyncio.create_task(opened.subscribe(filters))
            subscribing.add_done_callback(lambda _: self.joined.set())
            self.client = opened
            while True:
                arrivals = await opened.receive(1000)
                self.got += arrivals.payloads
                if acks:
                    opened.ack(arrivals)

    async def die(self) -> None:
        """As a killed process does: its socket ends, nobody is told."""
        connection = self.client._connection
        assert connection is not None
        assert connection._transport is not None
        connection._transport.abort()
        self.client._connection = None
        self.client.connected.clear()
        await self.leave()

    async def leave(self) -> None:
        """In order."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def settled(*members: Member) -> None:
    """Return once nobody has got anything for a while."""
    before = -1
    while (now := sum(len(member.got) for member in members)) != before:
        before = now
        await asyncio.sleep(QUIET_S)


async def publish(giver: BrokerClient, topic: str, numbers: range) -> None:
    await asyncio.gather(*(giver.publish(topic, str(n).encode(), qos=1) for n in numbers))


@pytest.mark.parametrize(("version", "level"), [("auto", 5), ("5", 5), ("3.1.1", 4)])
async def test_the_client_speaks_both_versions(mosquitto: Mosquitto, version: Version, level: int) -> None:
    async with client(mosquitto, f"v{level}", version=version) as opened, asyncio.timeout(20):
        await opened.subscribe("versions/+")
        await opened.publish("versions/x", b"1", qos=1)
        arrivals = await opened.receive(10)
        opened.ack(arrivals)
        assert (arrivals.topics, arrivals.payloads, opened.level) == (["versions/x"], [b"1"], level)


async def test_a_client_that_dies_leaves_its_will(mosquitto: Mosquitto) -> None:
    async with client(mosquitto, "watcher") as watcher, asyncio.timeout(20):
        await watcher.subscribe("wills/+")
        async with client(mosquitto, "mortal", will=Will("wills/m", b"gone", retain=False)) as mortal:
            await mortal.connected.wait()
            connection = mortal._connection
            assert connection is not None
            assert connection._transport is not None
            connection._transport.abort()
            assert (await watcher.receive(1)).payloads == [b"gone"]


@pytest.mark.parametrize("clean", [False, True])
async def test_what_becomes_of_a_dead_members_messages(mosquitto: Mosquitto, *, clean: bool) -> None:
    group = f"$share/g{clean:d}/dealt{clean:d}/+"
    topic = f"dealt{clean:d}/x"
    async with client(mosquitto, "giver") as giver, asyncio.timeout(60):
        alive = Member(mosquitto, f"alive-{clean}", group, clean=clean)
        mortal = Member(mosquitto, f"mortal-{clean}", group, clean=clean, acks=False)
        await alive.joined.wait()
        await mortal.joined.wait()
        await publish(giver, topic, range(1000))
        await settled(alive, mortal)
        assert (len(alive.got), len(mortal.got)) == (500, 100)  # dealt in turn; 100 is its receive maximum
        await mortal.die()
        await settled(alive)
        assert len(alive.got) == 500  # nobody else gets what was dealt to the dead
        await publish(giver, topic, range(1000, 1100))
        await settled(alive)
        assert len(alive.got) == (
            600 if clean else 550
        )  # a session that persists is dealt its share all the same
        back = Member(mosquitto, f"mortal-{clean}", group, clean=clean)
        await back.joined.wait()
        await settled(back)
        missing = 1100 - len({*alive.got, *back.got})
        assert missing == (500 if clean else 0)
        await alive.leave()
        await back.leave()
