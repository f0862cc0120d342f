"""The control room's wiring: data API client, live view, Dash, the gate before it, loops."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import dash
from dash import ClientsideFunction, Input, Output, State
from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp

from cloud.ui import shell
from cloud.ui.auth import PRINCIPAL, Doorkeeper, Gate, Sessions
from cloud.ui.client import ApiClient, InferenceClient
from cloud.ui.life_reader import LifeReader
from cloud.ui.live import Live
from cloud.ui.plant import PlantView
from cloud.ui.room import Room
from cloud.ui.settings import UiSettings
from cloud.ui.way_in import BrowserWayIn
from shared.clock import Clock, SystemClock
from shared.service import run_loops, until_stop
from shared.uvicorn import serve

ASSETS: Final = Path(__file__).parent / "assets"
TITLE: Final = "Control room"
HEARTBEAT_MS: Final = 5000
_INDEX: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{%title%}</title>
<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
<script src="/assets/theme.js"></script>
{%css%}
</head>
<body>
{%app_entry%}
{%config%}
{%scripts%}
{%renderer%}
</body>
</html>
"""


async def run(settings: UiSettings, stop: asyncio.Event) -> None:
    """Serve the control room until `stop`. Raises Misconfigured (port taken)."""
    clock = SystemClock()
    plant = PlantView(
        trend_hours=settings.trend_hours,
        trend_points=settings.trend_points,
        stale_after_seconds=settings.stale_after_seconds,
    )
    token = settings.token.get_secret_value()
    waits = {"connect_seconds": settings.connect_seconds, "request_seconds": settings.request_seconds}
    async with (
        ApiClient(settings.api_url, token, **waits) as client,
        InferenceClient(settings.inference_url, client, clock, **waits) as inference,
    ):
        live = Live(
            plant,
            client,
            clock,
            url=settings.api_url,
            token=token,
            connect_seconds=settings.connect_seconds,
            refresh_seconds=settings.refresh_seconds,
            trend_hours=settings.trend_hours,
            trend_points=settings.trend_points,
        )
        lives = LifeReader(
            plant.lives, inference, clock, refresh_seconds=settings.life_seconds, wake=live.wake
        )
        app = build_app(settings, Room(settings, plant, live, client, clock), client, plant, clock)
        await run_loops(
            stop,
            http=lambda: serve(
                app, settings.host, settings.port, stop, section="ui", what="the control room"
            ),
            live=until_stop(stop, live.run),
            lives=until_stop(stop, lives.run),
        )


def build_app(settings: UiSettings, room: Room, client: ApiClient, plant: PlantView, clock: Clock) -> ASGIApp:
    """The whole ASGI application, the gate first."""
    app = dash.Dash(
        __name__,
        backend="fastapi",
        assets_folder=str(ASSETS),
        assets_ignore=r"theme\.js",
        index_string=_INDEX,
        title=TITLE,
        update_title="",
        suppress_callback_exceptions=True,
        websocket_inactivity_timeout=0,
        websocket_heartbeat_interval=HEARTBEAT_MS,
        enable_mcp=False,
    )
    app.layout = lambda: shell.layout(settings.poll_seconds)
    _add_callbacks(app, room)
    _add_browser_callbacks(app)
    _add_probes(app.server, plant)
    sessions = Sessions(settings.session_key.get_secret_value(), hours=settings.session_hours)
    doorkeeper = Doorkeeper(client.me, clock)
    return Gate(
        app.server,
        sessions=sessions,
        doorkeeper=doorkeeper,
        way_in=BrowserWayIn(client, sessions, doorkeeper, settings.provider),
        allowed_hosts=settings.allowed_hosts,
        headers=security_headers(app.csp_hashes()),
    )


def _add_callbacks(app: dash.Dash, room: Room) -> None:
    @app.callback(
        Output("page", "children"), Output("shown", "data"), Input("url", "href"), Input("again", "data")
    )
    async def page(url: str | None, _again: object) -> tuple[Any, Any]:
        return await room.page(url or "/"), url

    @app.callback(Input("shown", "data"), State("tab", "data"), prevent_initial_call=True)
    async def shown(url: str | None, tab: str) -> None:
        room.shown(tab, url)

    async def follow(tab: str, url: str | None) -> None:
        socket = dash.ctx.websocket
        if socket is None:  # no WebSocket: the browser polls
            return
        queue = socket._get_outbound_queue()  # noqa: SLF001 - Dash queues without a bound and tells nobody its length
        await room.serve(tab, url, socket, queue.async_q.qsize)

    # Dash starts a persistent callback without inputs again by itself when its socket is back.
    @app.callback(State("tab", "data"), State("shown", "data"), websocket=True, persistent=True)
    async def stream(tab: str, url: str | None) -> None:
        await follow(tab, url)

    # Asking anything over a lost socket makes Dash connect at once instead of after its growing pauses.
    @app.callback(
        Input("wake", "data"),
        State("tab", "data"),
        State("shown", "data"),
        websocket=True,
        persistent=True,
        prevent_initial_call=True,
    )
    async def wake(_wake: object, tab: str, url: str | None) -> None:
        await follow(tab, url)

    @app.callback(
        Input("poll", "n_intervals"), State("tab", "data"), State("shown", "data"), prevent_initial_call=True
    )
    async def poll(_count: object, tab: str, url: str | None) -> None:
        found = room.tab(tab)
        if found is None or found.live:
            return
        if found.url != url:
            found.shows(url)
        room.tell(found, lambda name, prop, value: dash.set_props(name, {prop: value}), via="poll")


def _add_browser_callbacks(app: dash.Dash) -> None:
    """What runs in the browser alone: assets/room.js and assets/chart.js."""

    def browser(name: str) -> ClientsideFunction:
        return ClientsideFunction("room", name)

    register: Any = app.clientside_callback  # it has no types
    register(browser("beat"), Output("beaten", "data"), Input("beat", "data"))
    register(browser("index"), Output("indexed", "data"), Input("index", "data"))
    register(
        browser("chart"),
        Output("chart", "figure"),
        Input("chart-data", "data"),
        Input("chart-tail", "data"),
        Input("chart-marks", "data"),
        Input("theme", "data"),
    )
    register(
        browser("zoom"), Output("zoomed", "data"), Input("chart", "relayoutData"), prevent_initial_call=True
    )


def _add_probes(server: FastAPI, plant: PlantView) -> None:
    async def alive() -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    async def ready() -> PlainTextResponse:
        return PlainTextResponse("ok\n") if plant.connected else PlainTextResponse("not ready\n", 503)

    async def session() -> JSONResponse:
        who = PRINCIPAL.get()
        return JSONResponse({"principal": who.principal, "role": who.role} if who else {})

    for path, answer in (("/livez", alive), ("/startupz", alive), ("/readyz", ready), ("/session", session)):
        server.add_api_route(path, answer, methods=["GET"], include_in_schema=False)


def security_headers(script_hashes: Sequence[str]) -> dict[str, str]:
    """Scripts only from here, by file or by hash; styles from here and inline, since charts need it."""
    policy = {
        "default-src": "'self'",
        "script-src": " ".join(("'self'", *script_hashes)),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "connect-src": "'self'",
        "worker-src": "'self'",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",  # with none, a form of our own would have the origin "null"
        "Cross-Origin-Opener-Policy": "same-origin",
    }
