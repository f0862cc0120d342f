"""The live stream over WebSocket and as server-sent events: the same messages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, WebSocket
from fastapi.responses import Response, StreamingResponse
from starlette.websockets import WebSocketDisconnect

from cloud.api.examples import UPDATE_EVENT
from cloud.api.live import Broadcaster, Client, monotonic
from shared.errors import Unavailable
from shared.problems import problem

COMMENT_SECONDS: Final = 10.0
SEND_SECONDS: Final = 30.0
"""A client that takes nothing for so long is dropped."""
_GOING_AWAY: Final = 1001

Machines = Annotated[list[str], Query(description="of these machines; none: of all")]


_EVENTS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "server-sent events without end, a message of the live stream each",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": UPDATE_EVENT}},
    }
}


def live_router(live: Broadcaster) -> APIRouter:
    """`WS /v1/live` and `GET /v1/stream`."""
    router = APIRouter()

    @router.websocket("/v1/live")
    async def over_websocket(websocket: WebSocket, machine: Machines = []) -> None:  # noqa: B006 - FastAPI copies it
        """Snapshot, updates, heartbeats: JSON texts; what the client sends is read and ignored."""
        with ExitStack() as stack:
            try:
                client = stack.enter_context(live.join(machine))
            except Unavailable as error:
                await websocket.send_denial_response(problem(503, str(error)))
                return
            await websocket.accept()
            await _serve(websocket, client)

    @router.get("/v1/stream", response_class=StreamingResponse, responses=_EVENTS)
    async def as_events(machine: Machines = []) -> Response:  # noqa: B006 - FastAPI copies it
        """The messages of the live stream as server-sent events, for clients without WebSockets."""
        stack = ExitStack()
        client = stack.enter_context(live.join(machine))

        async def lines() -> AsyncIterator[bytes]:
            with stack:
                commented = monotonic()
                async for message in client.messages():
                    yield b"data: " + message + b"\n\n"
                    if monotonic() >= commented + COMMENT_SECONDS:
                        commented = monotonic()
                        yield b": still here\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream")

    return router


async def _serve(websocket: WebSocket, client: Client) -> None:
    """Send until the client goes, takes nothing for too long, or the stream ends."""
    sending = asyncio.create_task(_send(websocket, client), name="live send")
    hearing = asyncio.create_task(_hear(websocket), name="live receive")
    try:
        await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (sending, hearing):
            if task.done():
                task.result()
    finally:
        for task in (sending, hearing):
            task.cancel()
        await asyncio.gather(sending, hearing, return_exceptions=True)


async def _send(websocket: WebSocket, client: Client) -> None:
    try:
        async for message in client.messages():
            async with asyncio.timeout(SEND_SECONDS):
                await websocket.send_text(message.decode())
        await websocket.close(_GOING_AWAY)
    except (WebSocketDisconnect, TimeoutError):
        pass  # gone, or as good as gone


async def _hear(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
