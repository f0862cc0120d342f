"""Publishes a scenario to a broker as fast as the broker takes it: packets made before, over one connection, MQTT 3.1.1.

Up to WINDOW messages wait for the broker's PUBACK. Run: python -m bench.peers.publisher HOST:PORT FOLDER COUNT WINDOW
[MESSAGES_A_SECOND], with the credentials (`user:password`) on standard input, then `go`. It says when it is connected, and what came of it.
"""

import asyncio
import sys
from pathlib import Path
from typing import cast

import uvloop

from bench.peers.pusher import Pusher
from bench.peers.scenario import Scenario, varint
from bench.peers.stand_in import next_packet, say


class Publisher(asyncio.Protocol):
    """The connection."""

    def __init__(self, scenario: Scenario, credentials: str, count: int, window: int) -> None:
        self._scenario = scenario
        self._credentials = credentials.split(":")
        self._count = count
        self._window = window
        self._rest = b""
        self.connected = asyncio.Event()
        self.over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect with a clean session."""
        plain = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        plain.set_write_buffer_limits(high=1 << 20)
        packets, offsets = self._scenario.open(4)
        self.pusher = Pusher(plain, packets, offsets[: self._count + 1], self._window)
        body = b"\0\x04MQTT\x04\xc2\0\0"
        for text in ("publisher", *self._credentials):
            body += len(text).to_bytes(2) + text.encode()
        plain.write(b"\x10" + varint(len(body)) + body)

    def connection_lost(self, _: Exception | None) -> None:
        """There is no second try."""
        self.over.set()

    def pause_writing(self) -> None:
        """The broker reads more slowly."""
        self.pusher.blocked = True

    def resume_writing(self) -> None:
        """Go on."""
        self.pusher.blocked = False
        self.pusher.push()

    def data_received(self, data: bytes) -> None:
        """The CONNACK, then acknowledgements."""
        data = self._rest + data
        used = self.pusher.pubacks(data)
        while not self.connected.is_set() and (packet := next_packet(data, used)) is not None:
            head, body, used = packet
            if head != 0x20 or body[1]:
                raise SystemExit(f"the broker refuses: {packet}")
            self.connected.set()
        self._rest = data[used:]
        if self.pusher.done:
            self.over.set()
        elif self.pusher.sent:
            self.pusher.push()


async def publish(address: str, folder: Path, count: int, window: int, pace: int = 0) -> None:
    """Publish on the word."""
    host, port = address.split(":")
    publisher = Publisher(Scenario.load(folder), sys.stdin.readline().strip(), count, window)
    await asyncio.get_running_loop().create_connection(lambda: publisher, host, int(port))
    await publisher.connected.wait()
    say(connected=True)
    if await asyncio.to_thread(sys.stdin.readline):
        pusher = publisher.pusher
        if pace:
            await keep_pace(pusher, pace)
        pusher.push()
        await publisher.over.wait()
        say(
            started=pusher.started, ended=pusher.ended, acked=pusher.acked, strange=pusher.strange, samples=[]
        )
        await asyncio.to_thread(sys.stdin.read)


async def keep_pace(pusher: Pusher, pace: int) -> None:
    """Send `pace` messages a second, those of 10 ms together."""
    each, clock = max(1, pace // 100), asyncio.get_running_loop().time
    pusher.limit, started = 0, clock()
    while pusher.limit < pusher.count:
        pusher.limit = min(pusher.count, pusher.limit + each)
        pusher.push()
        await asyncio.sleep(started + pusher.limit / pace - clock())


def main() -> None:
    """Read the arguments and publish."""
    uvloop.run(publish(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *map(int, sys.argv[4:])))


if __name__ == "__main__":
    main()
