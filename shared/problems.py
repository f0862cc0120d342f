"""Errors as problem documents (RFC 9457): ours, and the framework's own."""

import math
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from shared.errors import Conflict, NotFound, Rejected, Unavailable

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that is being answered; empty outside of one."""
MEDIA_TYPE: Final = "application/problem+json"
ANYWHERE: Final = (400, 401, 403, 404, 405, 409, 413, 414, 421, 422, 429, 500, 503)
"""Refusals that any endpoint may give."""


class Problem(BaseModel):
    """A refusal, or an answer that failed."""

    type: str
    title: str
    status: int
    request_id: str = Field("", description="the id under which the service's log has the request")


def problem(status: int, title: str, headers: Mapping[str, str] | None = None) -> Response:
    """The document for an HTTP status."""
    body = {"type": "about:blank", "title": title, "status": status}
    if request_id := REQUEST_ID.get():
        body["request_id"] = request_id
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of an endpoint, or of all, that may be refused with these."""
    schema = Problem.model_json_schema()
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def add_errors(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""

    def answer(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
        async def answered(_: Request, error: Exception) -> Response:
            return problem(status, str(error))

        return answered

    @app.exception_handler(RequestValidationError)
    async def wrong_query(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return problem(422, f"{'.'.join(str(part) for part in first['loc'][1:])}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def wrong_path(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, error.detail, error.headers)

    app.add_exception_handler(NotFound, answer(404))
    app.add_exception_handler(Conflict, answer(409))
    app.add_exception_handler(Rejected, answer(422))

    @app.exception_handler(Unavailable)
    async def away(_: Request, error: Unavailable) -> Response:
        return problem(503, str(error), {"Retry-After": str(max(1, math.ceil(error.retry_after)))})
