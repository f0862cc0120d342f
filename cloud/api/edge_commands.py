"""Commands to edges over HTTP: restart, rebirth, interval, settings, maintenance mode, waveform now."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from cloud.api.assets import Maintainer, Reader
from cloud.api.changes import IdempotencyKey
from cloud.api.examples import example
from cloud.commands.port import Asked, EdgeCommands, Tracked
from shared.access import Right
from shared.asgi_access import needs
from shared.names import ID_PATTERN
from shared.problems import documented

MAX_LISTED: Final = 1000
RIGHTS: Final[Mapping[str, Right]] = {
    "restart": Right.ENGINEER,
    "interval": Right.ENGINEER,
    "settings": Right.ENGINEER,
    "rebirth": Right.MAINTAIN,
    "maintenance": Right.MAINTAIN,
    "waveform": Right.MAINTAIN,
}
"""What each kind of command needs; one that is not here needs the right to engineer."""

EdgeId = Annotated[str, Field(pattern=rf"^{ID_PATTERN}$")]
_COMMAND: Final = {
    "id": "cmd-0123456789abcdef",
    "edge": "edge-pump-01",
    "kind": "maintenance",
    "arguments": {"machine": "pump-01", "on": True, "minutes": 30},
    "by": "ada",
    "issued_at": "2026-01-01T00:00:00Z",
    "expires_at": "2026-01-01T00:05:00Z",
    "outcome": "done",
    "detail": "in maintenance until 00:30",
    "answered_at": "2026-01-01T00:00:01Z",
}
_WANTED: Final = Body(
    examples=[{"kind": "maintenance", "arguments": {"machine": "pump-01", "on": True, "minutes": 30}}]
)


class CommandRequest(BaseModel):
    """What the edge is to do. `expires_in_seconds`: refused if it receives it later; by its kind if not given."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(max_length=40)
    arguments: dict[str, Any] = Field(default_factory=dict, max_length=50)
    expires_in_seconds: float | None = Field(None, gt=0, allow_inf_nan=False)


class CommandAnswer(BaseModel):
    """A command. `outcome`: `open`, then as the edge answered: `done`, `refused`, `expired`, `interrupted`."""

    id: str
    edge: str
    kind: str
    arguments: dict[str, Any]
    by: str
    issued_at: datetime
    expires_at: datetime
    outcome: str
    detail: str
    answered_at: datetime | None


class CommandDone(BaseModel):
    """What a request came to. `position` in the topic `commands` shows it; `changed`: its key did not do it before."""

    command: CommandAnswer
    position: dict[str, int]
    changed: bool


class CommandList(BaseModel):
    """Commands, newest first, as `position` of the topic `commands` shows them."""

    commands: list[CommandAnswer]
    position: dict[str, int]


def edge_commands_router(commands: EdgeCommands) -> APIRouter:
    """The endpoints."""
    router = APIRouter()

    @router.post(
        "/v1/edges/{edge}/commands",
        status_code=201,
        responses=example({"command": _COMMAND, "position": {"0": 7}, "changed": True}, 201)
        | documented(409),
    )
    async def issue(
        edge: EdgeId,
        wanted: Annotated[CommandRequest, _WANTED],
        idempotency_key: IdempotencyKey,
        who: Maintainer,
        request: Request,
    ) -> CommandDone:
        """Ask an edge to do something. Restart, interval and settings are the engineer's."""
        needs(RIGHTS.get(wanted.kind, Right.ENGINEER)).allowed(request)
        asked = Asked(
            edge, wanted.kind, wanted.arguments, who.name, idempotency_key, wanted.expires_in_seconds
        )
        issued = await commands.issue(asked)
        return CommandDone(
            command=_answer(issued.command), position=dict(issued.position), changed=issued.changed
        )

    @router.get("/v1/commands", responses=example({"commands": [_COMMAND], "position": {"0": 8}}))
    async def list_commands(
        _: Reader,
        edge: Annotated[str, Query(max_length=40)] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 100,
    ) -> CommandList:
        """Commands to one edge or to all, newest first, with what became of them."""
        found, position = await commands.newest(edge, limit)
        return CommandList(commands=[_answer(one) for one in found], position=dict(position))

    @router.get("/v1/commands/{command}", responses=example(_COMMAND))
    async def one_command(command: Annotated[str, Field(max_length=40)], _: Reader) -> CommandAnswer:
        """One."""
        found, _position = await commands.one(command)
        return _answer(found)

    return router


def _answer(command: Tracked) -> CommandAnswer:
    return CommandAnswer(
        id=command.id,
        edge=command.edge,
        kind=command.kind,
        arguments=dict(command.arguments),
        by=command.by,
        issued_at=command.issued_at,
        expires_at=command.expires_at,
        outcome=command.outcome,
        detail=command.detail,
        answered_at=command.answered_at,
    )
