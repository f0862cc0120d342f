"""Models over HTTP: what is registered, in full, where it is wanted and where it runs, and promotions."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field

from shared.errors import NotFound
from shared.names import ID_PATTERN

Reports = Callable[[str], Mapping[str, Any]]
"""An edge's last report, by its id."""


class ModelSummary(BaseModel):
    """A registered version. `aliases`: champion is what is promoted, challenger the newest other version."""

    model_config = ConfigDict(frozen=True)

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


class ModelDetail(ModelSummary):
    """The same with the artifact's manifest, and why edges that should run it refuse to."""

    manifest: dict[str, Any]
    refused: dict[str, str] = Field(default_factory=dict, description="edge to reason")


class ModelList(BaseModel):
    """Every version, oldest first, and the position in the topic `models` that this shows."""

    models: tuple[ModelSummary, ...]
    position: dict[str, int]


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


def models_router(models: Models, promote: Promote, reports: Reports) -> APIRouter:
    """The endpoints."""
    router = APIRouter()

    @router.get("/v1/models")
    async def list_models(machine: str | None = None) -> ModelList:
        """Every registered version, of one machine or of all: how it did, where it is wanted, where it runs."""
        found, position = await models()
        shown = (_located(model, reports) for model in found if machine in (None, model.machine))
        return ModelList(models=tuple(shown), position=position)

    @router.get("/v1/models/{version_hash}")
    async def one_model(version_hash: str) -> ModelDetail:
        """One version with its manifest."""
        found, _ = await models()
        for model in found:
            if model.version_hash == version_hash:
                return _located(model, reports)
        raise NotFound(f"no model {version_hash[:12]!r}")

    @router.post("/v1/models/promotions")
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
