"""Models over HTTP: what is registered, in full, where it is wanted and where it runs, and promotions."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, Query
from pydantic import BaseModel, ConfigDict, Field

from cloud.api.cursors import MAX_CURSOR, place
from cloud.api.cursors import cursor as made_cursor
from cloud.api.examples import MODELS, example
from cloud.api.positions import MinPosition, parse_position, reached
from shared.access import Right
from shared.asgi_access import needs
from shared.clock import Clock
from shared.errors import NotFound
from shared.names import ID_PATTERN
from shared.problems import documented

MAX_MODELS: Final = 1000
MAY_READ: Final[Any] = Depends(needs(Right.READ))
MAY_ENGINEER: Final[Any] = Depends(needs(Right.ENGINEER))

Reports = Callable[[str], Mapping[str, Any]]
"""An edge's last report, by its id."""


Purpose = Literal["anomaly", "life"]


class ModelSummary(BaseModel):
    """A registered version. `aliases`: champion is what is promoted, challenger the newest other version."""

    model_config = ConfigDict(frozen=True)

    purpose: Purpose = Field("anomaly", description="what it tells; each counts versions of its own")
    machine: str
    name: str
    method: str
    version: int
    version_hash: str
    provisional: bool
    registered_at: datetime
    aliases: tuple[str, ...]
    promoted_to: tuple[str, ...]
    running_on: tuple[str, ...] = Field((), description="edges that report to run it")
    metrics: dict[str, float]


class JudgedAnswer(BaseModel):
    """A contest. `figures`: differences to the champion with their 90 % intervals; `proxy`: by synthetic faults."""

    at: datetime
    champion: str
    outcome: str
    proxy: bool
    reasons: tuple[str, ...]
    figures: dict[str, float]


class DecidedAnswer(BaseModel):
    """Why the machine looks different, and what follows."""

    at: datetime
    trigger: str
    triage: str
    action: str
    reason: str
    sensors: tuple[str, ...]
    onset: datetime | None


class ModelDetail(ModelSummary):
    """The same with the artifact's manifest, and why edges that should run it refuse to."""

    manifest: dict[str, Any]
    judged: JudgedAnswer | None = Field(None, description="how it did against the champion")
    decided: DecidedAnswer | None = Field(None, description="what was last decided about training again")
    refused: dict[str, str] = Field(default_factory=dict, description="edge to reason")


class ModelList(BaseModel):
    """Versions, oldest first, and the position in the topic `models` that this shows. `next`: as `cursor` for newer ones."""

    models: tuple[ModelSummary, ...]
    position: dict[str, int]
    next: str | None = None


class PromotionRequest(BaseModel):
    """Let a machine's edge run this version."""

    model_config = ConfigDict(extra="forbid")

    machine: str = Field(pattern=rf"^{ID_PATTERN}$")
    version: int = Field(gt=0)


class PromotionAnswer(BaseModel):
    """What runs from now on. `changed` is False where it was promoted already."""

    machine: str
    name: str
    version: int
    version_hash: str
    promoted_to: tuple[str, ...]
    position: dict[str, int]
    changed: bool


Models = Callable[[], Awaitable[tuple[list[ModelDetail], dict[str, int]]]]
"""Every registered version, oldest first, and the log's position that they show."""
Promote = Callable[[str, int, str], Awaitable[PromotionAnswer]]
"""Promote (machine, version) under the request's key. Raises NotFound, Conflict, Unavailable."""


def models_router(models: Models, promote: Promote, reports: Reports, clock: Clock) -> APIRouter:
    """The endpoints."""
    router = APIRouter()

    async def at_least(wanted: str) -> list[ModelDetail]:
        async def look() -> Mapping[str, int]:
            return (await models())[1]

        await reached(parse_position(wanted), look, clock)
        return (await models())[0]

    @router.get("/v1/models", dependencies=[MAY_READ], responses=example(MODELS) | documented(202))
    async def list_models(
        machine: Annotated[str | None, Query(max_length=40)] = None,
        purpose: Annotated[Purpose | None, Query(description="of this purpose alone")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_MODELS)] = MAX_MODELS,
        cursor: Annotated[str | None, Query(max_length=MAX_CURSOR)] = None,
        min_position: MinPosition = "",
    ) -> ModelList:
        """Every registered version, of one machine or of all: how it did, where it is wanted, where it runs."""
        await at_least(min_position)
        found, position = await models()
        mine = [
            model for model in found if machine in (None, model.machine) and purpose in (None, model.purpose)
        ]
        first = 0 if cursor is None else place(cursor, "models", (int,))[0]
        page = mine[first : first + limit] if first >= 0 else []
        following = made_cursor("models", first + limit) if first + limit < len(mine) else None
        shown = tuple(_located(model, reports) for model in page)
        return ModelList(models=shown, position=position, next=following)

    @router.get("/v1/models/{version_hash}", dependencies=[MAY_READ], responses=documented(202))
    async def one_model(
        version_hash: str,
        machine: Annotated[
            str | None, Query(max_length=40, description="whose, where a life model is several machines'")
        ] = None,
        min_position: MinPosition = "",
    ) -> ModelDetail:
        """One version with its manifest."""
        for model in await at_least(min_position):
            if model.version_hash == version_hash and machine in (None, model.machine):
                return _located(model, reports)
        raise NotFound(f"no model {version_hash[:12]!r}")

    @router.post("/v1/models/promotions", dependencies=[MAY_ENGINEER], responses=documented(409))
    async def promotion(
        wanted: PromotionRequest,
        idempotency_key: Annotated[str, Header(min_length=1, max_length=100, pattern=r"^[!-~]+$")],
    ) -> PromotionAnswer:
        """Let a machine's edge run another version. Sent again under the same key, it happens once."""
        return await promote(wanted.machine, wanted.version, idempotency_key)

    return router


def _located(model: ModelDetail, reports: Reports) -> ModelDetail:
    """The model with what the edges that it is meant for report of it."""
    running, refused = [], {}
    for edge in model.promoted_to:
        part = _part(reports(edge), model.machine)
        if part.get("sha256") == model.version_hash:
            running.append(edge)
        elif part.get("refused"):
            refused[edge] = str(part["refused"])
    return model.model_copy(update={"running_on": tuple(running), "refused": refused})


def _part(report: Mapping[str, Any], machine: str) -> Mapping[str, Any]:
    """What a report says of a machine; empty where it says nothing that can be read."""
    machines = report.get("machines")
    part = machines.get(machine) if isinstance(machines, Mapping) else None
    return part if isinstance(part, Mapping) else {}
