"""A plant of edge agents on this machine: nats-server, a gateway, and each agent a process of its own."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil

from industrialmind.children import Ports, Processes
from industrialmind.embedded import EmbeddedNats
from industrialmind.plant import DataDir, Machine, Plant
from industrialmind.up import prepare
from shared.eventlog import EventLog, open_event_log
from shared.frame_codec import decode
from shared.frames import Readings
from shared.names import SENSOR_READINGS
from shared.nats import ControlPlane, open_control
from shared.paho import MqttClient, open_mqtt
from shared.supervise import Supervisor, free_ports

SITE = "bench"
_SETTLE_S = 180.0


@dataclass(frozen=True)
class Running:
    """The plant while it runs."""

    machines: tuple[Machine, ...]
    data: DataDir
    supervisor: Supervisor
    device: MqttClient
    log: EventLog
    control: ControlPlane

    def process(self, name: str) -> psutil.Process:
        """A child's process."""
        pid = self.supervisor.pid(name)
        if pid is None:
            raise RuntimeError(f"{name} does not run:\n{(self.data.logs / f'{name}.log').read_text()}")
        return psutil.Process(pid)

    async def listening(self) -> None:
        """Return once every agent has its subscription, so that nothing is published before it is heard."""
        for machine in self.machines:
            async with asyncio.timeout(_SETTLE_S):
                while not await self._listens(machine.edge):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)

    async def _listens(self, edge: str) -> bool:
        state = (await self.control.reported(edge)).get("state")
        return state is not None and bool(orjson.loads(state)["listening"])

    async def publish(self, tick: int, sensors: int) -> int:
        """A reading of each sensor of each machine; how many."""
        now_ms = time.time_ns() // 1_000_000
        messages = [
            (
                f"plant/{SITE}/{machine.id}/s{sensor}",
                orjson.dumps({"ts": now_ms, "value": tick, "unit": "mm"}),
            )
            for machine in self.machines
            for sensor in range(sensors)
        ]
        await asyncio.gather(*(self.device.publish(topic, payload) for topic, payload in messages))
        return len(messages)

    async def logged(self, wanted: int, seconds: float = _SETTLE_S) -> int:
        """Readings in the log, once they are as many as wanted or the time is over."""
        found, position = 0, None
        deadline = time.monotonic() + seconds
        while found < wanted and time.monotonic() < deadline:
            async for stored in self.log.read(SENSOR_READINGS, position):
                _, body = decode(stored.value)
                found += len(body) if isinstance(body, Readings) else 0
                position = {stored.partition: stored.offset}
            await asyncio.sleep(0.2)
        return found


@asynccontextmanager
async def running(root: Path, edges: int) -> AsyncIterator[Running]:
    """A plant of so many agents, each with one machine, all listening."""
    machines = tuple(Machine(f"m-{number:02}", "bench") for number in range(edges))
    data, plant, ports = DataDir(root), Plant(SITE, machines), Ports(*free_ports(5))
    nats = EmbeddedNats(root, plant.edges(), nats_port=ports.nats, mqtt_port=ports.mqtt)
    nats.write_config()
    processes, supervisor = Processes(data, plant, nats, ports), Supervisor()
    devices = nats.credentials("devices")
    admin = nats.credentials("admin").userinfo
    try:
        await supervisor.start(processes.broker())
        await nats.wait_ready()
        await prepare(nats, plant)
        await supervisor.start(processes.gateway())
        for machine in machines:
            await supervisor.start(processes.edge(machine))
        async with (
            open_mqtt(
                nats.mqtt_url,
                client_id=devices.client_id,
                username=devices.name,
                password=devices.password,
                clean=True,
            ) as device,
            open_event_log(nats.nats_url, credentials=admin) as log,
            open_control(nats.nats_url, credentials=admin) as control,
        ):
            made = Running(machines, data, supervisor, device, log, control)
            await made.listening()
            yield made
    finally:
        await supervisor.stop()
