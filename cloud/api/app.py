"""The data API: machines, readings, anomalies, events, models and the ledger as JSON over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import orjson
import structlog
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest
from starlette.exceptions import HTTPException

from cloud.api.access import Access
from cloud.api.logic import Anomaly, MachineStatus, anomalies, machine_status
from cloud.api.settings import ApiSettings
from cloud.telemetry.port import BEGIN_US, END_US, TelemetryReader
from shared.clock import Clock
from shared.errors import NotFound, Rejected, Unavailable
from shared.events import AnomalyEnded, AnomalyStarted, parse_event
from shared.health import Health
from shared.nats import ControlPlane

log = structlog.get_logger()

MAX_POINTS = 4000
MAX_EVENTS = 1000
Reports = dict[str, dict[str, Any]]
Lookup = Callable[[], Awaitable[Any]]


class Reported:
    """Each edge's last `state` report, kept up to date from the control plane by one watcher an edge."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._reports: Reports = {}
        self.assignments: dict[str, tuple[str, str]] = {}

    def of(self, edge: str) -> Mapping[str, Any]:
        """The edge's report; empty if there was none yet."""
        return self._reports.get(edge, {})

    async def follow(self) -> None:
        """Watch assignments and the reports of every edge in them, for ever."""
        async with asyncio.TaskGroup() as group:
            watched: set[str] = set()
            async for change in self._control.watch_assignments():
                if change is None:
                    continue
                machine, assigned = change
                if assigned is None:
                    self.assignments.pop(machine, None)
                    continue
                self.assignments[machine] = assigned
                edge = assigned[1]
                if edge not in watched:
                    watched.add(edge)
                    group.create_task(self._follow_edge(edge), name=f"reports of {edge}")

    async def _follow_edge(self, edge: str) -> None:
        async for change in self._control.watch_reported(edge):
            if change is None:
                continue
            key, value = change
            if key == "state":
                self._reports[edge] = _report(edge, value)


def _report(edge: str, value: bytes | None) -> dict[str, Any]:
    """An edge's report; empty if it was deleted or can't be read."""
    if value is None:
        return {}
    try:
        report = orjson.loads(value)
    except orjson.JSONDecodeError:
        report = None
    if isinstance(report, dict):
        return report
    log.warning("an edge's report can't be read", edge=edge, head=value[:80].decode(errors="replace"))
    return {}


def build_app(
    settings: ApiSettings,
    *,
    store: TelemetryReader,
    reported: Reported,
    health: Health,
    registry: CollectorRegistry,
    clock: Clock,
    ledger: Lookup,
    models: Lookup,
) -> FastAPI:
    """The ASGI application. `ledger` and `models` return JSON-ready answers of their own services."""
    app = FastAPI(title="IndustrialMind data API", version="1", docs_url=None, redoc_url=None)
    app.add_middleware(Access, token=settings.token.get_secret_value(), allowed_hosts=settings.allowed_hosts)
    _add_errors(app)
    _add_probes(app, health, registry)

    @app.get("/v1/machines")
    async def machines() -> dict[str, list[MachineStatus]]:
        """Every machine's state, score, leading sensors, last values and data age."""
        now_us = clock.now_us()
        found = [
            machine_status(
                machine,
                site,
                edge,
                reported.of(edge),
                now_us=now_us,
                stale_after=settings.stale_after_seconds,
            )
            for machine, (site, edge) in sorted(reported.assignments.items())
        ]
        return {"machines": found}

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

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """Every registered version and where it is wanted."""
        return {"models": await models()}

    @app.get("/v1/ledger")
    async def loss_ledger() -> Response:
        """Per edge and epoch: rows produced, buffered, logged, stored, rejected; findings with their stage."""
        return Response(await ledger(), media_type="application/json")

    return app


def _add_errors(app: FastAPI) -> None:
    """Our errors, and the framework's own, as problem+json."""

    def answer(status: int) -> Callable[[Request, Exception], Response]:
        return lambda _, error: _problem(status, str(error))

    @app.exception_handler(RequestValidationError)
    def wrong_query(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _problem(422, f"{'.'.join(str(part) for part in first['loc'][1:])}: {first['msg']}")

    @app.exception_handler(HTTPException)
    def wrong_path(_: Request, error: HTTPException) -> Response:
        return _problem(error.status_code, error.detail, error.headers)

    app.add_exception_handler(NotFound, answer(404))
    app.add_exception_handler(Rejected, answer(422))
    app.add_exception_handler(Unavailable, answer(503))


def _problem(status: int, title: str, headers: Mapping[str, str] | None = None) -> Response:
    body = {"type": "about:blank", "title": title, "status": status}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


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
