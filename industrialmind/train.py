"""The trainer: fit, register and deliver, machine by machine, each delivered before the next is fitted."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloud.registry.app import promote, register
from cloud.telemetry.port import open_store
from cloud.training.app import fit_machine
from industrialmind.embedded import account_of
from industrialmind.plant import DataDir, Machine
from shared.clock import SystemClock
from shared.errors import NotFound, Unavailable
from shared.eventlog import open_event_log
from shared.nats import open_control


async def train_machines(root: Path, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Train `wanted` (all machines if empty) on a running plant. Raises NotFound, Rejected, Unavailable."""
    data = DataDir(root)
    run = data.running()
    if run is None:
        raise Unavailable(f"no plant is running on {data.root}: start it with industrialmind up")
    machines = choose(data.plant().machines, wanted)
    credentials = account_of(data.root, "cloud").userinfo
    clock = SystemClock()
    delivered = []
    async with (
        open_store(data.telemetry_url, read_only=True) as store,
        open_event_log(run["nats"], credentials=credentials) as log,
        open_control(run["nats"], credentials=credentials) as control,
    ):
        for machine in machines:
            artifact = await fit_machine(
                store, machine.id, machine.type, clock, operating_sensor=machine.operating_sensor or None
            )
            model = await register(log, control, artifact, clock)
            await promote(log, control, model.version_hash, machine.edge, clock)
            delivered.append(
                {
                    "machine": machine.id,
                    "edge": machine.edge,
                    "model": model.name,
                    "version": model.version,
                    "sha256": model.version_hash,
                    "provisional": model.provisional,
                }
            )
    return delivered


def choose(machines: Sequence[Machine], wanted: Sequence[str]) -> list[Machine]:
    """The machines with these ids, all if none is given. Raises NotFound."""
    known = {machine.id: machine for machine in machines}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise NotFound(f"no machine {', '.join(missing)}: this plant has {', '.join(known)}")
    return [known[name] for name in wanted] if wanted else list(machines)
