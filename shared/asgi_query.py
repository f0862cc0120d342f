"""A query says what its endpoint knows: another name would be passed over in silence, a misspelt filter most of all.

And a parameter that is one is given once: of two that say different things none would be the right one to take.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, get_origin
from urllib.parse import unquote_plus

from fastapi.dependencies.models import Dependant
from starlette.requests import HTTPConnection

from shared.errors import Rejected

_LISTS: Final = (list, tuple, set, frozenset)


class KnownQuery:
    """A dependency of every endpoint. Raises Rejected: a name that is none of its own, or one twice that is no list."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, bool]] = {}

    async def __call__(self, connection: HTTPConnection) -> None:
        """Look at the names alone."""
        query = connection.scope["query_string"].decode("latin-1")
        route = connection.scope.get("route")
        if not query or route is None:
            return
        known = self._parameters(route, connection.scope.get("method", ""))
        seen: set[str] = set()
        for part in query.split("&"):
            if not part:
                continue
            name = unquote_plus(part.partition("=")[0])
            if name not in known:
                raise Rejected(f"{name[:40]}: no such parameter; {_there_are(known)}")
            if name in seen and not known[name]:
                raise Rejected(f"{name[:40]}: give it once")
            seen.add(name)

    def _parameters(self, route: Any, method: str) -> dict[str, bool]:  # noqa: ANN401 - FastAPI's, HTTP or WebSocket
        """The endpoint's query parameters, and whether each is a list."""
        key = f"{method} {route.path}"
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = dict(_parameters(route.dependant))
        return found


def _there_are(known: Mapping[str, bool]) -> str:
    return f"there are {', '.join(sorted(known))}" if known else "this takes none"


def _parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    for field in dependant.query_params:
        yield field.alias, get_origin(field.field_info.annotation) in _LISTS
    for inner in dependant.dependencies:
        yield from _parameters(inner)
