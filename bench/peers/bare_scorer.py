"""The floor of scoring: receive, commit what came together, run the graph, say the score; nothing else.

Each chunk of the socket is taken apart, its payloads are committed in one SQLite transaction (`synchronous=FULL`), acknowledged, and each
window that they close is scored by one run of the model's graph. No grid but the last value of each sensor, no limits, no state, no
rejects, no uplink. Run: python -m bench.peers.bare_scorer HOST:PORT MODEL DATABASE, with the credentials on standard input.
"""

import asyncio
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime as ort
import orjson
import uvloop

from bench.peers.scenario import varint
from bench.peers.stand_in import next_packet, say
from shared.artifact import unpack
from shared.clock import MICROSECONDS


class Bare(asyncio.Protocol):
    """One connection, MQTT 3.1.1."""

    def __init__(self, model: Path, database: Path, credentials: str) -> None:
        self._credentials = credentials
        made = unpack(model.read_bytes())
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(made.model, options, providers=["CPUExecutionProvider"])
        grid, sensors = made.manifest.grid, len(made.manifest.sensors)
        self._step, self._lateness = grid.step_us, grid.lateness
        self._windows = {name: np.full((1, grid.window, sensors), np.nan) for name in made.manifest.machines}
        self._last = {name: np.full(sensors, np.nan) for name in made.manifest.machines}
        self._closed = dict.fromkeys(made.manifest.machines, 0)
        self._db = sqlite3.connect(database, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE rows (body BLOB)")
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect and subscribe."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        connect = b"\0\x04MQTT\x04\xc2\0\0"
        for text in ("bare", *self._credentials.split(":")):
            connect += len(text).to_bytes(2) + text.encode()
        topic = b"plant/#"
        subscribe = b"\0\1" + len(topic).to_bytes(2) + topic + b"\1"
        for head, body in ((0x10, connect), (0x82, subscribe)):
            self._transport.write(bytes([head]) + varint(len(body)) + body)

    def data_received(self, data: bytes) -> None:
        """A chunk: commit, acknowledge, score."""
        data, at = self._rest + data, 0
        bodies: list[tuple[bytes]] = []
        acks: list[bytes] = []
        scores: list[tuple[str, int]] = []
        while (packet := next_packet(data, at)) is not None:
            head, body, at = packet
            if head == 0x90:
                say(subscribed=True)
            elif head & 0xF0 == 0x30:
                whole = bytes(body)
                start = 2 + int.from_bytes(whole[:2])
                acks.append(whole[start : start + 2])
                bodies.append((whole[start + 2 :],))
                scores += self._reading(whole[2:start].decode(), whole[start + 2 :])
        self._rest = data[at:]
        if not bodies:
            return
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO rows VALUES (?)", bodies)
        self._db.execute("COMMIT")
        self._transport.write(b"\x40\x02" + b"\x40\x02".join(acks))
        for name, window in scores:
            self._say(name, window)

    def _reading(self, topic: str, payload: bytes) -> list[tuple[str, int]]:
        """Take a reading in; the windows that it closes."""
        _, _, name, sensor = topic.split("/")
        said = orjson.loads(payload)
        time_us = round(datetime.fromisoformat(said["ts"]).timestamp() * MICROSECONDS)
        edge = (time_us // self._step - self._lateness) * self._step
        self._last[name][int(sensor[1:])] = said["value"]
        if edge <= self._closed[name]:
            return []
        self._closed[name] = edge
        window = self._windows[name]
        window[0, :-1] = window[0, 1:]
        window[0, -1] = self._last[name]
        return [(name, edge)]

    def _say(self, name: str, edge: int) -> None:
        [score] = self._session.run(["score"], {"window": self._windows[name]})
        moment = datetime.fromtimestamp(edge / MICROSECONDS, UTC).isoformat()
        payload = orjson.dumps({"machine": name, "window": moment, "score": float(score[0])})
        topic = f"bare/{name}".encode()
        rest = len(topic).to_bytes(2) + topic + payload
        self._transport.write(b"\x30" + varint(len(rest)) + rest)


async def run(address: str, model: Path, database: Path) -> None:
    """Serve until standard input ends."""
    host, port = address.split(":")
    bare = Bare(model, database, sys.stdin.readline().strip())
    await asyncio.get_running_loop().create_connection(lambda: bare, host, int(port))
    await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    """Read the arguments and run."""
    uvloop.run(run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))


if __name__ == "__main__":
    main()
