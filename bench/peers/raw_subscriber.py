"""The floor: a subscriber that takes each QoS 1 PUBLISH apart, keeps its payload, acknowledges it, and does nothing else.

A single pass over each chunk, and one write of all its acknowledgements. Run: python -m bench.peers.raw_subscriber
HOST:PORT TOPIC COUNT FILE, with the credentials (`user:password`) on standard input. It says when it is subscribed, and
once it has `COUNT` messages when it had the last; it then keeps the payloads in FILE and waits for its standard input to end.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

from bench.peers.scenario import IDS, varint
from bench.peers.stand_in import next_packet, say


class Subscriber(asyncio.Protocol):
    """One connection, MQTT 5, receive maximum 65,535."""

    def __init__(self, topic: str, credentials: str, count: int) -> None:
        self._topic = topic.encode()
        self._user, self._password = (part.encode() for part in credentials.split(":"))
        self._count = count
        self._rest = b""
        self.payloads: list[bytes] = []
        self.over = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect and subscribe at once."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        flags = 0xC2 if self._user else 0x02
        properties = b"\x21" + IDS.to_bytes(2)
        connect = (
            b"\0\x04MQTT\x05"
            + bytes([flags])
            + b"\0\0"
            + varint(len(properties))
            + properties
            + _text(b"floor")
        )
        if self._user:
            connect += _text(self._user) + _text(self._password)
        subscribe = b"\0\1\0" + _text(self._topic) + b"\1"
        for head, body in ((0x10, connect), (0x82, subscribe)):
            self._transport.write(bytes([head]) + varint(len(body)) + body)

    def data_received(self, data: bytes) -> None:  # noqa: C901 - one pass, with no call a packet
        """All whole packets of the chunk, in one pass."""
        if self._rest:
            data = self._rest + data
        at, end, acks = 0, len(data), []
        keep = self.payloads.append
        while end - at > 4:
            if data[at] & 0xF0 != 0x30:
                packet = next_packet(data, at)
                if packet is None:
                    break
                if packet[0] == 0x90:
                    say(subscribed=True)
                at = packet[2]
                continue
            size, start = data[at + 1], at + 2
            if size > 127:
                size += (data[start] << 7) - 128
                start += 1
                if data[start - 1] > 127:
                    size += (data[start] << 14) - (128 << 7)
                    start += 1
            after = start + size
            if after > end:
                break
            packet_id = start + 2 + (data[start] << 8 | data[start + 1])
            acks.append(data[packet_id : packet_id + 2])
            keep(data[packet_id + 3 + data[packet_id + 2] : after])
            at = after
        self._rest = data[at:]
        if acks:
            self._transport.write(b"\x40\x02" + b"\x40\x02".join(acks))
            if len(self.payloads) >= self._count and not self.over.is_set():
                self.over.set()


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2) + text


async def receive(address: str, topic: str, count: int, file: Path) -> None:
    """Take `count` messages and keep their payloads."""
    credentials = sys.stdin.readline().strip()
    host, port = address.split(":")
    subscriber = Subscriber(topic, credentials, count)
    await asyncio.get_running_loop().create_connection(lambda: subscriber, host, int(port))
    await subscriber.over.wait()
    ended = time.time()
    await asyncio.to_thread(file.write_bytes, b"".join(subscriber.payloads))
    say(ended=ended)
    await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Read the arguments and receive."""
    uvloop.run(receive(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))


if __name__ == "__main__":
    main()
