"""The registry: which models exist and which one each edge is to run, folded from the log's `models` topic."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from shared.events import Event, ModelPromoted, ModelRegistered
from shared.manifest import Manifest
from shared.retraining_events import ChallengerJudged, RetrainingDecided

SOURCE: Final = "cloud/registry"
CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
ANOMALY: Final = "anomaly"
LIFE: Final = "life"
"""What a model is for, as its manifest says."""


@dataclass(frozen=True, slots=True)
class Model:
    """One registered version. `manifest` is the artifact's, as JSON-ready values.

    `judged`: how it did as a challenger. `decided`: what was last decided about training again while it was champion.
    """

    machine: str
    name: str
    version: int
    version_hash: str
    object_name: str
    provisional: bool
    registered_at: datetime
    promoted_to: tuple[str, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    judged: ChallengerJudged | None = None
    decided: RetrainingDecided | None = None

    @property
    def method(self) -> str:
        """The method's name, as in the model's name."""
        return self.name.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Registry:
    """All versions of models of anomalies, oldest first; `requests`: the key of a person's promotion to the hash that it promoted.

    `lives`: the same of models of remaining life. One artifact may be several machines' there, and neither kind takes
    the other's place.
    """

    models: tuple[Model, ...] = ()
    lives: tuple[Model, ...] = ()
    requests: Mapping[str, str] = field(default_factory=dict)

    def by_hash(self, version_hash: str) -> Model | None:
        """The version with this artifact, if it is registered."""
        return next((m for m in self.models if m.version_hash == version_hash), None)

    def of(self, machine: str) -> list[Model]:
        """A machine's versions, oldest first."""
        return [m for m in self.models if m.machine == machine]

    def version(self, machine: str, version: int) -> Model | None:
        """A machine's version by its number."""
        return next((m for m in self.models if (m.machine, m.version) == (machine, version)), None)

    def champion(self, machine: str) -> Model | None:
        """The version that is promoted; where edges differ, the newest of theirs."""
        return next((m for m in reversed(self.of(machine)) if m.promoted_to), None)

    def challenger(self, machine: str) -> Model | None:
        """The newest version that is not the champion."""
        champion = self.champion(machine)
        return next((m for m in reversed(self.of(machine)) if m != champion), None)

    def aliases(self, model: Model) -> tuple[str, ...]:
        """`champion`, `challenger`, or none."""
        named = {CHAMPION: self.champion(model.machine), CHALLENGER: self.challenger(model.machine)}
        return tuple(alias for alias, found in named.items() if found == model)

    def life(self, machine: str) -> Model | None:
        """The version that tells a machine's remaining life."""
        return next((m for m in reversed(self.lives) if m.machine == machine and m.promoted_to), None)

    def life_challenger(self, machine: str) -> Model | None:
        """The newest version that does not tell it."""
        told = self.life(machine)
        return next((m for m in reversed(self.lives) if m.machine == machine and m != told), None)

    def life_aliases(self, model: Model) -> tuple[str, ...]:
        """`champion`: it tells its machine's remaining life; `challenger`; or none."""
        named = {CHAMPION: self.life(model.machine), CHALLENGER: self.life_challenger(model.machine)}
        return tuple(alias for alias, found in named.items() if found == model)

    def life_version(self, machine: str, version_hash: str) -> Model | None:
        """A machine's life model by its hash."""
        return next((m for m in self.lives if (m.machine, m.version_hash) == (machine, version_hash)), None)

    def wanted(self, edge: str, machine: str) -> Model | None:
        """What `edge` is to run for `machine`."""
        return next(
            (m for m in reversed(self.models) if m.machine == machine and edge in m.promoted_to), None
        )


