"""A parameter that is one is given once: of two that say different things none would be the right one to take."""

from collections.abc import Iterator
from typing import Any, Final, get_origin
from urllib.parse import unquote_plus

from fastapi.dependencies.models import Dependant
from starlette.requests import HTTPConnection

from shared.errors import Rejected

_LISTS: Final = (list, tuple, set, frozenset)


class Once:
    """A dependency of every endpoint. It raises Rejected for a query that repeats what is no list."""

    def __init__(self) -> None:
        self._lists: dict[str, frozenset[str]] = {}

    async def __call__(self, connection: HTTPConnection) -> None:
        """Look at the names alone."""
        query = connection.scope["query_string"].decode("latin-1")
        names = [unquote_plus(part.partition("=")[0]) for part in query.split("&") if part]
        if len(names) == len(set(names)):
            return
        route = connection.scope.get("route")
        allowed = self._allowed(route) if route is not None else frozenset()
        for name in names:
            if names.count(name) > 1 and name not in allowed:
                raise Rejected(f"{name[:40]}: give it once")

    def _allowed(self, route: Any) -> frozenset[str]:  # noqa: ANN401 - FastAPI's, of HTTP or of WebSockets
        """Names of the endpoint's list parameters."""
        found = self._lists.get(route.path)
        if found is None:
            found = frozenset(_lists(route.dependant))
            self._lists[route.path] = found
        return found


def _lists(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        if get_origin(field.field_info.annotation) in _LISTS:
            yield field.alias
    for inner in dependant.dependencies:
        yield from _lists(inner)
