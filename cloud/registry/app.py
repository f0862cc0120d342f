"""Registering and delivering models: object store first, then the log, then the edges' desired state.

Each step can be repeated: after a crash between two of them, running it again ends in the same place. The log is
the truth; `deliver` derives from it what the edges are to run, and can be run by anyone at any time.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from cloud.registry.logic import (
    Model,
    Registry,
    decide_life_registration,
    decide_promotion,
    decide_registration,
    evolve,
)
from shared.artifact import sha256, unpack
from shared.clock import Clock
from shared.errors import Conflict, NotFound
from shared.eventlog import EventLog, Position, Record
from shared.events import Event, at, parse_event
from shared.names import INFERENCE, MODELS
from shared.nats import ControlPlane

log = structlog.get_logger()

_CONFLICT_TRIES = 5


@dataclass(frozen=True, slots=True)
class Promotion:
    """A decision on what a machine's edge runs. `position` shows it; `changed` is False where it ran already."""

    model: Model
    position: Position
    changed: bool


class RegistryView:
    """The registry as the log has it; each look reads on from the last one."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._registry = Registry()
        self._position: Position = {}
        self._reading = asyncio.Lock()

    async def look(self) -> tuple[Registry, Position]:
        """The registry and the position it stands at. Raises Unavailable."""
        async with self._reading:
            if await self._events.end(MODELS) != self._position:
                async for stored in self._events.read(MODELS, self._position):
                    self._registry = evolve(self._registry, parse_event(stored.value))
                    self._position = {**self._position, stored.partition: stored.offset}
            return self._registry, self._position


class Promotions:
    """What people decide: which version a machine's edge runs. One instance a plant."""

    def __init__(self, events: EventLog, control: ControlPlane, clock: Clock) -> None:
        self._events, self._control, self._clock = events, control, clock
        self._one_by_one = asyncio.Lock()

    async def promote(self, machine: str, version: int, request: str) -> Promotion:
        """Let `machine`'s edge run its version, or the cloud where it has none.

        Asked again under the same `request`, nothing happens twice.

        Raises NotFound (machine, version), Conflict (the request's key was used for another version), Unavailable.
        """
        async with self._one_by_one:
            _, edge = (await self._control.assignments()).get(machine, ("", INFERENCE))

            def decide(registry: Registry) -> Event | None:
                model = registry.version(machine, version)
                if model is None:
                    raise NotFound(_no_version(registry, machine, version))
                if request and registry.requests.get(request, model.version_hash) != model.version_hash:
                    raise Conflict("this idempotency key was used for another promotion")
                if request in registry.requests:
                    return None
                return _promotion(registry, model, edge, self._clock, request)

            registry, position, changed = await _append(self._events, decide)
            await deliver(self._events, self._control, machine)
        model = registry.version(machine, version)
        if model is None:
            raise NotFound(_no_version(registry, machine, version))
        return Promotion(model, position, changed)


async def load_registry(events: EventLog) -> tuple[Registry, Position]:
    """The registry as the log has it, and the position it stands at."""
    return await RegistryView(events).look()


async def register(events: EventLog, control: ControlPlane, artifact: bytes, clock: Clock) -> Model:
    """Make a model known and keep its artifact. Raises Rejected (artifact), Unavailable, Conflict."""
    unpacked = unpack(artifact)
    await control.put_model(unpacked.version_hash, artifact)

    def decide(registry: Registry) -> Event | None:
        return decide_registration(registry, unpacked.manifest, unpacked.version_hash, at(clock.now_us()))

    registry, _, _ = await _append(events, decide)
    return _known(registry, unpacked.version_hash)


async def register_life(
    events: EventLog,
    control: ControlPlane,
    artifact: bytes,
    manifest: Mapping[str, Any],
    clock: Clock,
    *,
    deliver: bool,
) -> list[Model]:
    """Make a life model known for each machine of its manifest, which has been checked, and keep its artifact.

    A machine's first one tells its life from then on; a later one takes its place where `deliver` says so. Done again, it
    changes nothing. Raises Unavailable, Conflict.
    """
    version_hash = sha256(artifact)
    await control.put_model(version_hash, artifact)
    made = []
    for machine in manifest["machines"]:

        def known(registry: Registry, machine: str = machine) -> Event | None:
            return decide_life_registration(registry, machine, version_hash, manifest, at(clock.now_us()))

        def chosen(registry: Registry, machine: str = machine) -> Event | None:
            model, champion = registry.life_version(machine, version_hash), registry.life(machine)
            if model is None or champion == model or not (deliver or champion is None):
                return None
            return decide_promotion(model, INFERENCE, at(clock.now_us()))

        await _append(events, known)
        registry, _, _ = await _append(events, chosen)
        made += [each for each in (registry.life_version(machine, version_hash),) if each is not None]
    return made


