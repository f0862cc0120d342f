"""Errors as problem documents (RFC 9457): ours, and the framework's own."""

import math
from collections.abc import Callable, Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from shared.errors import Conflict, NotFound, Rejected, Unavailable


def problem(status: int, title: str, headers: Mapping[str, str] | None = None) -> Response:
    """The document for an HTTP status."""
    body = {"type": "about:blank", "title": title, "status": status}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def add_errors(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""

    def answer(status: int) -> Callable[[Request, Exception], Response]:
        return lambda _, error: problem(status, str(error))

    @app.exception_handler(RequestValidationError)
    def wrong_query(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return problem(422, f"{'.'.join(str(part) for part in first['loc'][1:])}: {first['msg']}")

    @app.exception_handler(HTTPException)
    def wrong_path(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, error.detail, error.headers)

    app.add_exception_handler(NotFound, answer(404))
    app.add_exception_handler(Conflict, answer(409))
    app.add_exception_handler(Rejected, answer(422))

    @app.exception_handler(Unavailable)
    def away(_: Request, error: Unavailable) -> Response:
        return problem(503, str(error), {"Retry-After": str(max(1, math.ceil(error.retry_after)))})
