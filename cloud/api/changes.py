"""What endpoints that change things share: the idempotency key, If-Match, and the position that an answer says."""

import re
from typing import Annotated, Final

from fastapi import FastAPI, Header, Request, Response
from starlette.exceptions import HTTPException

from cloud.assets.port import Stale
from shared.problems import problem

IdempotencyKey = Annotated[str, Header(min_length=1, max_length=100, pattern=r"^[!-~]+$")]
IfMatch = Annotated[
    str, Header(max_length=100, description="change it only at this revision: the ETag of an answer")
]
_TAG: Final = re.compile(r'"([0-9]{1,9})(-gzip)?"', re.ASCII)


def add_stale(app: FastAPI) -> None:
    """Answer a change of a revision that is not the newest any more with 412."""

    @app.exception_handler(Stale)
    async def stale(_: Request, error: Stale) -> Response:
        return problem(412, str(error))


def etag(revision: int) -> str:
    """The tag of a revision."""
    return f'"{revision}"'


def revision_of(if_match: str) -> int | None:
    """The revision that If-Match names; None for none and for `*`. Raises HTTPException (412) for a tag that is none."""
    if if_match.strip() in {"", "*"}:
        return None
    found = _TAG.fullmatch(if_match.strip())
    if found is None:
        raise HTTPException(412, "If-Match: this was never the tag of a revision")
    return int(found[1])
