"""The trainer: fit, register and deliver, machine by machine, each delivered before the next is fitted."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cloud.registry.app import promote, register
from cloud.telemetry.port import TelemetryReader, open_store
from cloud.training.app import fit_machine
from industrialmind.embedded import account_of
from industrialmind.plant import DataDir, Machine
from shared.clock import SystemClock
from shared.errors import NotFound, Rejected, Unavailable
from shared.eventlog import EventLog, open_event_log
from shared.nats import ControlPlane, open_control


async def train_machines(root: Path, wanted: Sequence[str], tell: Callable[[dict[str, Any]], None]) -> None:
    """Train `wanted` (all machines if empty) on a running plant and `tell` of each model as it is delivered.

    Raises NotFound, Unavailable, and Rejected after the last machine, with those that there is no model for.
    """
    data = DataDir(root)
    run = data.running()
    if run is None:
        raise Unavailable(f"no plant is running on {data.root}: start it with industrialmind up")
    machines = choose(data.plant().machines, wanted)
    credentials = account_of(data.root, "cloud").userinfo
    refused = []
    async with (
        open_store(data.telemetry_url, read_only=True) as store,
        open_event_log(run["nats"], credentials=credentials) as log,
        open_control(run["nats"], credentials=credentials) as control,
    ):
        for machine in machines:
            try:
                tell(await train_machine(machine, store, log, control))
            except Rejected as error:  # the others' models do not wait for this machine's readings
                refused.append(f"{machine.id}: {error.reason}")
    if refused:
        raise Rejected("no model: " + "; ".join(refused))


async def train_machine(
    machine: Machine, store: TelemetryReader, log: EventLog, control: ControlPlane
) -> dict[str, Any]:
    """Fit, register and deliver one machine's model; what was delivered. Raises Rejected, Unavailable, Conflict."""
    clock = SystemClock()
    artifact = await fit_machine(
        store, machine.id, machine.type, clock, operating_sensor=machine.operating_sensor or None
    )
    model = await register(log, control, artifact, clock)
    await promote(log, control, model.version_hash, machine.edge, clock)
    return {
        "machine": machine.id,
        "edge": machine.edge,
        "model": model.name,
        "version": model.version,
        "sha256": model.version_hash,
        "provisional": model.provisional,
    }


def choose(machines: Sequence[Machine], wanted: Sequence[str]) -> list[Machine]:
    """The machines with these ids, all if none is given. Raises NotFound."""
    known = {machine.id: machine for machine in machines}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise NotFound(f"no machine {', '.join(missing)}: this plant has {', '.join(known)}")
    return [known[name] for name in wanted] if wanted else list(machines)
