"""The control room's wiring: data API client, live view, Dash, the gate before it, loops."""

import asyncio
from pathlib import Path
from typing import Final

import dash
from dash import html
from fastapi import FastAPI
from starlette.types import ASGIApp

from cloud.ui.auth import Gate, Sessions
from cloud.ui.client import ApiClient
from cloud.ui.settings import UiSettings
from shared.service import run_loops
from shared.uvicorn import serve

ASSETS: Final = Path(__file__).parent / "assets"


async def run(settings: UiSettings, stop: asyncio.Event) -> None:
    """Serve the control room until `stop`. Raises Misconfigured (port taken, settings)."""
    async with ApiClient(
        settings.api_url,
        settings.token.get_secret_value(),
        connect_seconds=settings.connect_seconds,
        request_seconds=settings.request_seconds,
    ) as client:
        app = build(settings, client)
        await run_loops(
            stop,
            http=lambda: serve(
                app, settings.host, settings.port, stop, section="ui", what="the control room"
            ),
        )


def build(settings: UiSettings, client: ApiClient) -> ASGIApp:
    """The whole ASGI application, gate first."""
    room = dash.Dash(
        __name__, backend="fastapi", assets_folder=str(ASSETS), title="IndustrialMind", update_title=""
    )
    room.layout = html.Main("The control room is being set up.")

    server: FastAPI = room.server

    @server.get("/livez", include_in_schema=False)
    async def livez() -> str:
        return "ok"

    return Gate(
        room.server,
        sessions=Sessions(settings.session_key.get_secret_value(), hours=settings.session_hours),
        allowed_hosts=settings.allowed_hosts,
        redeem=client.redeem,
        headers={},
    )
