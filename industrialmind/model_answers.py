"""What the data API answers about models: the registry's fold and decisions in the API's words."""

from typing import TypeVar

from cloud.api.models import DecidedAnswer, JudgedAnswer, ModelDetail, PromotionAnswer
from cloud.registry.app import Promotions, RegistryView
from cloud.registry.logic import Model, Registry
from shared.clock import Clock
from shared.event import Event
from shared.eventlog import EventLog
from shared.nats import ControlPlane

Answered = TypeVar("Answered", JudgedAnswer, DecidedAnswer)


class ModelAnswers:
    """The registry behind the API's endpoints. One instance a plant: it owns what people decide."""

    def __init__(self, events: EventLog, control: ControlPlane, clock: Clock) -> None:
        self._view = RegistryView(events)
        self._promotions = Promotions(events, control, clock)

    async def models(self) -> tuple[list[ModelDetail], dict[str, int]]:
        """Every registered version, oldest first, life models last, and the position they show. Raises Unavailable."""
        registry, position = await self._view.look()
        lives = [life_detail(registry, model) for model in registry.lives]
        return [detail(registry, model) for model in registry.models] + lives, dict(position)

    async def promote(self, machine: str, version: int, request: str) -> PromotionAnswer:
        """Promote under the request's key. Raises NotFound, Conflict, Unavailable."""
        done = await self._promotions.promote(machine, version, request)
        return PromotionAnswer(
            machine=machine,
            name=done.model.name,
            version=done.model.version,
            version_hash=done.model.version_hash,
            promoted_to=done.model.promoted_to,
            position=dict(done.position),
            changed=done.changed,
        )


def detail(registry: Registry, model: Model) -> ModelDetail:
    """A registered version as the API shows it."""
    return ModelDetail(
        machine=model.machine,
        name=model.name,
        method=model.method,
        version=model.version,
        version_hash=model.version_hash,
        provisional=model.provisional,
        registered_at=model.registered_at,
        aliases=registry.aliases(model),
        promoted_to=model.promoted_to,
        metrics=model.manifest.get("metrics", {}),
        manifest=dict(model.manifest),
        judged=None if model.judged is None else _of(JudgedAnswer, model.judged),
        decided=None if model.decided is None else _of(DecidedAnswer, model.decided),
    )


def life_detail(registry: Registry, model: Model) -> ModelDetail:
    """The same of a version that tells remaining life."""
    found = detail(registry, model)
    return found.model_copy(update={"purpose": "life", "aliases": registry.life_aliases(model)})


def _of(answer: type[Answered], event: Event) -> Answered:
    """An event as an answer that has its fields."""
    fields = {name: getattr(event, name) for name in answer.model_fields if name != "at"}
    return answer(at=event.occurred_at, **fields)
