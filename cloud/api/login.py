"""One-time login links over HTTP: the command line makes one, the control room's server redeems it."""

import math

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from cloud.api.access import CLI, UI
from cloud.api.examples import LOGIN_LINK, REDEEMED, example
from cloud.people.logic import Attempts
from cloud.people.port import LoginLinks
from shared.asgi_access import principal
from shared.clock import Clock
from shared.errors import NotFound
from shared.events import at
from shared.problems import problem


class Redemption(BaseModel):
    """The code of a link."""

    model_config = ConfigDict(extra="forbid")

    code: str = Field(min_length=1, max_length=200)


def login_router(links: LoginLinks | None, clock: Clock) -> APIRouter:
    """The endpoints; without `links` (no app database is set) they answer 503."""
    router = APIRouter()
    attempts = Attempts()

    @router.post("/v1/login-links", status_code=201, responses=example(LOGIN_LINK, 201))
    async def make_link(request: Request) -> Response:
        """Make a link that logs its holder in once, within ten minutes. For the command line only."""
        if principal(request) != CLI:
            return problem(403, "only the command line makes login links")
        if links is None:
            return _no_database()
        link = await links.make()
        expires = at(link.expires_us).isoformat().replace("+00:00", "Z")
        return JSONResponse({"code": link.code, "expires_at": expires}, 201)

    @router.post("/v1/login-links/redeem", responses=example(REDEEMED))
    async def redeem_link(request: Request, given: Redemption) -> Response:
        """Use a link up: who its holder is from now on. For the control room's server only."""
        if principal(request) != UI:
            return problem(403, "only the control room redeems login links")
        if links is None:
            return _no_database()
        if wait := attempts.wait(clock.monotonic()):
            return problem(429, "too many attempts: wait a minute", {"Retry-After": str(math.ceil(wait))})
        try:
            await links.redeem(given.code)
        except NotFound as error:
            attempts.fail(clock.monotonic())
            return problem(410, f"{error}: make another with industrialmind login-link")
        return JSONResponse(REDEEMED)

    return router


def _no_database() -> Response:
    return problem(503, "no login links here: api.app_url names no database")
