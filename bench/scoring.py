"""From a device's message to its score on the devices' broker, beside the floor, in one run; and what an edge costs.

mosquitto, an edge agent and the devices run as processes of their own, with no uplink. Each message carries the moment it was sent; a window's
score is as late as its retained state comes after the message that closed it. A window that is left out because a newer one was said
counts until that one came. The floor (`bench.peers.bare_scorer`) receives, commits and runs the same graph, and does nothing else.
Then: how many readings a second one core takes from MQTT over the score to the FULL commit, the memory of an idle agent, and how long a
start takes to its first score.
Run: PYTHONPATH=. python bench/scoring.py [--write-docs] (alone: a busy machine measures its other work)
"""

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import psutil

from bench.peers import docs
from bench.peers.process import Started, python, used
from bench.peers.report import host, table
from bench.peers.score_plant import EDGE, SITE, artifact, machine
from deploy.servers.mosquitto import Mosquitto
from edge.models import ModelFolder
from shared.artifact import unpack
from shared.clock import MICROSECONDS
from shared.loaded import Desired
from shared.paho import MqttClient, open_mqtt
from tests.parts import Part

SENSORS: Final = 10
RATES: Final = ((20, 1, 24), (1000, 10, 10), (5000, 10, 10))  # messages a second, machines, seconds
TOKEN: Final = "bench"  # noqa: S105 - the bench's own process
LOCAL: Final = f"im/v1/{SITE}/{EDGE}/local/+/state"
BATCH: Final = 50
LOAD_SECONDS: Final = 10.0
PACE: Final = 25_000  # readings a second
GOAL_P99_MS: Final = 10.0
GOAL_FLOORS: Final = 2.0
GOAL_RATE: Final = 20_000
GOAL_RSS_MB: Final = 110
GOAL_START_S: Final = 3.0

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Late:
    """How late scores were, in ms, of how many windows, how many of which were not said themselves, and the cores taken."""

    ms: npt.NDArray[np.float64]
    unsaid: int
    cores: float

    def quantile(self, share: float) -> float:
        """Of the delays."""
        return float(np.quantile(self.ms, share))


def delays(kept: Path, step_us: int, lateness: int, warm_us: int) -> tuple[npt.NDArray[np.float64], int]:
    """Milliseconds from each closing message to its window's score, and how many windows were told by a later one."""
    with np.load(kept) as found:
        sent, heard = found["sent"], found["heard"]
    took: list[float] = []
    unsaid = 0
    for number in np.unique(sent[:, 0]):
        times = sent[sent[:, 0] == number, 1]
        closed = times // step_us - lateness
        first = np.flatnonzero(np.diff(closed, prepend=closed[0]) > 0)  # the messages that close windows
        edges, moments = closed[first] * step_us, times[first]
        mine = heard[heard[:, 0] == number]
        order = np.argsort(mine[:, 2], kind="stable")
        windows, came = np.maximum.accumulate(mine[order, 1]), mine[order, 2]
        at = np.searchsorted(windows, edges)
        counted = (at < len(windows)) & (moments > times[0] + warm_us) & (edges < times[-1] - step_us)
        took += ((came[at[counted]] - moments[counted]) / 1e3).tolist()
        unsaid += int((windows[at[counted]] > edges[counted]).sum())
    return np.array(took), unsaid


