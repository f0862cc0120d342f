"""The data API: machines, readings, anomalies, events, models and the ledger as JSON over HTTP."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest

from cloud.api.access import CLI, UI, Access
from cloud.api.fleet import Reported
from cloud.api.live import Broadcaster
from cloud.api.logic import Anomaly, MachineStatus, anomalies
from cloud.api.models import Models, Promote, models_router
from cloud.api.problems import add_errors
from cloud.api.settings import ApiSettings
from cloud.api.stream import live_router
from cloud.telemetry.port import BEGIN_US, END_US, TelemetryReader
from shared.clock import Clock
from shared.errors import NotFound
from shared.events import AnomalyEnded, AnomalyStarted, parse_event
from shared.health import Health

MAX_POINTS = 4000
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
) -> FastAPI:
    """The ASGI application. `ledger`, `models` and `promote` are answered by their own services."""
    app = FastAPI(title="IndustrialMind data API", version="1", docs_url=None, redoc_url=None)
    tokens = {CLI: settings.token.get_secret_value(), UI: settings.ui_token.get_secret_value()}
    app.add_middleware(Access, tokens=tokens, allowed_hosts=settings.allowed_hosts)
    add_errors(app)
    _add_probes(app, health, registry)
    app.include_router(models_router(models, promote, reported.of))
    app.include_router(live_router(live))

    @app.get("/v1/machines")
    async def machines() -> dict[str, list[MachineStatus]]:
        """Every machine's state, score, leading sensors, last values and data age."""
        return {"machines": live.fleet.statuses()}

    @app.get("/v1/machines/{machine}/status")
    async def one_status(machine: str) -> MachineStatus:
        """The same of one machine."""
        return live.fleet.status(machine)

    @app.get("/v1/machines/{machine}")
    async def machine_data(machine: str) -> dict[str, Any]:
        """What the store has of a machine: how many readings, of which sensors in which unit."""
        series = await store.series(machine)
        if not series:
            raise NotFound(f"{machine} has no readings in the store")
        return {
            "machine": machine,
            "readings": await store.count(machine),
            "sensors": {each.sensor: each.unit for each in series},
        }

    @app.get("/v1/machines/{machine}/readings/{sensor}")
    async def readings(
        machine: str,
        sensor: str,
        start_us: Annotated[int, Query(alias="from", ge=BEGIN_US, le=END_US)] = BEGIN_US,
        end_us: Annotated[int, Query(alias="to", ge=BEGIN_US, le=END_US)] = END_US,
        limit: Annotated[int, Query(ge=1, le=MAX_POINTS)] = MAX_POINTS,
    ) -> dict[str, Any]:
        """The newest readings of a sensor in a time range (µs since 1970), oldest first."""
        columns = await store.readings(machine, sensor, start_us, end_us, limit, newest=True)
        if not len(columns) and sensor not in {s.sensor for s in await store.series(machine)}:
            raise NotFound(f"no readings of a sensor {sensor[:40]!r} of a machine {machine[:40]!r}")
        return {
            "machine": machine,
            "sensor": sensor,
            "time_us": columns.time_us.tolist(),
            "value": columns.value.tolist(),
            "quality": columns.quality.tolist(),
            "units": [columns.units[i] for i in columns.unit.tolist()],
        }

    @app.get("/v1/anomalies")
    async def list_anomalies(
        machine: str | None = None, limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = 100
    ) -> dict[str, list[Anomaly]]:
        """Episodes, newest first, each with its leading sensors: seen beside expected."""
        types = (AnomalyStarted.type, AnomalyEnded.type)
        stored = await store.events(machine, types, limit=2 * limit)
        return {"anomalies": anomalies([parse_event(s.fact.json) for s in stored])[:limit]}

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


def _add_probes(app: FastAPI, health: Health, registry: CollectorRegistry) -> None:
    @app.get("/livez", include_in_schema=False)
    async def livez() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> PlainTextResponse:
        return PlainTextResponse("ok\n") if health.ready else PlainTextResponse("not ready\n", 503)

    @app.get("/startupz", include_in_schema=False)
    async def startupz() -> PlainTextResponse:
        return PlainTextResponse("ok\n") if health.started else PlainTextResponse("not ready\n", 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")
