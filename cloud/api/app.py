"""The data API: machines, readings, anomalies, events, models and the ledger as JSON over HTTP."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import Depends, FastAPI, Response
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from cloud.api.access import service_tokens
from cloud.api.asset_files import asset_files_router
from cloud.api.assets import asset_changes_router, assets_router
from cloud.api.cached import Answers as Kept
from cloud.api.cached import answers_in_memory
from cloud.api.changes import add_stale
from cloud.api.dead_letters import Answers, dead_letters_router
from cloud.api.edge_commands import edge_commands_router
from cloud.api.examples import LEDGER, MACHINE, MACHINES, example
from cloud.api.fleet import Reported
from cloud.api.happenings import happenings_router
from cloud.api.history import history_router
from cloud.api.live import Broadcaster
from cloud.api.logic import MachineStatus
from cloud.api.models import Models, Promote, models_router
from cloud.api.people import KEYS_PATH, keys_router, tokens_router, users_router
from cloud.api.readings import readings_router
from cloud.api.rebuilds import Rebuilds, rebuilds_router
from cloud.api.rights import describe_rights
from cloud.api.sessions import Parts, sessions_router, sign_in_router
from cloud.api.settings import ApiSettings
from cloud.api.shortcut import Questions, Shortcut
from cloud.api.similar import similar_router
from cloud.api.stream import live_router
from cloud.api.verdicts import verdicts_router
from cloud.api.work import counters_router, orders_router
from cloud.assets.port import AssetCommands, AssetReader
from cloud.commands.port import EdgeCommands
from cloud.labels.port import Verdicts
from cloud.ledger.report import LedgerReport
from cloud.people.limits import Requests as RequestLimit
from cloud.similar.app import SimilarAnomalies
from cloud.telemetry.port import TelemetryReader
from shared.access import Right
from shared.asgi_access import Access, Verify, needs
from shared.asgi_conditional import Conditional
from shared.asgi_query import KnownQuery
from shared.asgi_requests import HttpMetrics, Requests
from shared.clock import Clock
from shared.health import Health
from shared.probes import add_probes
from shared.problems import ANYWHERE, add_errors, documented

Lookup = Callable[[], Awaitable[bytes]]
MAY_READ: Final[Any] = Depends(needs(Right.READ))


class MachineList(BaseModel):
    """Every machine, by name; `edge` is empty for one that no edge looks after."""

    machines: list[MachineStatus]


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
    people: Parts | None = None,
    verify: Verify | None = None,
    rebuilds: Rebuilds | None = None,
    kept: Kept | None = None,
    assets: tuple[AssetReader, AssetCommands] | None = None,
    commands: EdgeCommands | None = None,
    verdicts: Verdicts | None = None,
    similar: SimilarAnomalies | None = None,
) -> FastAPI:
    """The ASGI application. `ledger`, `models`, `promote` and `letters` are answered by their own services.

    `kept` keeps answers of the store; without it this process does.
    """
    kept = kept or answers_in_memory(store, live, registry, clock)
    app = FastAPI(
        title="IndustrialMind data API",
        version="1",
        docs_url=None,
        redoc_url=None,
        responses=documented(*ANYWHERE),
        dependencies=[Depends(KnownQuery())],
    )
    questions = Questions(clock)
    app.add_middleware(Shortcut, questions=questions, answers=kept)
    app.add_middleware(Conditional)
    app.add_middleware(
        Access,
        verify=verify or service_tokens(settings),
        allowed_hosts=settings.allowed_hosts,
        open_paths=(KEYS_PATH,),
        wait=RequestLimit(clock, settings.requests_per_minute).wait,
    )
    app.add_middleware(Requests, metrics=HttpMetrics(registry))
    add_errors(app)
    add_probes(app, health, registry)
    app.include_router(models_router(models, promote, reported.of, clock))
    app.include_router(live_router(live), dependencies=[MAY_READ])
    app.include_router(history_router(store, live, models, clock, assets and assets[0]))
    app.include_router(readings_router(store, kept, questions, clock))
    app.include_router(happenings_router(store, kept, questions, clock))
    app.include_router(similar_router(similar))
    for router in (sign_in_router, sessions_router, users_router, tokens_router, keys_router):
        app.include_router(router(people))
    if rebuilds is not None:
        app.include_router(rebuilds_router(rebuilds), dependencies=[MAY_READ])
    if assets is not None:
        _add_assets(app, *assets, clock)
    if commands is not None:
        app.include_router(edge_commands_router(commands))
    if verdicts is not None:
        app.include_router(verdicts_router(verdicts, clock))
    if letters is not None:
        app.include_router(dead_letters_router(letters, clock))

    @app.get("/v1/machines", responses=example(MACHINES), dependencies=[MAY_READ])
    async def machines() -> MachineList:
        """Every machine's state, score, leading sensors, last values and data age."""
        return MachineList(machines=live.fleet.statuses())

    @app.get("/v1/machines/{machine}/status", responses=example(MACHINE), dependencies=[MAY_READ])
    async def one_status(machine: str) -> MachineStatus:
        """The same of one machine."""
        return live.fleet.status(machine)

    @app.get(
        "/v1/ledger",
        response_class=Response,
        responses=example(LEDGER, model=LedgerReport),
        dependencies=[MAY_READ],
    )
    async def loss_ledger() -> Response:
        """Per edge and epoch: rows produced, buffered, logged, stored, rejected; findings with their stage."""
        return Response(await ledger(), media_type="application/json")

    describe_rights(app, (KEYS_PATH,))
    return app


def _add_assets(app: FastAPI, reader: AssetReader, commands: AssetCommands, clock: Clock) -> None:
    add_stale(app)
    app.include_router(asset_files_router(commands))  # its paths would be kinds to the next one
    app.include_router(assets_router(reader, clock))
    app.include_router(asset_changes_router(commands))
    app.include_router(counters_router(reader, commands, clock))
    app.include_router(orders_router(reader, commands, clock))
