"""The whole way of a reading as real processes, each of which can be killed, frozen and cut off.

    devices → mosquitto → edges → mosquitto → gateways → Kafka → ingest → telemetry.db
    machines with no edge ────────────┘

nats-server is the control plane. Devices of edges have a broker of their own that keeps its files, so that a fault of
the uplink's broker is a fault of the uplink alone.
"""

import asyncio
import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from cloud.ingest.logic import TOPICS
from cloud.telemetry.port import TelemetryReader
from shared import jetstream, kafka
from shared.eventlog import open_event_log
from shared.nats import open_control
from shared.service import EXIT_UNAVAILABLE
from tests.faults.background import Background
from tests.faults.judge import Verdict, judge
from tests.faults.load import SITE, Device, Load
from tests.faults.wiring import TOKEN, Shape, Wiring
from tests.parts import Part

READY_S = 120.0
DRAIN_S = 240.0
PARTITIONS = 3
_LOOK_S = 0.1


class Backbone:
    """A `Shape` that runs while the block does. `wiring` has the servers and networks, `parts` the product's processes.

    A part that ends because something is away is started again, as a supervisor does; one that ends otherwise fails
    the test.
    """

    def __init__(self, folder: Path, seed: int, shape: Shape | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.started = time.monotonic()
        self.restarts: dict[str, int] = {}
        self.background = Background()
        self.wiring = Wiring(folder, shape or Shape(), self.background)
        self.parts: dict[str, Part] = self.wiring.parts()
        self._load: Load | None = None
        self._stack = ExitStack()

    @property
    def load(self) -> Load:
        """The devices, once the backbone runs."""
        assert self._load is not None
        return self._load

    def __enter__(self) -> Self:
        self._stack.callback(self.background.close)
        for network in self.wiring.networks.values():
            self._stack.callback(network.close)
        try:
            for server in self.wiring.servers():
                self._stack.callback(server.kill)
                server.start()
            asyncio.run(self._set_up())
            for part in self.parts.values():
                self._stack.callback(part.kill)
                part.start()
            self.until_ready()
            self._load = Load(self.background, self._devices())
        except BaseException:
            sys.stdout.write(self.logs())
            self._stack.close()
            raise
        self.say(f"seed {self.seed}: up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            sys.stdout.write(self.logs())
        self._stack.close()

    def say(self, text: str) -> None:
        """A line of the test's account of itself."""
        sys.stdout.write(f"[{time.monotonic() - self.started:5.1f} s] {text}\n")

    def logs(self, tail: int = 2500) -> str:
        """The end of each part's log."""
        return "".join(f"--- {name}\n{part.said()[-tail:]}\n" for name, part in self.parts.items())

    def restart(self, name: str) -> None:
        """`kill -9` of a part, and its next life."""
        self.parts[name].kill()
        self.parts[name].start()

    def tend(self) -> None:
        """Start again what ended because something was away. Fails for any other end: that is a bug."""
        for name, part in self.parts.items():
            code = part.ended
            if code is not None:
                assert code == EXIT_UNAVAILABLE, f"{name} ended with {code}:\n{part.said()}"
                self.restarts[name] = self.restarts.get(name, 0) + 1
                part.start()

    def until(self, holds: Callable[[], bool], seconds: float, what: str) -> float:
        """Wait for a condition while parts are tended; returns the seconds it took."""
        begun = time.monotonic()
        while not holds():
            self.tend()
            waited = time.monotonic() - begun
            assert waited < seconds, f"not in {seconds} s: {what}"
            time.sleep(_LOOK_S)  # between two looks
        return time.monotonic() - begun

    def is_ready(self, *names: str) -> bool:
        """Whether these parts (none: all) say so."""
        return all(self.parts[name].get("/readyz")[0] == 200 for name in names or self.parts)

    def until_ready(self, *names: str) -> float:
        """Wait for that."""
        return self.until(lambda: self.is_ready(*names), READY_S, f"ready: {names or 'all'}")

    def flow(self, messages: int) -> None:
        """Wait until brokers confirmed so many more messages to devices."""
        goal = self.load.confirmed() + messages
        self.until(lambda: self.load.confirmed() >= goal, READY_S, f"{messages} more messages confirmed")

    def run_for(self, seconds: float) -> None:
        """Let everything run for a drawn time: the schedule of faults, not a wait for their end."""
        until = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= until, seconds + READY_S, "time")

    def figures(self, part: str) -> dict[str, float]:
        """A part's metrics as they are now; none where nobody answers."""
        return self.parts[part].figures(TOKEN)

    def drain(self, seconds: float = DRAIN_S) -> float:
        """Stop the load and return when what it left behind has arrived: outboxes are empty, ingest has no lag.

        Of a machine with no edge, all or the last reading must have arrived: what is lost before it never comes.
        """
        for network in self.wiring.networks.values():
            network.heal()
        self.load.stop(seconds)
        took = self.until_ready()
        # A batch that the log refused while it was away may wait to be tried again behind one that came later.
        took += self.until(self._nothing_in_flight, seconds, "gateways wait for no confirmation")
        took += self.until(lambda: asyncio.run(self._arrived()), seconds, "all readings stored")
        rows = "im_edge_outbox_rows"
        took += self.until(
            lambda: all(self.figures(edge).get(rows) == 0 for edge in self.wiring.edges),
            seconds,
            "outboxes empty",
        )
        self.say(f"drained in {took:.1f} s")
        return took

    def judge(self) -> Verdict:
        """Stop the parts in order, then hold log, store and outboxes against what was promised."""
        for part in self.parts.values():
            part.stop()
        wiring = self.wiring
        verdict = asyncio.run(
            judge(
                wiring.log,
                wiring.store(),
                wiring.control,
                wiring.outboxes(),
                list(self.load.devices.values()),
            )
        )
        self.say(f"seed {self.seed}: {verdict}; started again by supervision: {self.restarts or 'none'}")
        return verdict

    def rss_mb(self, part: str) -> float:
        """Resident memory of a part."""
        return float(psutil.Process(self.parts[part].pid).memory_info().rss) / 1e6

    def _nothing_in_flight(self) -> bool:
        """Whether no gateway holds a message that the log has not confirmed."""
        waiting = "im_gateway_in_flight_messages"
        found = [self.figures(name) for name in self.parts if name.startswith("gateway")]
        return all(
            figures and not any(value for key, value in figures.items() if key.startswith(waiting))
            for figures in found
        )

    async def _arrived(self) -> bool:
        async with self.wiring.store() as store:
            for device in self.load.devices.values():
                if not await _has_all(store, device):
                    return False
            positions = await store.positions()
        url, credentials = self.wiring.log
        async with open_event_log(url, credentials=credentials) as log:
            for topic in TOPICS:
                held = positions.get(topic, {})
                end = await log.end(topic)
                if any(held.get(partition, 0) < offset for partition, offset in end.items()):
                    return False
        return True

    async def _set_up(self) -> None:
        """Topics, buckets, and who watches which machine."""
        nats = self.wiring.nats
        if self.wiring.shape.event_log == "kafka":
            await kafka.ensure_topics(self.wiring.kafka.url, partitions=PARTITIONS)
        else:
            await jetstream.ensure_topics(
                nats.url, credentials=nats.credentials, max_file_store=nats.max_file_store
            )
        async with open_control(nats.url, credentials=nats.credentials) as control:
            await control.ensure_buckets(self.wiring.edges, models_bytes=1 << 20)
            for edge in self.wiring.edges:
                await control.assign(SITE, f"m{edge[1:]}", edge)

    def _devices(self) -> list[Device]:
        wiring, shape = self.wiring, self.wiring.shape
        places = [(f"m{n}", wiring.devices_broker) for n in range(1, shape.edges + 1)]
        places += [(f"d{n}", wiring.broker) for n in range(1, shape.direct + 1)]
        return [
            Device(
                machine,
                broker.url,
                broker.credentials,
                seed=f"{self.seed} {machine}",
                per_second=shape.messages_per_second,
            )
            for machine, broker in places
        ]


async def _has_all(store: TelemetryReader, device: Device) -> bool:
    if await store.count(device.machine) >= len(device.acked):
        return True
    last = device.last
    if last is None or not device.machine.startswith("d"):
        return False
    return len(await store.readings(last.machine, last.sensor, last.time_us, last.time_us + 1, 1)) > 0
