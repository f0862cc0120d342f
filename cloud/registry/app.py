"""Registering and delivering models: object store first, then the log, then the edge's desired state.

Each step can be repeated: after a crash between two of them, running it again ends in the same place.
"""

from collections.abc import Callable

import orjson
import structlog

from cloud.registry.logic import Model, Registry, decide_promotion, decide_registration, evolve
from shared.artifact import unpack
from shared.clock import Clock
from shared.errors import Conflict, NotFound
from shared.eventlog import EventLog, Position, Record
from shared.events import Event, at, parse_event
from shared.names import MODELS
from shared.nats import ControlPlane

log = structlog.get_logger()

_CONFLICT_TRIES = 5


async def load_registry(events: EventLog) -> tuple[Registry, Position]:
    """The registry as the log has it, and the position it stands at."""
    end = await events.end(MODELS)
    registry = Registry()
    if end:
        async for stored in events.read(MODELS):
            registry = evolve(registry, parse_event(stored.value))
            end = {stored.partition: stored.offset}
    return registry, end


async def register(events: EventLog, control: ControlPlane, artifact: bytes, clock: Clock) -> Model:
    """Make a model known and keep its artifact. Raises Rejected (artifact), Unavailable, Conflict."""
    unpacked = unpack(artifact)
    await control.put_model(unpacked.version_hash, artifact)

    def decide(registry: Registry) -> Event | None:
        return decide_registration(registry, unpacked.manifest, unpacked.version_hash, at(clock.now_us()))

    registry = await _append(events, decide)
    model = registry.by_hash(unpacked.version_hash)
    if model is None:
        raise NotFound(f"model {unpacked.version_hash[:12]} was registered and is not in the log")
    return model


async def promote(
    events: EventLog, control: ControlPlane, version_hash: str, edge: str, clock: Clock
) -> Model:
    """Make `edge` run a registered model. Raises NotFound, Unavailable, Conflict."""

    def decide(registry: Registry) -> Event | None:
        model = registry.by_hash(version_hash)
        if model is None:
            raise NotFound(f"no model {version_hash[:12]}: industrialmind models list shows what there is")
        wanted = registry.wanted(edge, model.machine)
        if wanted is not None and wanted.version_hash == version_hash:
            return None
        return decide_promotion(model, edge, at(clock.now_us()))

    registry = await _append(events, decide)
    model = registry.by_hash(version_hash)
    if model is None:
        raise NotFound(f"no model {version_hash[:12]}")
    desired = {
        "model": model.name,
        "version": model.version,
        "object": model.object_name,
        "sha256": model.version_hash,
    }
    await control.desire(edge, model.machine, orjson.dumps(desired))
    log.info("model delivered", model=model.name, version=model.version, edge=edge, sha256=version_hash[:12])
    return model


async def _append(events: EventLog, decide: Callable[[Registry], Event | None]) -> Registry:
    """Decide on the newest registry and append under its fence; reload and decide again on a conflict."""
    for _ in range(_CONFLICT_TRIES):
        registry, end = await load_registry(events)
        event = decide(registry)
        if event is None:
            return registry
        try:
            await events.append(MODELS, event.subject, [Record(event.to_json(), id=event.id)], fence=end)
        except Conflict:
            continue
        return evolve(registry, event)
    raise Conflict(f"the {MODELS} topic moved on {_CONFLICT_TRIES} times: someone else is registering models")