class Bench:
    """A folder, a broker, and what runs on it."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self._folder, self._broker = folder, broker
        self._runs = 0

    def edge(self, machines: int, model: bytes | None) -> Part:
        """An agent with the model on its disk and no uplink."""
        self._runs += 1
        folder = self._folder / f"edge-{self._runs}"
        if model is not None:
            digest = unpack(model).version_hash
            models = ModelFolder(folder / "models")
            for number in range(machines):
                models.save(machine(number), Desired("bench", 1, digest, digest), model)
        link = {
            "url": self._broker.url, "username": self._broker.username, "password": self._broker.password,
        }  # fmt: skip
        settings = {
            "site": SITE, "edge": EDGE, "machines": [machine(n) for n in range(machines)], "folder": str(folder),
            "devices": link | {"client_id": f"devices-{self._runs}"},
            "uplink": {"url": "mqtt://127.0.0.1:1", "client_id": "nobody"}, "token": TOKEN,
        }  # fmt: skip
        return Part(folder, "edge run", "edge", settings)

    def plant(self, machines: int, rate: int, seconds: int, topic: str, kept: Path) -> Started:
        """The devices."""
        numbers = (str(machines), str(SENSORS), str(rate), str(seconds))
        address = f"127.0.0.1:{self._broker.port}"
        return Started(python("bench.peers.score_plant", address, *numbers, topic, str(kept)))

    def watched(self, started: Started, pid: int, kept: Path, step_us: int) -> Late:
        """Let the devices send; how late the scores of process `pid` were."""
        started.tell(self._broker.credentials)
        started.heard("connected")
        began, before = time.perf_counter(), used(pid).cpu_s
        started.tell("go")
        started.heard("heard")
        cores = (used(pid).cpu_s - before) / (time.perf_counter() - began)
        ms, unsaid = delays(kept, step_us, 2, 20 * step_us)
        return Late(ms, unsaid, cores)

    def of_edge(self, rate: int, machines: int, seconds: int) -> Late:
        """The agent at a rate."""
        step_us = machines * SENSORS * MICROSECONDS // rate
        agent = self.edge(machines, artifact(machines, SENSORS, step_us)).start()
        kept = self._folder / "kept.npz"
        try:
            agent.wait()
            with self.plant(machines, rate, seconds, LOCAL, kept) as plant:
                return self.watched(plant, agent.pid, kept, step_us)
        finally:
            agent.stop()

    def of_floor(self, rate: int, machines: int, seconds: int) -> Late:
        """The floor at a rate."""
        self._runs += 1
        step_us = machines * SENSORS * MICROSECONDS // rate
        model, kept = self._folder / "model", self._folder / "kept.npz"
        model.write_bytes(artifact(machines, SENSORS, step_us))
        database = self._folder / f"bare-{self._runs}.db"
        command = python(
            "bench.peers.bare_scorer", f"127.0.0.1:{self._broker.port}", str(model), str(database)
        )
        with (
            Started(command) as floor,
            self.plant(machines, rate, seconds, "bare/+", kept) as plant,
        ):
            floor.tell(self._broker.credentials)
            floor.heard("subscribed")
            return self.watched(plant, floor.pid, kept, step_us)

    def client(self, name: str) -> Any:  # noqa: ANN401 - a context manager of a client
        """A client of the broker."""
        return open_mqtt(
            self._broker.url, client_id=name, username=self._broker.username, password=self._broker.password
        )

    async def load(self, batch: int) -> dict[str, float]:
        """Readings in lists of `batch`, a stretch of one sensor's times each, as fast as the agent acknowledges but no faster than PACE.

        Faster, and rows would be committed that scoring drops: its queue is bounded, and what it drops is counted.
        """
        machines, step_us = 10, 100_000
        agent = self.edge(machines, artifact(machines, SENSORS, step_us, lateness=2 * batch)).start()
        try:
            await asyncio.to_thread(agent.wait)
            async with self.client("load") as client:
                began, before = time.perf_counter(), used(agent.pid).cpu_s
                sent = await send_all(client, machines, step_us, batch)
                windows = await until_still(agent, sent)
                took, spent = time.perf_counter() - began, used(agent.pid).cpu_s - before
                unscored = agent.figures(TOKEN)["im_edge_unscored_rows_total"]
        finally:
            agent.stop()
        return {
            "readings": sent, "seconds": took, "cpu": spent, "windows": windows, "unscored": unscored,
        }  # fmt: skip

    def idle(self) -> float:
        """MB resident of an agent that is connected and has nothing to do."""
        agent = self.edge(1, None).start()
        try:
            agent.wait()
            time.sleep(3.0)  # idle is a state that lasts
            return float(psutil.Process(agent.pid).memory_info().rss) / 1e6
        finally:
            agent.stop()

    async def start(self) -> float:
        """Seconds from an agent's start to its first score, with a plant that runs on and a model on its disk."""
        machines, step_us = 1, 100_000
        agent = self.edge(machines, artifact(machines, SENSORS, step_us))
        agent.start()
        await asyncio.to_thread(agent.wait)
        agent.stop()  # its session stays: what is sent meanwhile waits for it
        async with self.client("start") as client:
            await client.subscribe(LOCAL)
            sending = asyncio.create_task(keep_sending(client, step_us))
            await asyncio.sleep(3.0)
            began = time.time()
            agent.start()
            try:
                async with asyncio.timeout(30):
                    while True:
                        messages = await client.receive(100)
                        client.ack(messages)
                        if any(
                            orjson.loads(m.payload)["score"] is not None for m in messages if not m.retain
                        ):
                            return time.time() - began
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                agent.stop()


async def until_still(agent: Part, readings: int) -> float:
    """Return once all is committed and scoring has nothing left; how many windows it was given."""
    windows = -1.0
    while True:
        figures = await asyncio.to_thread(agent.figures, TOKEN)
        now = figures.get("im_edge_scored_windows_total", 0.0)
        if figures.get("im_edge_rows_committed_total", 0) >= readings and now == windows:
            return now
        windows = now
        await asyncio.sleep(0.25)


