"""HTTP and WebSocket over uvicorn, within a service's own life: it stops when the service does."""

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp

from shared.errors import Misconfigured

GRACE_SECONDS = 5
BACKLOG = 2048


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    stop: asyncio.Event,
    *,
    section: str,
    what: str,
    limit_concurrency: int = 256,
) -> None:
    """Serve `app` until `stop`; signals stay with the service. Raises Misconfigured (port taken, no such address).

    `section` and `what` are for the error: whose port it is, and in which section of the settings.
    """
    listener = listen(host, port, section=section, what=what)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        limit_concurrency=limit_concurrency,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]), name="uvicorn")  # noqa: SLF001 - serve() would take the signals
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
        listener.close()


def listen(host: str, port: int, *, section: str, what: str) -> socket.socket:
    """A listening socket. Raises Misconfigured (port taken, no such address)."""
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG
        )
    except OSError as error:
        raise Misconfigured(
            f"{what} can't listen on {host} port {port}: {error.strerror or error}",
            hint=f"stop what holds the port, or set {section}.port and {section}.host",
        ) from error
    # Inherited by what it accepts. asyncio sets it only on sockets that name their protocol, which these do not, and
    # without it an answer's body waits up to 40 ms for the acknowledgement of its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
