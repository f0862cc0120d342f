"""Our MQTT client against a scripted server: what a broker may do, and what none should."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.mqtt import packets
from gateway.mqtt.connection import COALESCE_SECONDS, Connection
from gateway.mqtt.inbox import INBOX_BYTES, TAKEN_BYTES, Inbox
from gateway.mqtt.properties import read_varint
from gateway.mqtt.stream import Stream
from gateway.port import BrokerClient, Version, Will, open_broker
from shared.errors import Misconfigured, Rejected, Unavailable

Script = Callable[["Served"], Awaitable[None]]


class Served:
    """One connection, from the server's side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def packet(self) -> tuple[int, bytes]:
        """The client's next packet: its first byte and what follows its length."""
        head = await self.reader.readexactly(1)
        length = b""
        while not length or length[-1] > 0x7F:
            length += await self.reader.readexactly(1)
        return head[0], await self.reader.readexactly(read_varint(length, 0)[0])

    async def accept(self, answer: str = "20030000 00") -> bytes:
        """CONNECT's answer; returns its body."""
        head, body = await self.packet()
        assert head == packets.CONNECT
        self.send(answer)
        return body

    async def grant(self, codes: str = "01") -> bytes:
        """SUBACK on MQTT 5."""
        head, body = await self.packet()
        assert head == packets.SUBSCRIBE
        granted = body[:2] + b"\0" + bytes.fromhex(codes)
        self.writer.write(bytes([packets.SUBACK, len(granted)]) + granted)
        return body

    def send(self, data: str | bytes) -> None:
        self.writer.write(data if isinstance(data, bytes) else bytes.fromhex(data))

    async def gone(self) -> None:
        """Return once the client has closed."""
        while await self.reader.read(1000):
            pass


