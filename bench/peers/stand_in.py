"""A scripted MQTT broker that never limits: it knows what it will send, and sends it to whoever subscribes to it.

MQTT 3.1.1 and 5, one subscriber. It accepts every connection and subscription, swallows what clients publish, and on
the word `go` pushes the scenario as fast as the subscriber's receive maximum allows. On standard output it says, one
JSON object a line: its port; who subscribed; and, once all is acknowledged (or the subscriber has gone), what came of it.
Run: python -m bench.peers.stand_in FOLDER [COUNT]
"""

import asyncio
import sys
from pathlib import Path
from typing import Final, cast

import orjson
import uvloop

from bench.peers.pusher import Pusher
from bench.peers.scenario import IDS, Scenario, varint

_FOUR_BYTES: Final = {0x11, 0x02, 0x18, 0x22, 0x27}
_RECEIVE_MAXIMUM: Final = 0x21


class StandIn:
    """The scenario, and the connection that it goes to."""

    def __init__(self, scenario: Scenario, count: int) -> None:
        self.scenario = scenario
        self.count = count
        self.target: Connection | None = None
        self.over = asyncio.Event()

    def subscribed(self, connection: "Connection", filters: list[str]) -> None:
        """Remember who wants the scenario; the first is served."""
        if self.target is None and any(matches(each, self.scenario.topic) for each in filters):
            self.target = connection
            packets, offsets = self.scenario.open(connection.version)
            connection.pusher = Pusher(
                connection.transport, packets, offsets[: self.count + 1], connection.receive_maximum
            )
            say(subscribed=filters, version=connection.version, receive_maximum=connection.receive_maximum)

    def go(self) -> Pusher:
        """Begin to send."""
        if self.target is None or self.target.pusher is None:
            raise SystemExit("nobody has subscribed to the scenario")
        self.target.pusher.push()
        return self.target.pusher


class Connection(asyncio.Protocol):
    """One client."""

    transport: asyncio.Transport

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in
        self._rest = b""
        self.version = 4
        self.receive_maximum = IDS
        self.pusher: Pusher | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write in large pieces."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self.transport.set_write_buffer_limits(high=1 << 20)

    def connection_lost(self, _: Exception | None) -> None:
        """The run is over if the one that is served has gone."""
        if self.pusher is not None:
            self._stand_in.over.set()

    def pause_writing(self) -> None:
        """The client reads more slowly."""
        if self.pusher is not None:
            self.pusher.blocked = True

    def resume_writing(self) -> None:
        """Go on."""
        if self.pusher is not None:
            self.pusher.blocked = False
            self.pusher.push()

    def data_received(self, data: bytes) -> None:
        """Take acknowledgements by the chunk, and whatever else packet by packet."""
        data = self._rest + data if self._rest else data
        used = self.pusher.pubacks(data) if self.pusher is not None else 0
        self._rest = data[used:]
        if len(self._rest) > 3 or (self._rest and not used):
            self._rest = self._packets(self._rest)
        if self.pusher is not None and self.pusher.sent:
            if self.pusher.done:
                self._stand_in.over.set()
            self.pusher.push()

    def _packets(self, data: bytes) -> bytes:
        at = 0
        while (packet := next_packet(data, at)) is not None:
            head, body, at = packet
            self._packet(head >> 4, head & 15, body)
        return data[at:]

    def _packet(self, kind: int, flags: int, body: bytes) -> None:
        match kind:
            case 1:  # CONNECT
                self.version = body[6]
                self.receive_maximum = receive_maximum(body[10:]) if self.version == 5 else IDS
                self._answer(0x20, b"\0\0" + self._no_properties)
            case 8:  # SUBSCRIBE
                filters = self._filters(body, options=1)
                self._answer(0x90, body[:2] + self._no_properties + b"\1" * len(filters))
                self._stand_in.subscribed(self, filters)
            case 10:  # UNSUBSCRIBE
                filters = self._filters(body, options=0)
                reasons = b"\0" * len(filters) if self.version == 5 else b""
                self._answer(0xB0, body[:2] + self._no_properties + reasons)
            case 3 if flags & 6:  # PUBLISH, QoS 1
                after_topic = 2 + int.from_bytes(body[:2])
                self._answer(0x40, body[after_topic : after_topic + 2])
            case 4 if self.pusher is not None:  # PUBACK
                self.pusher.puback(int.from_bytes(body[:2]))
            case 12:  # PINGREQ
                self._answer(0xD0, b"")
            case 14:  # DISCONNECT
                self.transport.close()

    @property
    def _no_properties(self) -> bytes:
        return b"\0" if self.version == 5 else b""

    def _answer(self, head: int, body: bytes) -> None:
        self.transport.write(bytes([head]) + varint(len(body)) + body)

    def _filters(self, body: bytes, options: int) -> list[str]:
        at = 2
        if self.version == 5:
            length, at = read_varint(body, at)
            at += length
        filters = []
        while at < len(body):
            size = int.from_bytes(body[at : at + 2])
            filters.append(body[at + 2 : at + 2 + size].decode())
            at += 2 + size + options
        return filters


