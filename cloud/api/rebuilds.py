"""Rebuilding what this process keeps as a projection of the log: start it, and see how far it is."""

from typing import Literal, Protocol

from fastapi import APIRouter, Depends, status
from pydantic import BaseModel, ConfigDict

from shared.access import Right
from shared.asgi_access import needs


class RebuildRequest(BaseModel):
    """What is to be made anew."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str


class RebuildStatus(BaseModel):
    """How far it is: `done` of `total` records of the log. `why` it failed, if it did."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: Literal["idle", "running", "done", "failed"] = "idle"
    done: int = 0
    total: int = 0
    why: str = ""


class Rebuilds(Protocol):
    """The projections of this process."""

    def start(self, name: str) -> RebuildStatus:
        """Begin, unless it runs already. Raises NotFound (no such projection here)."""
        ...

    def status(self, name: str) -> RebuildStatus:
        """Of the last one since the process began. Raises NotFound."""
        ...


def rebuilds_router(rebuilds: Rebuilds) -> APIRouter:
    """The endpoints."""
    router = APIRouter()

    @router.post(
        "/v1/rebuilds", status_code=status.HTTP_202_ACCEPTED, dependencies=[Depends(needs(Right.ENGINEER))]
    )
    async def start(wanted: RebuildRequest) -> RebuildStatus:
        """Make a projection of this process anew from the log (`ledger`); what there is answers until it is done."""
        return rebuilds.start(wanted.name)

    @router.get("/v1/rebuilds/{name}")
    async def look(name: str) -> RebuildStatus:
        """How far the last rebuild is."""
        return rebuilds.status(name)

    return router
