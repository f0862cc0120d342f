"""The machines of the scoring benchmark: their model, and the devices that send for them, each message stamped as it goes.

Run: python -m bench.peers.score_plant HOST:PORT MACHINES SENSORS RATE SECONDS TOPIC LOG, with the credentials (`user:password`) on standard
input, then `go`. It subscribes to TOPIC, where scores are said as JSON with `machine` and `window` (RFC 3339), and at the end keeps in LOG
(npz) when each message was sent and when each window's score came. Times are of one machine's clock.
"""

import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

import numpy as np
import orjson
import uvloop

from bench.peers.scenario import varint
from bench.peers.stand_in import next_packet, say
from cloud.training.logic import Config, Recording, fit
from shared.artifact import pack, unpack
from shared.clock import MICROSECONDS

SITE: Final = "s1"
EDGE: Final = "e1"
WINDOW: Final = 16
_TICK_S: Final = 0.002


def machine(number: int) -> str:
    """A machine's id."""
    return f"m{number}"


def artifact(machines: int, sensors: int, step_us: int, *, lateness: int = 2) -> bytes:
    """One model for all of them: window PCA on sensors that follow one another."""
    rng = np.random.default_rng(7)
    rows = 4000
    drive = 100 + 5 * np.sin(np.arange(rows) / 30)[:, None] * np.linspace(0.5, 2, sensors)[None, :]
    table = drive + rng.normal(0, 0.5, (rows, sensors))
    names = tuple(f"s{n}" for n in range(sensors))
    times = 1_700_000_000 * MICROSECONDS + np.arange(1, rows + 1) * step_us
    data = fit(
        Recording(times, names, ("bar",) * sensors, table),
        machine=machine(0), machine_type="press", now_us=int(times[-1]), step_us=step_us,
        config=Config(window=WINDOW, lateness=lateness),
    )  # fmt: skip
    made = unpack(data)
    manifest = made.manifest.model_copy(update={"machines": tuple(machine(n) for n in range(machines))})
    return pack(made.model, manifest, made.probe)


class Plant(asyncio.Protocol):
    """One connection that sends and listens, MQTT 3.1.1."""

    def __init__(self, credentials: str, topic: str) -> None:
        self._user, self._password = (part.encode() for part in credentials.split(":"))
        self._topic = topic.encode()
        self._rest = b""
        self.ready = asyncio.Event()
        self.acked = 0
        self.heard: list[tuple[int, int, int]] = []  # machine, window, when

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect and subscribe."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        connect = b"\0\x04MQTT\x04\xc2\0\0"
        for text in (b"plant", self._user, self._password):
            connect += len(text).to_bytes(2) + text
        subscribe = b"\0\1" + len(self._topic).to_bytes(2) + self._topic + b"\0"
        for head, body in ((0x10, connect), (0x82, subscribe)):
            self.transport.write(bytes([head]) + varint(len(body)) + body)

    def data_received(self, data: bytes) -> None:
        """Acknowledgements, and scores."""
        now = time.time_ns() // 1000
        data, at = self._rest + data, 0
        while (packet := next_packet(data, at)) is not None:
            head, body, at = packet
            if head == 0x90:
                self.ready.set()
            elif head == 0x40:
                self.acked += 1
            elif head & 0xF0 == 0x30 and not head & 1:  # what is retained is old
                self._score(bytes(body), now)
        self._rest = data[at:]

    def _score(self, body: bytes, now: int) -> None:
        said = orjson.loads(body[2 + int.from_bytes(body[:2]) :])
        if said.get("window") and said.get("score") is not None:
            edge = datetime.fromisoformat(said["window"])
            self.heard.append((int(said["machine"][1:]), round(edge.timestamp() * MICROSECONDS), now))

    def send(self, number: int, sensor: int, packet_id: int) -> int:
        """One reading at QoS 1; when it was sent."""
        topic = f"plant/{SITE}/{machine(number)}/s{sensor}".encode()
        now = time.time_ns() // 1000
        value = 100 + now // 1000 % 7 / 10
        stamp = datetime.fromtimestamp(now / MICROSECONDS, UTC).isoformat(timespec="microseconds")
        payload = orjson.dumps({"ts": stamp, "value": value, "unit": "bar"})
        rest = len(topic).to_bytes(2) + topic + packet_id.to_bytes(2) + payload
        self.transport.write(b"\x32" + varint(len(rest)) + rest)
        return now


async def run(
    address: str, machines: int, sensors: int, rate: int, seconds: int, topic: str, kept: Path
) -> None:
    """Send at `rate` messages a second, sensor by sensor over all machines."""
    host, port = address.split(":")
    plant = Plant(sys.stdin.readline().strip(), topic)
    await asyncio.get_running_loop().create_connection(lambda: plant, host, int(port))
    await plant.ready.wait()
    say(connected=True)
    await asyncio.to_thread(sys.stdin.readline)
    sent, started = [], time.perf_counter()
    for n in range(rate * seconds):
        late = started + n / rate - time.perf_counter()
        if late > 0:
            await asyncio.sleep(max(late, _TICK_S) if rate > 1 / _TICK_S else late)
        number, sensor = n // sensors % machines, n % sensors
        sent.append((number, plant.send(number, sensor, n % 65_535 + 1)))
    await asyncio.sleep(1.0)  # the last windows' way
    np.savez(kept, sent=np.array(sent, np.int64), heard=np.array(plant.heard, np.int64).reshape(-1, 3))
    say(sent=len(sent), acked=plant.acked, heard=len(plant.heard))
    await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Read the arguments and run."""
    address, *numbers, topic, kept = sys.argv[1:]
    machines, sensors, rate, seconds = map(int, numbers)
    uvloop.run(run(address, machines, sensors, rate, seconds, topic, Path(kept)))


if __name__ == "__main__":
    main()
