"""Logs: structlog to stderr, readable on a terminal and JSON elsewhere; data never goes there."""

import logging
import sys
from typing import Any

import structlog

from shared.errors import Misconfigured
from shared.settings import no_color


def configure(service: str, *, level: str = "info", json: bool | None = None) -> None:
    """Set up logging for this process. `json` defaults to whether stderr is not a terminal.

    Raises Misconfigured for a level that does not exist.
    """
    threshold = logging.getLevelNamesMapping().get(level.upper())
    if threshold is None:
        raise Misconfigured(f"log level {level!r} does not exist", hint="use debug, info, warning or error")
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=not no_color())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)
