"""Which right each endpoint needs, read off its dependencies; and the same in the OpenAPI document."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from cloud.api.access import only
from shared.access import Right
from shared.asgi_access import OPEN_PATHS, needs

_ORDER: Final = tuple(Right)
SCHEME: Final = "bearer"
WEBSOCKET: Final = "WS"
_DOCUMENT: Final = "/openapi.json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method of a path: the highest right that it needs, if any, and the services that alone may ask it, if so."""

    method: str
    path: str
    right: Right | None
    services: tuple[str, ...]


def endpoints(app: FastAPI) -> Iterator[Endpoint]:
    """Every endpoint of the application but probes and the OpenAPI document."""
    for route in iter_route_contexts(app.routes):
        path = route.path or ""
        if path in OPEN_PATHS or path.startswith(_DOCUMENT):
            continue
        found = list(_guards(route.dependant))
        rights = [guard.right for guard in found if isinstance(guard, needs)]
        services = [who.name for guard in found if isinstance(guard, only) for who in guard.services]
        right = max(rights, key=_ORDER.index, default=None)
        for method in route.methods or {WEBSOCKET}:
            yield Endpoint(method, path, right, tuple(services))


def describe_rights(app: FastAPI, open_paths: Collection[str]) -> None:
    """Let the OpenAPI document say what each endpoint needs: a bearer token, and which right (`x-right`)."""
    made = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = made()
            found.setdefault("components", {})["securitySchemes"] = {
                SCHEME: {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "a session, an API token, a signed access token, or a service's own token",
                }
            }
            for endpoint in endpoints(app):
                operation = found["paths"].get(endpoint.path, {}).get(endpoint.method.lower())
                if operation is not None:
                    _describe(operation, endpoint, is_open=endpoint.path in open_paths)
            app.openapi_schema = found
        return app.openapi_schema

    setattr(app, "openapi", document)  # noqa: B010 - FastAPI's own way to change the document; it is a method to mypy


def _describe(operation: dict[str, Any], endpoint: Endpoint, *, is_open: bool) -> None:
    if is_open and endpoint.right is None:
        operation["security"] = []
        return
    operation["security"] = [{SCHEME: []}]
    said = ""
    if endpoint.right is not None:
        operation["x-right"] = endpoint.right.value
        said = f"Needs the right to {endpoint.right}."
    if endpoint.services:
        operation["x-services"] = list(endpoint.services)
        said = f"For {' and '.join(endpoint.services)} of this plant only."
    operation["description"] = f"{operation.get('description', '')}\n\n{said}".strip()


def _guards(dependant: Dependant | None) -> Iterator[needs | only]:
    """What a route's dependencies ask of a principal."""
    if dependant is None:
        return
    if isinstance(dependant.call, needs | only):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from _guards(inner)
