"""A publisher that only writes: QoS 1 messages as fast as a broker confirms them, each a reading of its own."""

import asyncio
from collections.abc import Iterator

MACHINES = 8
_WINDOW = 20_000
_CHUNK = 500
_CONNECT = 0x10
_PUBLISH_QOS_1 = 0x32
_PUBACK_BYTES = 4


def machine_of(number: int) -> str:
    """The n-th message's machine."""
    return f"d{number % MACHINES}"


async def flood(port: int, credentials: str, count: int, start_ms: int) -> None:
    """Publish readings 0 to `count` - 1: value n at `start_ms` + n. Returns when all are confirmed (MQTT 3.1.1)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_connect(credentials))
        assert await reader.readexactly(4) == b"\x20\x02\x00\x00", "refused"
        confirmed = sent = 0
        rest = b""
        for packets, many in _packets(count, start_ms):
            writer.write(packets)
            await writer.drain()
            sent += many
            # Packet ids come round after 65,535, and what is not read fills the broker's memory.
            while sent - confirmed > _WINDOW or (sent == count and confirmed < count):
                rest += await reader.read(1 << 16)
                assert rest, "the broker hung up"
                whole = len(rest) // _PUBACK_BYTES
                confirmed += whole
                rest = rest[whole * _PUBACK_BYTES :]
    finally:
        writer.close()


def _packets(count: int, start_ms: int) -> Iterator[tuple[bytes, int]]:
    for first in range(0, count, _CHUNK):
        numbers = range(first, min(first + _CHUNK, count))
        yield b"".join(_publish(n, start_ms) for n in numbers), len(numbers)


def _publish(number: int, start_ms: int) -> bytes:
    topic = f"plant/s1/{machine_of(number)}/flow".encode()
    payload = b'{"ts":%d,"value":%d,"unit":"l/min","quality":"good"}' % (start_ms + number, number)
    body = len(topic).to_bytes(2, "big") + topic + (number % 65_535 + 1).to_bytes(2, "big") + payload
    return bytes([_PUBLISH_QOS_1]) + _length(len(body)) + body


def _connect(credentials: str) -> bytes:
    user_and_password_and_clean = b"\xc2"
    fields = [text.encode() for text in ("flood", *credentials.split(":"))]
    payload = b"".join(len(field).to_bytes(2, "big") + field for field in fields)
    body = b"\x00\x04MQTT\x04" + user_and_password_and_clean + (60).to_bytes(2, "big") + payload
    return bytes([_CONNECT]) + _length(len(body)) + body


def _length(count: int) -> bytes:
    """MQTT's remaining length, 3.1.1 section 2.2.3."""
    out = bytearray()
    while True:
        count, digit = divmod(count, 128)
        out.append(digit | (0x80 if count else 0))
        if not count:
            return bytes(out)