def next_packet(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """First byte, body and end of the packet at `at`; None if it is not complete."""
    size, shift, i = 0, 0, at + 1
    while True:
        if i >= len(data):
            return None
        size |= (data[i] & 127) << shift
        shift += 7
        i += 1
        if data[i - 1] < 128:
            break
    return (data[at], data[i : i + size], i + size) if i + size <= len(data) else None


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer and where it ends."""
    number, shift = 0, 0
    while True:
        number |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return number, at


def receive_maximum(properties: bytes) -> int:
    """The receive maximum among CONNECT's properties, 65,535 if it is not there (MQTT 5, 3.1.2.11)."""
    length, at = read_varint(properties, 0)
    end = at + length
    while at < end:
        name = properties[at]
        if name == _RECEIVE_MAXIMUM:
            return int.from_bytes(properties[at + 1 : at + 3])
        at += 1
        if name in _FOUR_BYTES:
            at += 4
        elif name in {0x17, 0x19}:
            at += 1
        else:  # a text, some data, or a pair of texts
            for _ in range(2 if name == 0x26 else 1):
                at += 2 + int.from_bytes(properties[at : at + 2])
    return IDS


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a subscription, shared or not, takes a topic."""
    parts = topic_filter.split("/")
    wanted, given = parts[2:] if parts[0] == "$share" else parts, topic.split("/")
    if wanted[-1] == "#":
        return all(want in {"+", part} for want, part in zip(wanted[:-1], given, strict=False))
    return len(wanted) == len(given) and all(
        want in {"+", part} for want, part in zip(wanted, given, strict=True)
    )


def say(**facts: object) -> None:
    """One line for whoever started this."""
    sys.stdout.buffer.write(orjson.dumps(facts) + b"\n")
    sys.stdout.buffer.flush()


async def serve(folder: Path, count: int) -> None:
    """Serve until standard input ends."""
    scenario = Scenario.load(folder)
    stand_in = StandIn(scenario, min(count, scenario.count))
    loop = asyncio.get_running_loop()
    words = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(words), sys.stdin)
    server = await loop.create_server(lambda: Connection(stand_in), "127.0.0.1", 0)
    say(port=server.sockets[0].getsockname()[1])
    async for word in words:
        if word.strip() == b"go":
            pusher = stand_in.go()
            await stand_in.over.wait()
            say(
                started=pusher.started,
                ended=pusher.ended,
                acked=pusher.acked,
                strange=pusher.strange,
                samples=pusher.samples,
            )


def main() -> None:
    """Read the arguments and serve."""
    count = int(sys.argv[2]) if len(sys.argv) > 2 else sys.maxsize
    uvloop.run(serve(Path(sys.argv[1]), count))


if __name__ == "__main__":
    main()
