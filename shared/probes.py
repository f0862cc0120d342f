"""Health and metrics as routes of an HTTP service: the same four paths that `shared.health` serves without a framework."""

from fastapi import Depends, FastAPI, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest

from shared.access import Right
from shared.asgi_access import needs
from shared.health import Health


def add_probes(app: FastAPI, health: Health, registry: CollectorRegistry) -> None:
    """`/livez`, `/readyz`, `/startupz` answer with a status only; `/metrics` is behind the service's own access."""

    @app.get("/livez", include_in_schema=False)
    async def livez() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> PlainTextResponse:
        return PlainTextResponse("ok\n") if health.ready else PlainTextResponse("not ready\n", 503)

    @app.get("/startupz", include_in_schema=False)
    async def startupz() -> PlainTextResponse:
        return PlainTextResponse("ok\n") if health.started else PlainTextResponse("not ready\n", 503)

    @app.get("/metrics", include_in_schema=False, dependencies=[Depends(needs(Right.READ))])
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")
