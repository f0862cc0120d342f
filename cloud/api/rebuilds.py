"""Rebuilding what this process keeps as a projection of the log: start it, and see how far it is."""

from collections import OrderedDict
from typing import Annotated, Final, Literal, Protocol

from fastapi import APIRouter, Depends, Header
from pydantic import BaseModel, ConfigDict

from shared.access import Right
from shared.asgi_access import needs
from shared.errors import Conflict
from shared.problems import documented

MAX_KEYS: Final = 100
"""Idempotency keys remembered; the oldest is forgotten."""


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
    begun: OrderedDict[str, str] = (
        OrderedDict()
    )  # as short-lived as what it is about: rebuilds end with the process

    @router.post(
        "/v1/rebuilds",
        status_code=202,
        dependencies=[Depends(needs(Right.ENGINEER))],
        responses=documented(409),
    )
    async def start(
        wanted: RebuildRequest,
        idempotency_key: Annotated[str, Header(max_length=100, pattern=r"^[!-~]*$")] = "",
    ) -> RebuildStatus:
        """Make a projection of this process anew from the log (`ledger`); what there is answers until it is done.

        Sent again under the same key, it does not begin again.
        """
        if (before := begun.get(idempotency_key)) is not None:
            if before != wanted.name:
                raise Conflict("this idempotency key was used for another rebuild")
            return rebuilds.status(before)
        status = rebuilds.start(wanted.name)
        if idempotency_key:
            begun[idempotency_key] = wanted.name
            while len(begun) > MAX_KEYS:
                begun.popitem(last=False)
        return status

    @router.get("/v1/rebuilds/{name}")
    async def look(name: str) -> RebuildStatus:
        """How far the last rebuild is."""
        return rebuilds.status(name)

    return router
