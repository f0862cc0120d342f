"""The servers of a plant for a command: those that run, or nats-server alone for as long as the command needs it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from industrialmind.embedded import EmbeddedNats, account_of
from industrialmind.plant import DataDir
from shared.eventlog import EventLog, open_event_log
from shared.supervise import Child, Supervisor, free_ports


@dataclass(frozen=True, slots=True)
class Served:
    """nats-server's URL, and whether the plant runs on it (else DATA is locked by this command)."""

    nats_url: str
    running: bool


@asynccontextmanager
async def served(data: DataDir) -> AsyncIterator[Served]:
    """Raises NotFound (no plant in DATA), Misconfigured (something else holds DATA), Unavailable."""
    run = data.running()
    if run is not None:
        yield Served(run["nats"], running=True)
        return
    plant = data.plant()
    with data.locked():
        nats_port, mqtt_port = free_ports(2)
        nats = EmbeddedNats(data.root, plant.edges(), nats_port=nats_port, mqtt_port=mqtt_port)
        nats.write_config()
        supervisor = Supervisor()
        await supervisor.start(Child("nats-server", tuple(nats.command()), data.logs / "nats-server.log"))
        try:
            await nats.wait_ready()
            yield Served(nats.nats_url, running=False)
        finally:
            await supervisor.stop()


@asynccontextmanager
async def plant_log(data: DataDir, at: Served, account: str = "cli") -> AsyncIterator[EventLog]:
    """The plant's event log, by one of its accounts where it is the embedded one. Raises Unavailable."""
    url, credentials = data.plant().log_access(at.nats_url, account_of(data.root, account).userinfo)
    async with open_event_log(url, credentials=credentials) as log:
        yield log
