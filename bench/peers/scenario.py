"""What every contestant is sent: PUBLISH packets made once, kept in files, mapped by whoever sends them.

A packet's id is its index modulo 65,535 plus one, so a sender need only cut the file. There is one file for MQTT 3.1.1
and one for MQTT 5, whose PUBLISH has one byte more (no properties).
"""

import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.frame_codec import encode
from shared.frames import Header, Kind, Readings

MACHINES: Final = 20
SENSORS: Final = 10
IDS: Final = 65_535
FIRST_MS: Final = 1_700_000_000_000
PAYLOAD_BYTES: Final = 150
SITE: Final = "s1"
EDGES: Final = 5
EPOCH: Final = bytes(range(16))

_PAYLOAD = (
    b'{"ts":0000000000000,"value":00000.000,"unit":"degC","quality":"good",'
    b'"asset":"hall-2/line-4/press-000","channel":"c-00","batch":"A","seq":"000000000"}'
)
_QOS1 = 0x32


@dataclass(frozen=True, slots=True)
class Scenario:
    """Packets in `folder`: `count` messages that carry `readings` readings."""

    folder: Path
    topic: str
    """A topic of one of its messages; whoever subscribes to it gets them all."""
    count: int
    readings: int

    def open(self, version: int) -> tuple[memoryview, NDArray[np.int64]]:
        """All packets of an MQTT version (4 or 5), and the offsets of each and of the end: int64[count + 1]."""
        with (self.folder / f"v{version}.bin").open("rb") as file:
            packets = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return packets, np.load(self.folder / f"v{version}.npy")

    def payloads(self, count: int) -> Iterable[bytes]:
        """The first `count` messages' payloads."""
        packets, offsets = self.open(4)
        for start, end in zip(offsets[:count].tolist(), offsets[1 : count + 1].tolist(), strict=True):
            yield _payload(packets[start:end])

    @classmethod
    def load(cls, folder: Path) -> "Scenario":
        """The scenario that was kept in `folder`."""
        topic, count, readings = (folder / "scenario").read_text().split()
        return cls(folder, topic, int(count), int(readings))


def json_readings(folder: Path, count: int) -> Scenario:
    """`count` messages of one 150-byte reading each, over all machines and sensors in turn."""
    n = np.arange(count, dtype=np.int64)
    topic = f"plant/{SITE}/press-000/c-00".encode()
    for version in (4, 5):
        packets = _repeated(_packet(topic, _PAYLOAD, 0, version), count)
        machine = packets.index(b"press-000") + 6
        sensor = packets.index(b"c-00") + 2
        payload = packets.size - PAYLOAD_BYTES
        for at in (machine, payload + _PAYLOAD.index(b"press-000") + 6):
            packets.digits(at, 3, machine_of(n))
        for at in (sensor, payload + _PAYLOAD.index(b"c-00") + 2):
            packets.digits(at, 2, sensor_of(n))
        packets.digits(payload + _PAYLOAD.index(b"ts") + 4, 13, FIRST_MS + n)
        packets.digits(payload + _PAYLOAD.index(b"00000.000"), 5, thousandths_of(n) // 1000)
        packets.digits(payload + _PAYLOAD.index(b".000") + 1, 3, thousandths_of(n) % 1000)
        packets.digits(payload + _PAYLOAD.index(b"seq") + 6, 9, n)
        ids = packets.size - PAYLOAD_BYTES - (version - 4) - 2
        packets.cells[:, ids] = (n % IDS + 1) >> 8
        packets.cells[:, ids + 1] = (n % IDS + 1) & 255
        _keep(folder, version, packets.cells.data, np.arange(count + 1, dtype=np.int64) * packets.size)
    return _described(folder, topic.decode(), count, count)


def machine_of(n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the machine of each message."""
    return n % MACHINES


def sensor_of(n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the sensor of each message."""
    return n // MACHINES % SENSORS


def thousandths_of(n: NDArray[np.int64]) -> NDArray[np.int64]:
    """The value of each message, in thousandths: five digits before the point, three after."""
    return 10_000_000 + n * 7919 % 90_000_000


def frames(folder: Path, count: int, rows: int) -> Scenario:
    """`count` frames of `rows` readings of four sensors, from five edges of one machine each, in turn."""
    rng = np.random.default_rng(rows)
    made = []
    for i in range(count):
        edge, turn = i % EDGES, i // EDGES
        times = (np.arange(rows, dtype=np.int64) + turn * rows) * 250_000 + FIRST_MS * 1000
        body = Readings(
            ("inlet-pressure", "outlet-pressure", "flow", "temperature"),
            ("bar", "bar", "l/min", "degC"),
            np.arange(rows, dtype=np.int64) % 4,
            times,
            times + 1500,
            rng.normal(20, 1, rows),
            np.zeros(rows, np.uint8),
        )
        header = Header(SITE, f"e{edge}", f"m{edge}", Kind.READINGS, EPOCH, 1 + turn * rows, rows)
        made.append((f"im/v1/{SITE}/e{edge}/frames".encode(), encode(header, body)))
    for version in (4, 5):
        packets = [_packet(topic, frame, i % IDS + 1, version) for i, (topic, frame) in enumerate(made)]
        _keep(folder, version, b"".join(packets), _offsets([len(packet) for packet in packets]))
    return _described(folder, f"im/v1/{SITE}/e0/frames", count, count * rows)


class _repeated:  # noqa: N801 - reads as what it makes
    """One packet, repeated; its digits are then written column by column. `cells` is uint8[count, size]."""

    def __init__(self, packet: bytes, count: int) -> None:
        self._packet = packet
        self.size = len(packet)
        self.cells = np.tile(np.frombuffer(packet, np.uint8), (count, 1))

    def index(self, part: bytes) -> int:
        """Where `part` first is: in the topic, if it is there."""
        return self._packet.index(part)

    def digits(self, at: int, width: int, numbers: NDArray[np.int64]) -> None:
        """Write `numbers` in decimal, `width` digits with leading zeros, from column `at`."""
        for place in range(width):
            self.cells[:, at + width - 1 - place] = 48 + numbers // 10**place % 10


def _packet(topic: bytes, payload: bytes, packet_id: int, version: int) -> bytes:
    properties = b"\0" if version == 5 else b""
    rest = len(topic).to_bytes(2) + topic + packet_id.to_bytes(2) + properties + payload
    return bytes([_QOS1]) + varint(len(rest)) + rest


def varint(number: int) -> bytes:
    """MQTT's variable byte integer (MQTT 5, 1.5.5)."""
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)


def _payload(packet: memoryview) -> bytes:
    """The payload of a 3.1.1 PUBLISH at QoS 1."""
    at = 1
    while packet[at] > 127:
        at += 1
    at += 1
    return bytes(packet[at + 2 + int.from_bytes(packet[at : at + 2]) + 2 :])


def _offsets(sizes: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(np.asarray(sizes, np.int64))))


def _keep(folder: Path, version: int, packets: bytes | memoryview, offsets: NDArray[np.int64]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"v{version}.bin").write_bytes(packets)
    np.save(folder / f"v{version}.npy", offsets)


def _described(folder: Path, topic: str, count: int, readings: int) -> Scenario:
    (folder / "scenario").write_text(f"{topic} {count} {readings}")
    return Scenario(folder, topic, count, readings)
