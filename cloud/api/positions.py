"""Reading what a change made: `min_position` names a position of the log that an answer must count to.

A change's answer says its position; given back as `min_position`, the reading waits up to two seconds until what it
reads counts to there. If it does not by then, the answer is 202 with `Retry-After`: nothing is wrong, ask again.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Final

from fastapi import Query
from starlette.exceptions import HTTPException

from shared.clock import Clock
from shared.errors import Rejected
from shared.eventlog import Position

WAIT_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.02
_PART: Final = re.compile(r"([^,\s-]{1,40})-([0-9]{1,18})")

MinPosition = Annotated[
    str,
    Query(
        max_length=1000,
        description="a position that the answer must count to, PARTITION-OFFSET[,...], as a change answered it",
        examples=["0-17"],
    ),
]


class NotYet(HTTPException):
    """The reading does not count to the position yet: 202."""

    def __init__(self) -> None:
        super().__init__(
            202, "what this reads does not count to min_position yet: ask again", {"Retry-After": "1"}
        )


def parse_position(text: str) -> dict[str, int]:
    """`0-17,1-5` as a position; nothing is asked for by an empty text. Raises Rejected."""
    if not text:
        return {}
    found = [_PART.fullmatch(part) for part in text.split(",")]
    if not all(found):
        raise Rejected("min_position: give PARTITION-OFFSET, several with commas between")
    return {part[1]: int(part[2]) for part in found if part}


def position_text(position: Position) -> str:
    """The other way round."""
    return ",".join(f"{partition}-{offset}" for partition, offset in sorted(position.items()))


async def reached(wanted: Mapping[str, int], look: Callable[[], Awaitable[Position]], clock: Clock) -> None:
    """Return once `look` shows a position that counts to `wanted`. Raises NotYet, and what `look` raises."""
    if not wanted:
        return
    until = clock.monotonic() + WAIT_SECONDS
    while True:
        position = await look()
        if all(position.get(partition, 0) >= offset for partition, offset in wanted.items()):
            return
        if clock.monotonic() >= until:
            raise NotYet
        await clock.sleep(_LOOK_SECONDS)
