"""What an HTTP answer of the data API, or of `who`, is to its caller: one of our errors, in the words of the problem document."""

from http import HTTPStatus

import orjson

from shared.errors import IndustrialMindError, NotFound, Rejected, Unavailable


def error_of(status: int, text: str, *, who: str = "the data API") -> IndustrialMindError:
    """The error for an HTTP status that is no success; `text` is the body, a problem document (RFC 9457) or not."""
    try:
        said = orjson.loads(text)["title"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        said = text[:300]
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(f"{who} answered: {said}")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return Unavailable(f"{who} answered {status}: {said}")
    return Rejected(f"{who} answered {status}: {said}")
