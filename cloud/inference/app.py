"""The inference API: scores of posted rows and windows, and of a machine's latest data, by its champion; remaining life."""

import asyncio
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Body, Depends, FastAPI, Path, Query, Response
from fastapi.security import HTTPBearer
from prometheus_client import CollectorRegistry

from cloud.inference.examples import ANSWER, ROWS, WINDOWS
from cloud.inference.latest import latest_rows
from cloud.inference.logic import Asked, columns, of_rows, of_stored, of_windows
from cloud.inference.metrics import Metrics
from cloud.inference.models import Models, Served
from cloud.inference.schemas import ScoreAnswer, ScoreRequest
from cloud.inference.settings import MOST_WINDOWS, InferenceSettings
from cloud.telemetry.port import TelemetryReader
from shared.access import Principal, Right
from shared.asgi_access import Access, Verify, needs
from shared.asgi_query import KnownQuery
from shared.asgi_requests import HttpMetrics, Requests
from shared.errors import Rejected
from shared.health import Health
from shared.names import ID_PATTERN
from shared.onnxruntime import Scores
from shared.probes import add_probes
from shared.problems import ANYWHERE, add_errors, documented

LARGE: Final = 5_000
"""Numbers in a request from which on it is prepared in a thread, so that others need not wait for it."""

Machine = Annotated[str, Path(pattern=f"^{ID_PATTERN}$")]
Reader = Annotated[Principal, Depends(needs(Right.READ))]
_EXAMPLES: Final[dict[str, Any]] = {
    "rows": {"summary": "raw rows, by the champion", "value": ROWS},
    "windows": {"summary": "windows, by a named version", "value": WINDOWS},
}
_BEARER: Final = Depends(HTTPBearer(auto_error=False))  # for the document alone: the gate has looked before
_RIGHT: Final = {"x-right": Right.READ.value}
_ANSWERED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {"example": ANSWER}}}
}


def build_app(
    settings: InferenceSettings,
    *,
    models: Models,
    store: TelemetryReader,
    verify: Verify,
    health: Health,
    registry: CollectorRegistry,
    metrics: Metrics,
    life: APIRouter,
) -> FastAPI:
    """The ASGI application; `life` answers about remaining life."""
    app = FastAPI(
        title="IndustrialMind inference API",
        version="1",
        docs_url=None,
        redoc_url=None,
        responses=documented(*ANYWHERE),
        dependencies=[Depends(KnownQuery())],
    )
    app.add_middleware(Access, verify=verify, allowed_hosts=settings.allowed_hosts)
    app.add_middleware(Requests, metrics=HttpMetrics(registry), max_body=settings.body_bytes)
    add_errors(app)
    add_probes(app, health, registry)
    app.include_router(score_router(models, store, metrics))
    app.include_router(life, dependencies=[_BEARER])
    return app


def score_router(models: Models, store: TelemetryReader, metrics: Metrics) -> APIRouter:
    """Scores of anomaly models."""
    router = APIRouter(dependencies=[_BEARER])

    async def answered(machine: str, served: Served, asked: Asked) -> Response:
        scores: Scores | None = None
        chosen = asked.chosen
        if len(chosen):
            windows = asked.windows.values
            scores = await served.batcher.score(windows if len(chosen) == len(windows) else windows[chosen])
        metrics.windows.labels("scored").inc(len(chosen))
        metrics.windows.labels("unscored").inc(len(asked.windows) - len(chosen))
        answer = columns(served.model, machine, asked, scores)
        return Response(orjson.dumps(answer), media_type="application/json")

    @router.post("/v1/score", response_model=ScoreAnswer, responses=_ANSWERED, openapi_extra=_RIGHT)
    async def score(
        request: Annotated[ScoreRequest, Body(openapi_examples=_EXAMPLES)], _: Reader
    ) -> Response:
        """Score raw rows or windows of a machine: score, limit, state, and each sensor's share, seen and expected."""
        machine, named = request.machine, request.version_hash
        served = await (models.version(machine, named) if named else models.champion(machine))
        asked = await _prepared(served, request)
        return await answered(machine, served, asked)

    @router.get(
        "/v1/machines/{machine}/score", response_model=ScoreAnswer, responses=_ANSWERED, openapi_extra=_RIGHT
    )
    async def latest(
        machine: Machine,
        _: Reader,
        most: Annotated[int, Query(ge=1, le=MOST_WINDOWS, description="how many windows, the newest")] = 1,
    ) -> Response:
        """The same of the machine's latest rows in the store, by its champion."""
        served = await models.champion(machine)
        readings, units = await latest_rows(store, machine, served.model.manifest, most)
        asked = await asyncio.to_thread(of_stored, served.model.manifest, readings, units, most)
        return await answered(machine, served, asked)

    return router


async def _prepared(served: Served, request: ScoreRequest) -> Asked:
    """The windows of the request. Raises Rejected."""
    manifest = served.model.manifest

    def prepare() -> Asked:
        if request.rows is not None:
            return of_rows(manifest, request.rows, request.most)
        if request.windows is not None:
            return of_windows(manifest, request.windows)
        raise Rejected("give either rows or windows")

    return prepare() if request.size <= LARGE else await asyncio.to_thread(prepare)
