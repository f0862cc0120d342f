"""The gateway's port to a broker, both drivers, against a real nats-server (MQTT 3.1.1)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.port import Arrivals, BrokerClient, Driver, open_broker
from shared.errors import Misconfigured
from tests.servers import NatsServer

pytestmark = pytest.mark.parametrize("driver", ["lean", "paho"])


@asynccontextmanager
async def client(
    server: NatsServer,
    name: str,
    driver: Driver,
    *,
    password: str = "secret",  # noqa: S107 - made up
    clean: bool = False,
    receive_maximum: int = 1000,
) -> AsyncIterator[BrokerClient]:
    async with open_broker(
        f"mqtt://127.0.0.1:{server.mqtt_port}",
        client_id=name,
        username="admin",
        password=password,
        clean=clean,
        receive_maximum=receive_maximum,
        connect_seconds=1.0,
        driver=driver,
    ) as opened:
        yield opened


async def receive(opened: BrokerClient, count: int) -> list[Arrivals]:
    """That many messages, as they come."""
    found: list[Arrivals] = []
    async with asyncio.timeout(15):
        while sum(map(len, found)) < count:
            found.append(await opened.receive(100))
    return found


def payloads(found: list[Arrivals]) -> list[bytes]:
    return [payload for each in found for payload in each.payloads]


async def test_messages_come_in_order_until_they_are_acknowledged(
    nats_server: NatsServer, driver: Driver
) -> None:
    sent = [str(i).encode() for i in range(20)]
    async with client(nats_server, "taker", driver) as taker:
        await taker.subscribe("t/+")
        async with client(nats_server, "giver", driver, clean=True) as giver:
            for each in sent:
                await giver.publish("t/x", each, qos=1)
            await giver.publish("t/x", b"unconfirmed")
        found = await receive(taker, 21)
        handles = [handle for each in found for handle in each.handles]
        confirmed = list(zip(payloads(found), handles, strict=True))
        assert [payload for payload, handle in confirmed if handle] == sent
        assert [payload for payload, handle in confirmed if not handle] == [b"unconfirmed"]
        assert all(each.connection == taker.connections for each in found)
        for portion in found:
            taker.ack(portion, range(0, len(portion), 2))
            taker.ack(portion, range(1, len(portion), 2))
    async with client(nats_server, "taker", driver) as again:
        await again.subscribe("t/+")
        async with client(nats_server, "giver", driver, clean=True) as giver:
            await giver.publish("t/x", b"next", qos=1)
        assert payloads(await receive(again, 1)) == [b"next"]


async def test_what_was_not_acknowledged_comes_again_after_the_broker_is_killed(
    nats_server: NatsServer, driver: Driver
) -> None:
    if driver == "paho":
        pytest.skip("the project's paho client has this test of its own")
    async with client(nats_server, "taker", driver) as taker, client(nats_server, "giver", driver) as giver:
        await taker.subscribe("t/+")
        await giver.publish("t/x", b"once", qos=1)
        (first,) = await receive(taker, 1)
        nats_server.kill()
        publishing = asyncio.create_task(giver.publish("t/x", b"meanwhile", qos=1))
        nats_server.start()
        async with asyncio.timeout(15):
            await publishing
        found = await receive(taker, 2)
        assert set(payloads(found)) == {b"once", b"meanwhile"}
        assert taker.connections >= 2
        taker.ack(first)  # of an earlier connection: ignored
        for each in found:
            taker.ack(each)


async def test_a_full_inbox_stops_the_reading_and_loses_nothing(
    nats_server: NatsServer, driver: Driver
) -> None:
    async with (
        client(nats_server, "taker", driver, receive_maximum=50) as taker,
        client(nats_server, "giver", driver, clean=True) as giver,
    ):
        await taker.subscribe("t/+")
        sent = [str(i).encode() for i in range(400)]
        await asyncio.gather(*(giver.publish("t/x", each, qos=1) for each in sent))
        found: list[Arrivals] = []
        while sum(map(len, found)) < len(sent):
            (one,) = await receive(taker, 1)
            taker.ack(one)
            found.append(one)
        assert sorted(payloads(found)) == sorted(sent)


async def test_a_wrong_password_is_told_and_tried_again(nats_server: NatsServer, driver: Driver) -> None:
    async with client(nats_server, "taker", driver, password="wrong") as taker:
        async with asyncio.timeout(15):
            while "refuses the login" not in taker.last_error:
                await asyncio.sleep(0.01)
        assert not taker.connected.is_set()
        assert taker.connections == 0


async def test_a_broker_that_is_not_there_is_told(nats_server: NatsServer, driver: Driver) -> None:
    nats_server.kill()
    async with client(nats_server, "taker", driver) as taker:
        async with asyncio.timeout(15):
            while "can't reach" not in taker.last_error:
                await asyncio.sleep(0.01)
        nats_server.start()
        await asyncio.wait_for(taker.connected.wait(), 15)
        assert taker.last_error == ""


async def test_shared_subscriptions_need_mqtt_5(nats_server: NatsServer, driver: Driver) -> None:
    async with client(nats_server, "taker", driver) as taker:
        with pytest.raises(Misconfigured, match=r"3\.1\.1(.|\n)*hint: use a broker with MQTT 5"):
            await taker.subscribe("t/x", "$share/g/t/+")


async def test_another_url_is_misconfigured(driver: Driver) -> None:
    with pytest.raises(Misconfigured, match="mqtt://HOST:PORT"):
        async with open_broker("http://x", client_id="x", driver=driver):
            pass