async def promote(
    events: EventLog, control: ControlPlane, version_hash: str, edge: str, clock: Clock
) -> Model:
    """Make `edge` run a registered model. Raises NotFound, Unavailable, Conflict."""
    model = await decide_for(events, version_hash, edge, clock)
    await deliver(events, control, model.machine)
    return model


async def decide_for(events: EventLog, version_hash: str, edge: str, clock: Clock) -> Model:
    """Write into the log that `edge` is to run a registered model. Raises NotFound, Unavailable, Conflict."""

    def decide(registry: Registry) -> Event | None:
        return _promotion(registry, _known(registry, version_hash), edge, clock)

    registry, _, _ = await _append(events, decide)
    return _known(registry, version_hash)


async def note(events: EventLog, event: Event) -> Position:
    """Write an event about models that changes no version into the log. Raises Unavailable, Conflict."""
    _, position, _ = await _append(events, lambda _: event)
    return position


async def deliver(events: EventLog, control: ControlPlane, machine: str | None = None) -> Position:
    """Make the edges' desired state what the log says, of one machine or of all; returns the log's position then.

    Whoever else delivers at the same time may write what was right a moment ago. So the log's end is looked at
    again after each write: the last one to write has then seen the last decision. Raises Unavailable.
    """
    view = RegistryView(events)
    while True:
        registry, position = await view.look()
        for model in registry.models:
            for edge in model.promoted_to if machine in (None, model.machine) else ():
                if edge != INFERENCE:  # the inference service follows the log itself
                    await _desire(control, edge, model)
        if await events.end(MODELS) == position:
            return position


async def _desire(control: ControlPlane, edge: str, model: Model) -> None:
    desired = {
        "model": model.name,
        "version": model.version,
        "object": model.object_name,
        "sha256": model.version_hash,
    }
    value = orjson.dumps(desired)
    if (await control.desired(edge)).get(model.machine) == value:
        return
    await control.desire(edge, model.machine, value)
    log.info(
        "model delivered",
        model=model.name,
        version=model.version,
        edge=edge,
        sha256=model.version_hash[:12],
    )


def _promotion(registry: Registry, model: Model, edge: str, clock: Clock, request: str = "") -> Event | None:
    """The event that promotes `model`; None where the edge is to run it already."""
    if registry.wanted(edge, model.machine) == model:
        return None
    return decide_promotion(model, edge, at(clock.now_us()), request)


def _known(registry: Registry, version_hash: str) -> Model:
    """Raises NotFound."""
    model = registry.by_hash(version_hash)
    if model is None:
        raise NotFound(f"no model {version_hash[:12]}: industrialmind models list shows what there is")
    return model


def _no_version(registry: Registry, machine: str, version: int) -> str:
    there = ", ".join(str(model.version) for model in registry.of(machine))
    return f"{machine} has no version {version}" + (
        f": there are {there}" if there else ", and no model at all"
    )


async def _append(
    events: EventLog, decide: Callable[[Registry], Event | None]
) -> tuple[Registry, Position, bool]:
    """Decide on the newest registry and append under its fence; reload and decide again on a conflict.

    Returns the registry after it, the position that shows it, and whether anything was appended.
    """
    view = RegistryView(events)
    for _ in range(_CONFLICT_TRIES):
        registry, end = await view.look()
        event = decide(registry)
        if event is None:
            return registry, end, False
        record = Record(event.to_json(), id=event.id)
        try:
            position = await events.append(MODELS, event.subject, [record], fence=end)
        except Conflict:
            continue
        return evolve(registry, event), position, True
    raise Conflict(f"the {MODELS} topic moved on {_CONFLICT_TRIES} times: someone else is registering models")