def reading(at_us: int) -> dict[str, object]:
    """A healthy one."""
    return {"ts": at_us // 1000, "value": 100 + at_us // 100_000 % 7 / 10, "unit": "bar"}


async def send_all(client: MqttClient, machines: int, step_us: int, batch: int) -> int:
    """Send for LOAD_SECONDS; how many readings."""
    start, sent, turn, until = (
        time.time_ns() // 1000 - 3600 * MICROSECONDS,
        0,
        0,
        time.perf_counter() + LOAD_SECONDS,
    )
    sending: set[asyncio.Task[None]] = set()
    began = time.perf_counter()
    while time.perf_counter() < until:
        rows = [reading(start + (turn * batch + n) * step_us) for n in range(batch)]
        payload = orjson.dumps(rows if batch > 1 else rows[0])
        for number in range(machines):
            for sensor in range(SENSORS):
                topic = f"plant/{SITE}/{machine(number)}/s{sensor}"
                sending.add(asyncio.create_task(client.publish(topic, payload)))
                sent += batch
        while len(sending) > 400:
            _, sending = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
        turn += 1
        await asyncio.sleep(began + sent / PACE - time.perf_counter())
    await asyncio.gather(*sending)
    return sent


async def keep_sending(client: MqttClient, step_us: int) -> None:
    """All sensors of one machine, once a step, for ever."""
    while True:
        payload = orjson.dumps(reading(time.time_ns() // 1000))
        topics = (f"plant/{SITE}/{machine(0)}/s{sensor}" for sensor in range(SENSORS))
        await asyncio.gather(*(client.publish(topic, payload) for topic in topics))
        await asyncio.sleep(step_us / MICROSECONDS)


def latency_table(found: dict[int, tuple[Late, Late]]) -> str:
    """The delays, and the goals."""
    heads = (
        "messages/s",
        "windows",
        "floor p50",
        "floor p99",
        "edge p50",
        "edge p99",
        "p50 / floor",
        "p99 / floor",
        "said by a later one",
        "floor's cores",
        "edge's cores",
    )
    lines = []
    for rate, (floor, edge) in found.items():
        cells: list[object] = [rate, len(edge.ms)]
        cells += [f"{each.quantile(q):.2f}" for each in (floor, edge) for q in (0.5, 0.99)]
        cells += [f"{edge.quantile(q) / floor.quantile(q):.1f}" for q in (0.5, 0.99)]
        cells += [edge.unsaid, f"{floor.cores:.2f}", f"{edge.cores:.2f}"]
        lines.append([str(cell) for cell in cells])
    return table(heads, lines)


async def measure(folder: Path, broker: Mosquitto) -> str:
    """Everything; the report."""
    bench = Bench(folder, broker)
    found = {}
    for rate, machines, seconds in RATES:
        floor = await asyncio.to_thread(bench.of_floor, rate, machines, seconds)
        edge = await asyncio.to_thread(bench.of_edge, rate, machines, seconds)
        found[rate] = floor, edge
    loads = {batch: await bench.load(batch) for batch in (1, BATCH)}
    idle = await asyncio.to_thread(bench.idle)
    start = await bench.start()
    parts = ["From a message to its score, ms", latency_table(found)]
    at_thousand = [each.quantile(0.99) for each in found[1000]]
    parts.append(
        f"Goal at 1,000 messages/s: p99 at most {GOAL_P99_MS:.0f} ms and {GOAL_FLOORS:.0f} floors: "
        f"{at_thousand[1]:.2f} ms and {at_thousand[1] / at_thousand[0]:.1f}."
    )
    for batch, load in loads.items():
        each = "one reading a message" if batch == 1 else f"{batch} readings a message"
        parts.append(
            f"MQTT to score to FULL commit, {each}: {load['readings'] / load['seconds']:,.0f} readings/s, "
            f"{load['readings'] / load['cpu']:,.0f} a core-second, {load['windows'] / load['seconds']:,.0f} windows/s, "
            f"{load['unscored']:.0f} readings unscored (goal {GOAL_RATE:,} a core)."
        )
    parts.append(f"Idle: {idle:.0f} MB resident (goal {GOAL_RSS_MB}).")
    parts.append(f"From the process's start to its first score: {start:.2f} s (goal {GOAL_START_S:.0f}).")
    return "\n\n".join(parts)


def main() -> None:
    """Measure, print, and with --write-docs keep it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write-docs", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with Mosquitto(folder / "mosquitto") as broker:
            report = asyncio.run(measure(folder, broker))
    text = f"{host()}\n\n{report}"
    print(text)
    if asked.write_docs:
        docs.keep("scoring", text, docs.EDGE)


if __name__ == "__main__":
    main()