@asynccontextmanager
async def against(
    *scripts: Script,
    version: Version = "auto",
    clean: bool = False,
    keepalive: int = 30,
    will: Callable[[], Will] | None = None,
) -> AsyncIterator[BrokerClient]:
    """A client of a server that plays a script a connection (the last again and again)."""
    played = iter(scripts)
    failures: list[BaseException] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await next(played, scripts[-1])(Served(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except AssertionError as error:
            failures.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with (
            asyncio.timeout(20),
            open_broker(
                f"mqtt://127.0.0.1:{port}",
                client_id="c",
                clean=clean,
                keepalive=keepalive,
                version=version,
                connect_seconds=0.3,
                will=will,
            ) as client,
        ):
            yield client
    finally:
        server.close()
        await server.wait_closed()
    assert not failures


async def told(client: BrokerClient, words: str) -> None:
    while words not in client.last_error:
        await asyncio.sleep(0.005)


async def accepting(served: Served) -> None:
    await served.accept()
    await served.gone()


async def test_a_server_of_an_older_version_is_met_with_it() -> None:
    levels = []

    async def older(served: Served) -> None:
        levels.append((await served.accept("20020001"))[6])

    async def right(served: Served) -> None:
        levels.append((await served.accept("20020000"))[6])
        await served.gone()

    async with against(older, right) as client:
        await client.connected.wait()
        assert client.last_error == ""
    assert levels == [5, 4]


@pytest.mark.parametrize(
    ("version", "answer", "words"),
    [
        ("5", "2003008400", "does not speak the wanted version"),
        ("3.1.1", "20020001", "does not speak the wanted version"),
        ("auto", "2003008600", "bad user name or password"),
        ("3.1.1", "20020005", "not authorized"),
        ("auto", "ffffffffffff", "no MQTT"),
        ("auto", "d000", "before CONNACK"),
        ("auto", "20030000002003000000", "second CONNACK"),
        ("auto", "2003000000f000", "no server sends"),
        ("auto", "2003000000e0018e", "session taken over"),
        ("auto", "20030000003003000000", "no topic"),
        ("auto", "", "closed the connection before it answered"),
        ("auto", "2003000000", "closed the connection"),
    ],
)  # fmt: skip
async def test_a_server_that_says_no_or_nonsense_is_told_and_left(
    version: Version, answer: str, words: str
) -> None:
    async def script(served: Served) -> None:
        await served.accept(answer)
        if answer and answer != "2003000000":
            await served.gone()

    async with against(script, version=version) as client:
        await told(client, words)


async def test_a_server_that_does_not_answer_is_left() -> None:
    async def silent(served: Served) -> None:
        await served.gone()

    async with against(silent, accepting) as client:
        await told(client, "does not answer")
        await client.connected.wait()


async def test_a_server_that_falls_silent_is_left_and_one_that_answers_pings_is_not() -> None:
    async def silent(served: Served) -> None:
        await served.accept("2006000003130001")  # keep alive 1 s
        await served.gone()

    async def lively(served: Served) -> None:
        await served.accept("2006000003130001")
        for _ in range(2):
            head, _ = await served.packet()
            assert head == packets.PINGREQ[0]
            served.send("d000")
        await served.gone()

    async with against(silent, lively) as client:
        await told(client, "has fallen silent")
        await client.connected.wait()
        await asyncio.sleep(1.5)
        assert client.connections == 2


async def test_subscriptions_are_granted_refused_and_asked_again() -> None:
    asked = []

    async def first(served: Served) -> None:
        await served.accept()
        asked.append(await served.grant("01"))
        asked.append(await served.grant("87"))

    async def second(served: Served) -> None:
        await served.accept()
        asked.append(await served.grant("97"))
        await served.gone()

    async with against(first, second) as client:
        await client.subscribe("a/+")
        with pytest.raises(Misconfigured, match="'b': not authorized"):
            await client.subscribe("b")
        await told(client, "'a/+': quota exceeded")  # granted before: it keeps asking
    assert [body[3:] for body in asked] == [b"\0\x03a/+\x01", b"\0\x01b\x01", b"\0\x03a/+\x01"]


async def test_a_server_without_shared_subscriptions_is_misconfigured() -> None:
    async def script(served: Served) -> None:
        await served.accept("20050000022a00")
        await served.gone()

    async with against(script) as client:
        with pytest.raises(Misconfigured, match="no shared subscriptions"):
            await client.subscribe("$share/g/a")


async def test_publishes_are_confirmed_refused_or_sent_again() -> None:
    seen = []

    async def first(served: Served) -> None:
        await served.accept()
        head, body = await served.packet()
        seen.append((head, body))
        served.send(bytes([0x40, 2]) + body[3:5])
        head, body = await served.packet()
        served.send(bytes([0x40, 3]) + body[3:5] + b"\x97")
        seen.append(await served.packet())

    async def second(served: Served) -> None:
        await served.accept()
        head, body = await served.packet()
        seen.append((head, body))
        served.send(bytes([0x40, 2]) + body[3:5])
        await served.gone()

    async with against(first, second, will=lambda: Will("w", b"!")) as client:
        await client.publish("t", b"1", qos=1, retain=True)
        with pytest.raises(Rejected, match="quota exceeded"):
            await client.publish("t", b"2", qos=1)
        await client.publish("t", b"3", qos=1)
    assert [head for head, _ in seen] == [0x33, 0x32, 0x3A]
    assert seen[1][1] == seen[2][1]


async def test_who_waits_when_the_client_closes_is_told() -> None:
    async with against(accepting) as client:
        publishing = asyncio.create_task(client.publish("t", b"1", qos=1))
        subscribing = asyncio.create_task(client.subscribe("t"))
        await client.connected.wait()
        await asyncio.sleep(0)
    for task in (publishing, subscribing):
        with pytest.raises(Unavailable, match="was closed"):
            await task


@pytest.mark.parametrize(("clean", "remembered"), [(True, False), (False, False), (False, True)])
async def test_what_a_lost_connection_left_is_forgotten_only_if_it_comes_again(
    *, clean: bool, remembered: bool
) -> None:
    message = packets.publish("t", b"of QoS 1", 5, packet_id=9) + packets.publish("t", b"of QoS 0", 5)

    async def first(served: Served) -> None:
        await served.accept()
        served.send(message)

    async def second(served: Served) -> None:
        await served.accept("2003010000" if remembered else "2003000000")
        await served.gone()

    async with against(first, second, clean=clean) as client:
        while client.connections < 2:
            await asyncio.sleep(0.005)
        found = await client.receive(10)
        assert client.sessions_lost == (not clean and not remembered)
    assert sorted(found.payloads) == [b"of QoS 0"] + ([] if remembered else [b"of QoS 1"])
    assert found.handles == [0] * len(found)


async def test_the_inbox_is_bounded_by_bytes_and_gives_them_in_portions() -> None:
    inbox = Inbox(1000)
    big = packets.publish("t", b"x" * 200_000, 4, packet_id=1)
    stream = Stream(inbox, lambda *_: None, 4)
    while not inbox.is_full():
        stream.feed(big)
    count = len(inbox)
    assert count == INBOX_BYTES // 200_000 + 1
    taken = []
    while len(inbox):
        portion = await inbox.take(1000)
        assert sum(map(len, portion.payloads)) <= TAKEN_BYTES
        taken.append(len(portion))
    assert sum(taken) == count
    assert not inbox.is_full(0.01)


class Transport(asyncio.Transport):
    """A socket that only notes whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = True
        self.pauses = 0

    def pause_reading(self) -> None:
        self.reading, self.pauses = False, self.pauses + 1

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False


@pytest.mark.parametrize(("a_second", "gathers"), [(1000, False), (20_000, True)])
async def test_only_a_busy_connection_lets_small_chunks_gather(
    a_second: int, *, gathers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox(10**6)
    connection = Connection(inbox, lambda *_: None, 5)
    transport = Transport()
    connection.connection_made(transport)
    loop = asyncio.get_running_loop()
    now = loop.time()
    with monkeypatch.context() as patched:
        patched.setattr(loop, "time", lambda: now)
        for _ in range(a_second // 10):
            now += 1 / a_second
            transport.reading = True
            connection.data_received(packets.publish("t", b"x", 5, packet_id=1))
        assert (transport.pauses > 0) is gathers
        now += COALESCE_SECONDS
    if gathers:
        assert not transport.reading
        async with asyncio.timeout(5):
            while not transport.reading:
                await asyncio.sleep(0.001)
    connection.connection_lost(None)
