"""The data API: machines, readings, anomalies, events, models and the ledger as JSON over HTTP."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Response
from prometheus_client import CollectorRegistry

from cloud.api.access import CLI, UI, fixed_tokens
from cloud.api.dead_letters import Answers, dead_letters_router
from cloud.api.examples import MACHINE, MACHINES, example
from cloud.api.fleet import Reported
from cloud.api.history import history_router
from cloud.api.live import Broadcaster
from cloud.api.logic import Anomaly, MachineStatus, anomalies
from cloud.api.login import login_router
from cloud.api.models import Models, Promote, models_router
from cloud.api.rebuilds import Rebuilds, rebuilds_router
from cloud.api.settings import ApiSettings
from cloud.api.stream import live_router
from cloud.api.times import moment
from cloud.people.port import LoginLinks
from cloud.telemetry.port import TelemetryReader
from shared.asgi_access import Access
from shared.asgi_conditional import Conditional
from shared.asgi_requests import HttpMetrics, Requests
from shared.clock import Clock
from shared.events import AnomalyEnded, AnomalyStarted, parse_event, to_us
from shared.health import Health
from shared.probes import add_probes
from shared.problems import ANYWHERE, add_errors, documented

MAX_EVENTS = 1000
Lookup = Callable[[], Awaitable[bytes]]


def build_app(
    settings: ApiSettings,
    *,
    store: TelemetryReader,
    reported: Reported,
    live: Broadcaster,
    health: Health,
    registry: CollectorRegistry,
    clock: Clock,
    ledger: Lookup,
    models: Models,
    promote: Promote,
    letters: Answers | None = None,
    links: LoginLinks | None = None,
    rebuilds: Rebuilds | None = None,
) -> FastAPI:
    """The ASGI application. `ledger`, `models`, `promote` and `letters` are answered by their own services."""
    app = FastAPI(
        title="IndustrialMind data API",
        version="1",
        docs_url=None,
        redoc_url=None,
        responses=documented(*ANYWHERE),
    )
    app.add_middleware(Conditional)
    tokens = {CLI: settings.token.get_secret_value(), UI: settings.ui_token.get_secret_value()}
    app.add_middleware(Access, verify=fixed_tokens(tokens), allowed_hosts=settings.allowed_hosts)
    app.add_middleware(Requests, metrics=HttpMetrics(registry))
    add_errors(app)
    add_probes(app, health, registry)
    app.include_router(models_router(models, promote, reported.of))
    app.include_router(live_router(live))
    app.include_router(history_router(store, live, models, clock))
    app.include_router(login_router(links, clock))
    if rebuilds is not None:
        app.include_router(rebuilds_router(rebuilds))
    if letters is not None:
        app.include_router(dead_letters_router(letters, clock))

    @app.get("/v1/machines", responses=example(MACHINES))
    async def machines() -> dict[str, list[MachineStatus]]:
        """Every machine's state, score, leading sensors, last values and data age."""
        return {"machines": live.fleet.statuses()}

    @app.get("/v1/machines/{machine}/status", responses=example(MACHINE))
    async def one_status(machine: str) -> MachineStatus:
        """The same of one machine."""
        return live.fleet.status(machine)

    @app.get("/v1/anomalies")
    async def list_anomalies(
        machine: str | None = None,
        start: Annotated[str, Query(alias="from", description="those that had not ended by then")] = "0",
        limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 100,
    ) -> dict[str, list[Anomaly]]:
        """Episodes, newest first, each with its leading sensors: seen beside expected."""
        since_us = moment(start, clock.now_us(), "from")
        types = (AnomalyStarted.type, AnomalyEnded.type)
        stored = await store.events(machine, types, limit=2 * limit)
        found = anomalies([parse_event(s.fact.json) for s in stored])
        return {
            "anomalies": [a for a in found if a.ended_at is None or to_us(a.ended_at) >= since_us][:limit]
        }

    @app.get("/v1/events")
    async def list_events(
        machine: str | None = None, limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 100
    ) -> dict[str, Any]:
        """CloudEvents of machines and edges, newest first."""
        stored = await store.events(machine, limit=limit)
        return {"events": [orjson.loads(s.fact.json) for s in stored]}

    @app.get("/v1/ledger")
    async def loss_ledger() -> Response:
        """Per edge and epoch: rows produced, buffered, logged, stored, rejected; findings with their stage."""
        return Response(await ledger(), media_type="application/json")

    return app