def evolve(registry: Registry, event: Event) -> Registry:
    """The registry after one more event; events of other kinds and repeated ones change nothing."""
    match event:
        case ModelRegistered():
            return _with_version(registry, event)
        case ModelPromoted() if registry.life_version(event.subject, event.version_hash) is not None:
            return replace(registry, lives=tuple(_promoted(model, event) for model in registry.lives))
        case ModelPromoted():
            models = tuple(_promoted(model, event) for model in registry.models)
            asked = {event.correlation_id: event.version_hash} if event.correlation_id else {}
            return replace(registry, models=models, requests={**registry.requests, **asked})
        case ChallengerJudged():
            return _with(registry, event.challenger, judged=event)
        case RetrainingDecided():
            return _with(registry, event.champion, decided=event)
    return registry


def _with_version(registry: Registry, event: ModelRegistered) -> Registry:
    if event.manifest.get("purpose") == LIFE:
        known = registry.life_version(event.subject, event.version_hash)
        return registry if known else replace(registry, lives=(*registry.lives, _registered(event)))
    known = registry.by_hash(event.version_hash)
    return registry if known else replace(registry, models=(*registry.models, _registered(event)))


def _registered(event: ModelRegistered) -> Model:
    return Model(
        event.subject,
        event.model,
        event.model_version,
        event.version_hash,
        event.object_name,
        event.provisional,
        event.occurred_at,
        manifest=event.manifest,
    )


def _with(registry: Registry, version_hash: str, **news: Event) -> Registry:
    """The registry with news of one version; of one that it does not know there is none."""
    models = tuple(
        replace(each, **news) if each.version_hash == version_hash else each  # type: ignore[arg-type]
        for each in registry.models
    )
    return replace(registry, models=models)


def fold(events: Iterable[Event]) -> Registry:
    """The registry after all events."""
    registry = Registry()
    for event in events:
        registry = evolve(registry, event)
    return registry


def decide_registration(
    registry: Registry, manifest: Manifest, version_hash: str, now: datetime
) -> ModelRegistered | None:
    """The event that makes a model known; None if it already is."""
    if registry.by_hash(version_hash) is not None:
        return None
    machine = manifest.machines[0]
    version = max((m.version for m in registry.of(machine)), default=0) + 1
    return ModelRegistered(
        source=SOURCE,
        subject=machine,
        occurred_at=now,
        model=model_name(machine, manifest.method),
        model_version=version,
        version_hash=version_hash,
        object_name=version_hash,
        provisional=manifest.provisional,
        manifest=manifest.model_dump(mode="json"),
    )


def decide_life_registration(
    registry: Registry, machine: str, version_hash: str, manifest: Mapping[str, Any], now: datetime
) -> ModelRegistered | None:
    """The event that makes a life model known for a machine; None if it already is."""
    if registry.life_version(machine, version_hash) is not None:
        return None
    mine = (m.version for m in registry.lives if m.machine == machine)
    return ModelRegistered(
        source=SOURCE,
        subject=machine,
        occurred_at=now,
        model=model_name(machine, manifest["method"]),
        model_version=max(mine, default=0) + 1,
        version_hash=version_hash,
        object_name=version_hash,
        provisional=manifest["provisional"],
        manifest=dict(manifest),
    )


def decide_promotion(model: Model, edge: str, now: datetime, request: str = "") -> ModelPromoted:
    """The event that makes `edge` run `model`; `request` is the key under which a person asked for it."""
    return ModelPromoted(
        source=SOURCE,
        subject=model.machine,
        occurred_at=now,
        edge=edge,
        model=model.name,
        model_version=model.version,
        version_hash=model.version_hash,
        correlation_id=request,
    )


def model_name(machine: str, method: str) -> str:
    """A model's name: the machine and the method, whose configuration's hash the manifest keeps."""
    return f"{machine}/{method.partition('/')[0]}"


def _promoted(model: Model, event: ModelPromoted) -> Model:
    """`model` with its edges after a promotion: a machine's edge runs one version at a time."""
    if model.machine != event.subject:
        return model
    others = tuple(edge for edge in model.promoted_to if edge != event.edge)
    return replace(
        model, promoted_to=(*others, event.edge) if model.version_hash == event.version_hash else others
    )
