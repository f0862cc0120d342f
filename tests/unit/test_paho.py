"""The MQTT client against a real nats-server: confirmed publishes, manual acks, backpressure, reconnects."""

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from industrialmind.embedded import server_binary
from shared.errors import Misconfigured, Unavailable
from shared.paho import MqttClient, open_mqtt

CONFIG = """
listen: 127.0.0.1:{nats}
server_name: test
jetstream {{ store_dir: "{store}", max_file_store: 256MB }}
mqtt {{ listen: 127.0.0.1:{mqtt}, ack_wait: "1s" }}
authorization {{
  users: [
    {{ user: all, password: secret }}
    {{ user: few, password: secret, permissions: {{ publish: "few.>", subscribe: ["few.>", "$MQTT.>", "_INBOX.>"] }} }}
  ]
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Broker:
    """A nats-server that can be killed and started again on its store."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.config = folder / "nats.conf"
        self.config.write_text(CONFIG.format(nats=free_port(), mqtt=self.port, store=folder / "store"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen([server_binary(), "-c", str(self.config)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    made.start()
    yield made
    made.kill()


@asynccontextmanager
async def client(broker: Broker, name: str, *, receive_maximum: int = 1000) -> AsyncIterator[MqttClient]:
    async with open_mqtt(
        broker.url, client_id=name, username="all", password="secret", receive_maximum=receive_maximum
    ) as made:
        yield made


async def receive_all(receiver: MqttClient, wanted: int) -> list[bytes]:
    got: list[bytes] = []
    async with asyncio.timeout(20):
        while len(got) < wanted:
            messages = await receiver.receive(100)
            receiver.ack(messages)
            got += [message.payload for message in messages]
    return got


async def test_messages_arrive_in_order_and_are_confirmed(broker: Broker) -> None:
    async with client(broker, "sender") as sender, client(broker, "receiver") as receiver:
        await receiver.subscribe("plant/+/value")
        sent = [b"%d" % i for i in range(1500)]
        await asyncio.gather(*(sender.publish("plant/a/value", payload) for payload in sent))
        got = await receive_all(receiver, len(sent))
        # A broker whose patience a slow machine outlasts sends some again: what is new comes in order.
        while len(unique := list(dict.fromkeys(got))) < len(sent):
            got += await receive_all(receiver, 1)
        assert unique == sent
        assert sender.connections == receiver.connections == 1


async def test_unacknowledged_messages_come_again_to_the_next_client(broker: Broker) -> None:
    async with client(broker, "sender") as sender:
        async with client(broker, "receiver") as receiver:
            await receiver.subscribe("t")
            for i in range(4):
                await sender.publish("t", b"%d" % i)
            got = await receiver.receive(2)
            while len(got) < 4:
                got += await receiver.receive(4)
            receiver.ack(got[:2])
            await receiver.publish("other", b"", qos=1)  # the acks went out before it
        await sender.publish("t", b"4")  # while the receiver is away
        async with client(broker, "receiver") as receiver:
            assert set(await receive_all(receiver, 3)) == {b"2", b"3", b"4"}


async def test_what_waits_for_its_acknowledgement_is_not_taken_twice(broker: Broker) -> None:
    """The broker sends it again after its `ack_wait` of a second: the copy is the message that is being worked on."""
    async with client(broker, "sender") as sender, client(broker, "receiver") as receiver:
        await receiver.subscribe("t/#")
        await sender.publish("t/1", b"one")
        first = await receiver.receive(10)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await receiver.receive(10)
        receiver.ack(first)
        await sender.publish("t/1", b"two")
        assert [each.payload for each in await receiver.receive(10)] == [b"two"]


async def test_a_killed_broker_is_found_again_and_nothing_unconfirmed_is_lost(broker: Broker) -> None:
    async with client(broker, "sender") as sender, client(broker, "receiver") as receiver:
        await receiver.subscribe("t")
        await sender.publish("t", b"before")
        old = await receiver.receive(1)
        broker.kill()
        async with asyncio.timeout(5):
            await asyncio.gather(sender.wait_lost(), receiver.wait_lost())
        publishing = [asyncio.create_task(sender.publish("t", b"%d" % i)) for i in range(20)]
        assert sender.last_error
        broker.start()
        receiver.ack(old)  # of the dead connection: ignored
        await asyncio.gather(*publishing)
        got: set[bytes] = set()
        async with asyncio.timeout(20):
            while len(got) < 21:
                messages = await receiver.receive(100)
                receiver.ack(messages)
                got |= {message.payload for message in messages}
        assert got == {b"before", *(b"%d" % i for i in range(20))}
        assert receiver.connections == 2


async def test_a_publish_in_flight_at_the_kill_is_sent_again(broker: Broker) -> None:
    async with client(broker, "sender") as sender, client(broker, "receiver") as receiver:
        await receiver.subscribe("t")
        await sender.wait_connected(5)
        assert broker.process is not None
        broker.process.send_signal(signal.SIGSTOP)
        publishing = asyncio.create_task(sender.publish("t", b"x"))
        for _ in range(5):
            await asyncio.sleep(0)
        broker.kill()
        broker.start()
        await asyncio.wait_for(publishing, 10)
        assert (await asyncio.wait_for(receiver.receive(1), 10))[0].payload == b"x"


async def test_a_full_inbox_stops_reading_and_drops_nothing(broker: Broker) -> None:
    async with client(broker, "sender") as sender, client(broker, "slow", receive_maximum=10) as slow:
        await slow.subscribe("t")
        sent = [b"%d" % i for i in range(300)]
        await asyncio.gather(*(sender.publish("t", payload) for payload in sent))
        await sender.publish("elsewhere", b"")
        assert len(slow._inbox) <= 10
        assert await receive_all(slow, len(sent)) == sent


async def test_qos_0_returns_when_the_socket_took_it(broker: Broker) -> None:
    async with client(broker, "sender") as sender, client(broker, "receiver") as receiver:
        await receiver.subscribe("t", qos=0)
        await asyncio.gather(*(sender.publish("t", b"x" * 100_000, qos=0) for _ in range(20)))
        assert len(await receive_all(receiver, 20)) == 20


async def test_a_cancelled_publish_frees_its_place(broker: Broker) -> None:
    async with client(broker, "sender") as sender:
        await sender.wait_connected(5)
        free = sender._slots._value
        publishing = asyncio.create_task(sender.publish("t", b"x"))
        await asyncio.sleep(0)
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing
        await sender.publish("t", b"y")
        assert sender._slots._value == free


async def test_entering_needs_no_broker_and_publishing_waits_for_it(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    async with client(broker, "early") as early:
        with pytest.raises(Unavailable, match="can't reach the MQTT broker"):
            await early.wait_connected(0.3)
        subscribing = asyncio.create_task(early.subscribe("t"))
        publishing = asyncio.create_task(early.publish("t", b"x"))
        broker.start()
        try:
            async with asyncio.timeout(15):
                await subscribing
                await publishing
        finally:
            broker.kill()


async def test_a_wrong_password_is_named_and_tried_again(broker: Broker) -> None:
    async with open_mqtt(broker.url, client_id="c", username="all", password="wrong") as refused:
        with pytest.raises(Unavailable, match="refuses the login"):
            await refused.wait_connected(0.5)
        assert not refused.connected.is_set()


async def test_a_refused_subscription_is_named(broker: Broker) -> None:
    async with open_mqtt(broker.url, client_id="c", username="few", password="secret") as few:
        await few.subscribe("few/x")
        with pytest.raises(Misconfigured, match="refuses the subscription to 'foreign/x'"):
            await few.subscribe("foreign/x")


async def test_closing_fails_publishes_that_still_wait(broker: Broker) -> None:
    async with client(broker, "sender") as sender:
        await sender.wait_connected(5)
        assert broker.process is not None
        broker.process.send_signal(signal.SIGSTOP)
        publishing = asyncio.create_task(sender.publish("t", b"x"))
        await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="closed"):
        await publishing


async def test_a_silent_server_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.paho.client._TICK_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mqtt://127.0.0.1:{silent.getsockname()[1]}"
        async with open_mqtt(url, client_id="c", connect_seconds=0.05) as waiting:
            with pytest.raises(Unavailable, match="does not answer"):
                await waiting.wait_connected(0.3)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "mqtt://", "127.0.0.1:1883"])
async def test_another_url_is_misconfigured(url: str) -> None:
    with pytest.raises(Misconfigured, match="not an MQTT broker's URL"):
        async with open_mqtt(url, client_id="c"):
            pass


async def test_a_bug_in_the_connection_ends_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: MqttClient) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(MqttClient, "_connect", broken)
    with pytest.raises(ZeroDivisionError):
        async with open_mqtt("mqtt://127.0.0.1:1", client_id="c") as client:
            await client.receive(1)
