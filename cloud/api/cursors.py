"""Where a page ended, as an opaque text that leads to the next one. Pure."""

import base64
import binascii
from typing import Any, Final

import orjson

from shared.errors import Rejected

MAX_CURSOR: Final = 4000


def cursor(kind: str, *place: Any) -> str:  # noqa: ANN401 - JSON
    """The text for a place in answers of a kind."""
    return base64.urlsafe_b64encode(orjson.dumps([kind, *place])).decode().rstrip("=")


def place(text: str, kind: str, shape: tuple[type, ...]) -> list[Any]:
    """The place behind a cursor, its parts of these types. Raises Rejected for what is none of this kind."""
    try:
        found = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError) as error:
        raise _foreign() from error
    fits = isinstance(found, list) and len(found) == 1 + len(shape) and found[0] == kind
    if not fits or not all(type(part) is wanted for part, wanted in zip(found[1:], shape, strict=True)):
        raise _foreign()
    return list(found[1:])


def _foreign() -> Rejected:
    return Rejected("cursor: it is none of this endpoint's: give an answer's next, unchanged")
